package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/client/spiffe"
	"github.com/daypass/daypass/secret"
)

// The variables that say which SVID of the Workload API is the evidence, and of which of the workload's identities.
const spiffeKind, spiffeID = "DAYPASS_SPIFFE", "DAYPASS_SPIFFE_ID"

// namedSPIFFE is the Workload API where DAYPASS_SPIFFE says that its SVIDs are the evidence. What cannot be right is said when
// the evidence is asked for, as of every place that was named.
func namedSPIFFE(w Where) (Evidence, Place) {
	kind := w.Getenv(spiffeKind)
	wrong := fmt.Errorf("%s is jwt or x509, not %.40q", spiffeKind, kind)
	switch kind {
	case "":
		return Evidence{}, Place{Name: spiffeKind, Found: "not set"}
	case "jwt", "x509":
		evidence, place := workloadAPI(w)
		if place.Name == "" {
			return evidence, place
		}
		wrong = fmt.Errorf("%s asks for an SVID; %s: %s", spiffeKind, place.Name, place.Found)
	}
	refuse := func(context.Context) (secret.Text, error) { return secret.Text{}, wrong }
	return Evidence{TokenSource: client.TokenFunc(refuse), Origin: spiffeKind}, Place{}
}

// workloadAPI is the Workload API of an agent of SPIFFE, such as that of SPIRE. It is late among the places, since a node may
// have an agent for other things.
func workloadAPI(w Where) (Evidence, Place) {
	endpoint := w.Getenv(spiffe.EndpointVariable)
	place := Place{Name: spiffe.EndpointVariable + " (SPIFFE)", Found: "not set"}
	if endpoint == "" {
		return Evidence{}, place
	}
	workload, err := spiffe.New(spiffe.Options{Endpoint: endpoint, Audience: audience(w), ID: w.Getenv(spiffeID), Now: time.Now})
	if err != nil {
		place.Found = err.Error()
		return Evidence{}, place
	}
	origin := "the SPIFFE Workload API at " + endpoint
	if w.Getenv(spiffeKind) == "x509" {
		return Evidence{Certificate: workload, Origin: origin}, Place{}
	}
	return Evidence{TokenSource: workload, Origin: origin}, Place{}
}
