package testissuer

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"net/http"
	"time"
)

// ServeHTTP answers:
//
//	GET  /.well-known/openid-configuration
//	GET  /.well-known/jwks
//	GET  /token?audience=…&repository=…&ref=…&ttl=…   a token, the way GitHub Actions hands it to a job
//	POST /control/{rotate|remove|down|up}             for tests of the process form; remove takes ?kid=
//
// The last two want the request token as bearer token.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/token" && r.Method == http.MethodGet:
		if i.authorized(w, r) {
			i.serveToken(w, r)
		}
	case r.Method == http.MethodPost:
		if i.authorized(w, r) {
			i.serveControl(w, r)
		}
	default:
		i.serveDocument(w, r)
	}
}

func (i *Issuer) authorized(w http.ResponseWriter, r *http.Request) bool {
	got := r.Header.Get("Authorization")
	for _, scheme := range []string{"bearer ", "Bearer "} { // GitHub's own clients write both
		if subtle.ConstantTimeCompare([]byte(got), []byte(scheme+i.requestToken)) == 1 {
			return true
		}
	}
	http.Error(w, "the request token is missing or wrong", http.StatusUnauthorized)
	return false
}

func (i *Issuer) serveDocument(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	faults := i.faults
	var document []byte
	found, isKeys := true, false
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		i.fetches.Discovery++
		if document = faults.Discovery; document == nil {
			document = i.discovery()
		}
	case "/.well-known/jwks":
		i.fetches.Keys++
		isKeys = true
		if document = faults.KeySet; document == nil {
			document = i.keySet()
		}
	default:
		i.fetches.Other++
		found = false
	}
	i.mu.Unlock()
	if faults.Hang != nil {
		select {
		case <-faults.Hang:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case faults.Down:
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	case !found:
		http.NotFound(w, r)
		return
	case isKeys && faults.Redirect != "":
		http.Redirect(w, r, faults.Redirect, http.StatusFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if isKeys && faults.Cache != "" {
		w.Header().Set("Cache-Control", faults.Cache)
	}
	w.Write(document)
	if faults.Oversized {
		blank := bytes.Repeat([]byte(" "), 64<<10) // white space after the document: valid JSON still
		for range 256 {
			if _, err := w.Write(blank); err != nil {
				return
			}
		}
	}
}

// maxTTL bounds what /token signs for.
const maxTTL = 24 * time.Hour

func (i *Issuer) serveToken(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	ttl := 5 * time.Minute
	if text := query.Get("ttl"); text != "" {
		var err error
		if ttl, err = time.ParseDuration(text); err != nil || ttl <= 0 || ttl > maxTTL {
			http.Error(w, "ttl is not a duration such as 5m", http.StatusBadRequest)
			return
		}
	}
	claims := i.GitHub(Run{
		Audience: query.Get("audience"), Repository: query.Get("repository"), Ref: query.Get("ref"),
		SHA: query.Get("sha"), Environment: query.Get("environment"), Event: query.Get("event_name"),
		Actor: query.Get("actor"), Workflow: query.Get("workflow"), RunID: query.Get("run_id"),
		RunAttempt: query.Get("run_attempt"),
	})
	if subject := query.Get("sub"); subject != "" { // a generic issuer's token
		claims = map[string]any{"sub": subject, "aud": query.Get("audience")}
	}
	claims["exp"] = i.now().Add(ttl).Unix()
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(encode(map[string]any{"value": i.Token(claims)}))
}

func (i *Issuer) serveControl(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/control/rotate":
		algorithm := r.URL.Query().Get("alg")
		if algorithm == "" {
			algorithm = i.Key().Algorithm
		}
		key, err := i.Rotate(algorithm)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, key.ID)
	case "/control/remove":
		i.Remove(r.URL.Query().Get("kid"))
	case "/control/down":
		i.SetFaults(Faults{Down: true})
	case "/control/up":
		i.SetFaults(Faults{})
	default:
		http.NotFound(w, r)
	}
}
