// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/configuration"
)

// notReady is why a SelfHostedGateway is not ready, and what it is advised of; it is
// empty if it is ready.
func (p *plane) notReady(name string) (reason, message string, advice []string) {
	p.t.Helper()
	rec := p.call("GET", "/v1/selfhosted/"+name, p.admin, "")
	var r wire.Resource
	if err := json.Unmarshal(rec.Body.Bytes(), &r); err != nil || rec.Code != http.StatusOK {
		p.t.Fatalf("%d %s %v", rec.Code, rec.Body, err)
	}
	for _, c := range r.Status.Conditions {
		switch {
		case c.Type != "Ready":
			advice = append(advice, c.Reason)
		case !c.Status:
			reason, message = c.Reason, c.Message
		}
	}
	return reason, message, advice
}

// TestAGatewayThatGetsNothingIsNotReady has one that was connected.
func TestAGatewayThatGetsNothingIsNotReady(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	none := func(want string) {
		t.Helper()
		reason, message, advice := b.notReady("shop")
		if reason != want || want != "" && !strings.Contains(message, "postern") {
			t.Errorf("not ready for %q: %s, %v; want %q", reason, message, advice, want)
		}
	}
	none("")
	if _, _, advice := b.notReady("shop"); strings.Join(advice, " ") != "TokenNone" {
		t.Errorf("before it has a token: %v", advice)
	}
	made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"})
	if _, _, advice := b.notReady("shop"); len(advice) > 0 {
		t.Errorf("with a token: %v", advice)
	}
	s := b.connect(made.Value, configuration.HeaderInstance, "till-1")
	s.take(configuration.TypeDocument)
	none("")
	if rec := b.call("DELETE", "/v1/tokens/"+made.ID, b.admin, ""); rec.Code != http.StatusNoContent {
		t.Fatal(rec.Code, rec.Body)
	}
	b.eventually("it is not ready for want of a token", func() bool { reason, _, _ := b.notReady("shop"); return reason == "TokenNone" })
	none("TokenNone")

	again := b.connect(b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"}).Value, configuration.HeaderInstance, "till-1")
	again.take(configuration.TypeDocument)
	none("")
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	b.eventually("the end of the stream is shown", func() bool { is, _ := b.instances("shop"); return !is[0].Connected })
	none("") // it may come again in a moment
	b.later.Store(int64(4 * time.Minute))
	none("NotConnected")
}
