package httpapi

import (
	"encoding/json"
	"errors"
	"maps"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/delegation"
	"github.com/daypass/daypass/internal/oauth"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
)

// errEncoding stands for the encoder's own error, which may quote what it could not encode.
var errEncoding = errors.New("a value has no JSON")

// reveal is the one place where secrets become bytes for the wire.
func reveal(a broker.Acquired, view *admission.View) api.Acquired {
	credential := api.Credential{Type: a.Credential.Type, Fields: map[string]any{}}
	maps.Copy(credential.Fields, a.Credential.Attributes)
	for name, text := range a.Credential.Secrets {
		credential.Fields[name] = text.Reveal()
	}
	return api.Acquired{
		Lease:      wireLease(a.Lease, view),
		LeaseToken: a.Token.Reveal(),
		Credential: credential,
		Receipt:    a.Receipt,
		Clamped:    a.Clamped,
	}
}

// leaseAnswer is a lease as the token endpoint gives it. Its token is that of the credential where the target gives
// one; else it is the lease token, which is for no requests but those about the lease.
func leaseAnswer(a broker.Acquired, view *admission.View, now time.Time) api.TokenAnswer {
	all := reveal(a, view)
	answer := api.TokenAnswer{
		AccessToken: all.LeaseToken, IssuedType: api.TokenLease, TokenType: "N_A", ExpiresIn: seconds(a.Lease.ExpiresAt.Sub(now)),
		Lease: &all.Lease, LeaseToken: all.LeaseToken, Credential: &all.Credential, Receipt: all.Receipt, Clamped: all.Clamped,
	}
	for name, issued := range map[string]string{"token": oauth.TypeJWT, "access_token": oauth.TypeAccess} {
		if text, ok := a.Credential.Secrets[name]; ok {
			answer.AccessToken, answer.IssuedType, answer.TokenType = text.Reveal(), issued, accesstoken.SchemeBearer
		}
	}
	return answer
}

// wireLease is a lease for the wire. Whether it may be shared is what its role says now, by view: a role that
// stops sharing stops at once, also for leases that live.
func wireLease(l store.Lease, view *admission.View) api.Lease {
	return api.Lease{
		ID:             string(l.ID),
		Role:           l.Role,
		Target:         l.Target,
		Principal:      l.Issuer + ":" + l.Subject,
		Actors:         actorNames(l.Actors(), view),
		State:          string(l.State),
		Reason:         string(l.Reason),
		CreatedAt:      api.At(l.CreatedAt),
		ExpiresAt:      api.At(l.ExpiresAt),
		RenewableUntil: api.At(l.RenewableUntil),
		Revocation:     l.Revocation,
		RevokedAt:      maybe(l.RevokedAt),
		DecisionID:     l.Decision,
		RunID:          l.Run,
		Share:          string(roleShare(view, l.Role)),
	}
}

// actorNames names who acts, by the names that their issuers have now.
func actorNames(chain []delegation.Actor, view *admission.View) (names []string) {
	for _, actor := range chain {
		issuer := actor.IssuerURL
		if view != nil {
			issuer = view.NameOf(issuer)
		}
		names = append(names, issuer+":"+actor.Subject)
	}
	return names
}

// roleShare is what a role says of sharing; a role that is gone says nothing.
func roleShare(view *admission.View, role string) access.Share {
	if view == nil {
		return access.ShareNone
	}
	return view.Access.Roles[role].Share
}

// maybe is a time that may not have come.
func maybe(t time.Time) *api.Time {
	if t.IsZero() {
		return nil
	}
	at := api.At(t)
	return &at
}

func wireLock(k store.Lock) api.Lock {
	match := api.Match{Role: k.Role, Target: k.Target, Lease: string(k.Lease)}
	issuer := k.Issuer
	if issuer == "" {
		issuer = k.IssuerURL
	}
	if k.Subject != "" {
		match.Principal = issuer + ":" + k.Subject
	} else {
		match.Issuer = issuer
	}
	return api.Lock{
		ID:        k.ID,
		Match:     match,
		Reason:    k.Reason,
		CreatedAt: api.At(k.CreatedAt),
		CreatedBy: k.CreatedBy,
		ExpiresAt: maybe(k.ExpiresAt),
		LiftedAt:  maybe(k.LiftedAt),
		Hits:      k.Hits,
	}
}

func wireDecision(d store.Decision, view *admission.View) (api.Decision, error) {
	out := api.Decision{
		ID:        d.ID,
		At:        api.At(d.At),
		Revision:  d.Revision,
		Principal: d.Issuer + ":" + d.Subject,
		Action:    d.Action,
		Resource:  d.Resource,
		Outcome:   d.Outcome,
		Input:     json.RawMessage(d.Input),
		Count:     d.Count,
		Lease:     d.Lease,
	}
	if len(d.Input) == 0 {
		out.Input = json.RawMessage("null")
	} else if asked, err := policy.Recall(d.Input); err == nil {
		out.Actors = actorNames(delegation.Chain(asked.Principal.Claims, asked.Principal.IssuerURL), view)
	}
	return out, json.Unmarshal(d.Reasons, &out.Reasons)
}

func wireRevision(r store.Revision, active string, notes []string) api.Revision {
	return api.Revision{
		ID:          r.ID,
		CreatedAt:   api.At(r.CreatedAt),
		CreatedBy:   r.CreatedBy,
		Active:      r.ID == active,
		ActivatedAt: maybe(r.ActivatedAt),
		Notes:       notes,
	}
}
