package gcp_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/daypass/daypass/target/cloud/cloudtest"
	"github.com/daypass/daypass/target/gcp"
)

// A policy that is written without the etag that it was read with takes the place of whatever is there by then.
func TestAPolicyIsNeverWrittenWithoutItsEtag(t *testing.T) {
	for _, etag := range []any{nil, "", 7, []any{"x"}} {
		r := newRig(t, cloudtest.Keys(t))
		written := false
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			iam := strings.HasSuffix(q.URL.Path, "/iam")
			written = written || iam && q.Method == http.MethodPut
			answer := httptest.NewRecorder()
			r.ServeHTTP(answer, q)
			text := answer.Body.Bytes()
			if iam {
				var policy map[string]any
				if err := json.Unmarshal(text, &policy); err != nil {
					t.Error(err)
				}
				policy["etag"] = etag
				text, _ = json.Marshal(policy) // of what JSON was read from
			}
			w.WriteHeader(answer.Code)
			_, _ = bytes.NewReader(text).WriteTo(w)
		}))
		t.Cleanup(server.Close)
		g := r.grant(leaseRights)
		if _, err := r.principals(server.URL, 0).Grant(t.Context(), g); err == nil || written {
			t.Errorf("etag %v: granted: %v, written: %t", etag, err, written)
		}
	}
}

// A member is ours by every byte of its address: teardown takes no other out of a policy.
func TestWhatOnlyLooksLikeALeasesAccountStaysBound(t *testing.T) {
	r := newRig(t, cloudtest.Keys(t))
	g := r.grant(leaseRights)
	name := "dp-" + cloudtest.Instance + "-" + g.Lease
	others := []string{
		"user:" + name + "@" + project + ".iam.gserviceaccount.com",
		"group:" + name + "@" + project + ".iam.gserviceaccount.com",
		"serviceAccount:" + name + "@other-project.iam.gserviceaccount.com",
		"serviceAccount:" + name + "@" + project + ".iam.gserviceaccount.com.example.com",
		"serviceAccount:dp-zzz777-" + g.Lease + "@" + project + ".iam.gserviceaccount.com", // another installation's
		"serviceAccount:" + manager,
	}
	for _, member := range others {
		if email, ok := strings.CutPrefix(member, "serviceAccount:"); ok {
			r.Account(email)
		}
		r.Bind("buckets/artifacts", viewer, member, "")
	}
	before := strings.Join(r.Members("buckets/artifacts"), "\n")
	at := r.principals(r.url, 0)
	if _, err := at.Grant(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if err := at.Revoke(t.Context(), g.Lease); err != nil {
		t.Fatal(err)
	}
	if now := strings.Join(r.Members("buckets/artifacts"), "\n"); now != before {
		t.Errorf("the policy was\n%s\nand is\n%s", before, now)
	}
	for lease, err := range at.Leases(t.Context()) {
		t.Errorf("it is listed as lease %q (%v)", lease, err)
	}
}

func TestNoRoleOfALeaseMayGiveRights(t *testing.T) {
	for _, role := range []string{
		"roles/iam.serviceAccountTokenCreator", "roles/iam.serviceAccountUser", "roles/iam.serviceAccountKeyAdmin", "roles/iam.securityAdmin",
		"roles/resourcemanager.projectIamAdmin", "roles/owner", "roles/iam.workloadIdentityUser",
	} {
		rights := gcp.Rights{PerLease: true, Bindings: []gcp.Binding{{On: "projects/" + project, Roles: []string{role}}}}
		if rights.Validate() == nil {
			t.Errorf("%s is taken", role)
		}
	}
	for _, on := range []string{"projects/acme-prod/../x", "projects/acme%2fprod", "buckets/a'b", "buckets/x?y", "folders/123", "projects/-", "buckets/artifacts\n"} {
		rights := gcp.Rights{PerLease: true, Bindings: []gcp.Binding{{On: on, Roles: []string{viewer}}}}
		if rights.Validate() == nil {
			t.Errorf("%q is a resource", on)
		}
	}
}
