package server

import (
	"time"

	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/internal/accesstoken"
)

// accessTokens makes what gives workloads access tokens for their evidence. The key of the nonces comes from the
// master key, so that all servers of a store take each other's nonces.
func (s *Server) accessTokens() (*accesstoken.Tokens, error) {
	key, err := s.key.Derive("dpop-nonces")
	if err != nil {
		return nil, err
	}
	nonces := s.cfg.OAuth.Nonce != "off"
	return accesstoken.New(accesstoken.Config{
		Issuer:   s.issuer,
		Audience: s.url,
		TTL:      time.Duration(s.cfg.OAuth.AccessTokenTTL),
		Proofs:   dpop.NewVerifier(dpop.Config{Key: key, Nonce: nonces, Now: time.Now}),
		Nonces:   nonces,
		Now:      time.Now,
	}), nil
}
