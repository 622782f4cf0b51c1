// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package token

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/model"
)

var now = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

// TestRoleTableIsComplete states every role's answer to every operation.
func TestRoleTableIsComplete(t *testing.T) {
	table := map[Role]string{
		//           read ask publish administer grant join configure
		Admin:      "yes yes yes yes yes yes yes",
		Publisher:  "yes yes yes no no no no",
		Viewer:     "yes yes no no no no no",
		Host:       "no no no no no yes no",
		SelfHosted: "no no no no no no yes",
	}
	if len(table) != len(Roles) || len(allowed) != len(Roles) {
		t.Fatalf("%d roles in the table, %d decided, %d exist", len(table), len(allowed), len(Roles))
	}
	for _, r := range Roles {
		want := strings.Fields(table[r])
		if len(want) != len(Operations) {
			t.Fatalf("%s: %d answers for %d operations", r, len(want), len(Operations))
		}
		for i, o := range Operations {
			if got := r.Allows(o); got != (want[i] == "yes") {
				t.Errorf("%s may %s: got %v, want %s", r, o, got, want[i])
			}
		}
	}
	if Role("root").Allows(Read) {
		t.Error("an unknown role may read")
	}
}

func TestPublisherWritesOnlyWhatBelongsToAPIs(t *testing.T) {
	var got []model.Kind
	for _, k := range model.Kinds {
		if Publisher.Allows(Writing(k)) {
			got = append(got, k)
		}
	}
	want := []model.Kind{model.KindBackend, model.KindAPI, model.KindDeployment, model.KindStage, model.KindProduct, model.KindSubscription}
	if len(got) != len(want) {
		t.Fatalf("a publisher may write %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("a publisher may write %v, want %v", got, want)
		}
	}
}

func TestTokenMatchesItselfAlone(t *testing.T) {
	a, value, err := New(Request{Role: Admin}, now)
	if err != nil {
		t.Fatal(err)
	}
	b, other, err := New(Request{Role: Admin}, now)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Matches(value.Reveal(), now) {
		t.Error("a token does not match itself")
	}
	if a.Matches(other.Reveal(), now) || b.Matches(value.Reveal(), now) {
		t.Error("a token matches another")
	}
	if id, ok := IDOf(value.Reveal()); !ok || id != a.ID {
		t.Errorf("IDOf gives %q, %v; want %q", id, ok, a.ID)
	}
	for _, bad := range []string{"", "postern_", "postern_0011223344556677_short", strings.TrimPrefix(value.Reveal(), Prefix), value.Reveal() + "x"} {
		if _, ok := IDOf(bad); ok {
			t.Errorf("%q has the form of a token", bad)
		}
	}
}

func TestWhatIsKeptDoesNotHoldTheToken(t *testing.T) {
	a, value, err := New(Request{Role: Viewer}, now)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	secret := value.Reveal()[len(Prefix)+2*idBytes+1:]
	if strings.Contains(string(kept), secret) {
		t.Error("the secret part is kept")
	}
}

func TestExpiredTokenDoesNotMatch(t *testing.T) {
	a, value, err := New(Request{Role: Viewer, Lifetime: time.Hour}, now)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Matches(value.Reveal(), now.Add(time.Hour-time.Second)) {
		t.Error("it ends too early")
	}
	if a.Matches(value.Reveal(), now.Add(time.Hour)) {
		t.Error("it is valid past its end")
	}
}

func TestBoundTokenServesItsSubjectAlone(t *testing.T) {
	a, _, err := New(Request{Role: Host, Subject: "host/laptop"}, now)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Allows(Join, "host/laptop") {
		t.Error("it may not join as its own Host")
	}
	for _, subject := range []string{"host/other", "link/laptop", ""} {
		if a.Allows(Join, subject) {
			t.Errorf("it may join as %q", subject)
		}
	}
	if a.Allows(Read, "host/laptop") {
		t.Error("it may read")
	}
}

func TestTokenRequestThatMakesNoSenseIsRefused(t *testing.T) {
	for name, r := range map[string]Request{
		"unknown role":       {Role: "root"},
		"subject of a admin": {Role: Admin, Subject: "host/a"},
		"host, no subject":   {Role: Host},
		"host, bad subject":  {Role: Host, Subject: "selfhosted/a"},
		"selfhosted, host":   {Role: SelfHosted, Subject: "host/a"},
		"negative lifetime":  {Role: Admin, Lifetime: -1},
		"long comment":       {Role: Admin, Comment: strings.Repeat("x", 257)},
	} {
		if _, _, err := New(r, now); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestGatewayTokensOfOneMinuteAreTwo(t *testing.T) {
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 1, 12, 0, 10, 0, time.UTC)
	ids := map[string]bool{}
	for range 2 {
		made, value, err := NewGateway(Request{Role: SelfHosted, Subject: "selfhosted/edge"}, keys, Primary, now)
		if err != nil {
			t.Fatal(err)
		}
		shown, err := ParseGateway(value.Reveal())
		if err != nil || keys.SignedWith(shown) != Primary || !made.Records(shown) {
			t.Errorf("%v: %+v is not good", err, shown)
		}
		ids[made.ID] = true
		_, proof, _ := strings.Cut(value.Reveal(), "&202603311200&")
		if len(proof) != 88 {
			t.Errorf("the signature %q is not as long as an HMAC-SHA512", proof)
		}
		for _, wrong := range []string{"", "AAAA", proof[:87], "A" + proof[1:], "B" + proof[1:], proof[:84] + "AAA=", proof + "AAAA"} {
			if wrong == proof {
				continue
			}
			shown, err := ParseGateway("GatewayKey edge&202603311200&" + wrong)
			if err == nil && keys.SignedWith(shown) != "" {
				t.Errorf("the signature %q is taken", wrong)
			}
		}
	}
	if len(ids) != 2 {
		t.Errorf("both tokens are %v: to revoke one ends the other, and to make one brings back the other", ids)
	}
}
