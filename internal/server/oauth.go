package server

import (
	"time"

	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/issuer"
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

func (c *Config) checkOAuth(wrong report) {
	if ttl := time.Duration(c.OAuth.AccessTokenTTL); ttl < time.Minute || ttl > issuer.MaxTTL {
		wrong("oauth.access_token_ttl", "access tokens live for a minute at least and a day at most", "write a period such as 1h")
	}
	if c.OAuth.Nonce != "require" && c.OAuth.Nonce != "off" {
		wrong("oauth.nonce", "there is no such setting of nonces", "write require or off")
	}
}
