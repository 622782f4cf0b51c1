// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/configuration"
	"postern.dev/postern/explain/answer"
)

func TestAccessIsHowGoodTokensAre(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	if a := b.Access("shop"); len(a.Credentials) > 0 || a.Made || a.Trouble != "" {
		t.Errorf("before any token: %+v", a)
	}
	made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop", Key: "secondary"})
	b.gatewayToken(wire.NewToken{Subject: "selfhosted/bank"})
	s := b.connect(made.Value)
	s.take(configuration.TypeDocument)
	want := answer.Credential{ID: made.ID, Key: "secondary", Expires: made.Expires, Used: true}
	f := func(after time.Duration, state answer.CredentialState) {
		t.Helper()
		b.later.Store(int64(after))
		want.State = state
		a := b.Access("shop")
		if len(a.Credentials) == 1 {
			a.Credentials[0].Used = want.Used // who uses it goes with the time
		}
		if len(a.Credentials) != 1 || a.Credentials[0] != want || !a.Made {
			t.Errorf("after %v: %+v, want %+v", after, a, want)
		}
		if text := fmt.Sprintf("%+v", a); strings.Contains(text, strings.Split(made.Value, "&")[2]) {
			t.Error("a secret shows")
		}
	}
	if a := b.Access("shop"); len(a.Credentials) != 1 || !a.Credentials[0].Used {
		t.Errorf("its use is not seen: %+v", a)
	}
	f(0, answer.CredentialGood)
	f(25*24*time.Hour, answer.CredentialEnding)
	f(31*24*time.Hour, answer.CredentialEnded)
	b.later.Store(0)
	b.call("DELETE", "/v1/tokens/"+made.ID, b.admin, "")
	if a := b.Access("shop"); len(a.Credentials) > 0 || !a.Made {
		t.Errorf("once it is revoked: %+v", a)
	}
	b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop", Enrol: true})
	if a := b.Access("shop"); len(a.Credentials) != 1 || a.Credentials[0].Key != "enrolment" {
		t.Errorf("enrolment: %+v", a)
	}
	b.call("DELETE", "/v1/selfhosted/shop", b.admin, "")
	b.apply(sites)
	if a := b.Access("shop"); len(a.Credentials) > 0 || a.Made {
		t.Errorf("of another with its name: %+v", a)
	}
}
