// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/configuration"
	"postern.dev/postern/control/token"
	"postern.dev/postern/internal/exposition"
	"postern.dev/postern/model"
)

// metrics are the samples that /metrics shows, by name and labels.
func (p *plane) metrics() map[string]string {
	p.t.Helper()
	rec := p.call("GET", "/metrics", p.token(token.Viewer, ""), "")
	if rec.Code != http.StatusOK || rec.Header().Get("Content-Type") != exposition.ContentType {
		p.t.Fatalf("%d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	out := map[string]string{}
	for line := range strings.Lines(rec.Body.String()) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if _, twice := out[line[:i]]; twice {
			p.t.Errorf("%s stands twice", line[:i])
		}
		out[line[:i]] = line[i+1:]
	}
	return out
}

func TestMetricsTellOfEveryGateway(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"})
	s := b.connect(made.Value, configuration.HeaderInstance, "till-1")
	s.take(configuration.TypeDocument)
	s.ack()
	const hush = "no way to 10.0.0.7"
	s.send(&configuration.Frame{Type: configuration.TypeHeartbeat, Heartbeat: &configuration.Heartbeat{
		Version: `v"1`, Revision: s.doc.Revision, Hash: s.doc.Hash(), Age: 7, LastError: hush,
	}})
	const till = `{gateway="shop",instance="till-1"}`
	b.eventually("the heartbeat counts", func() bool { return b.metrics()["postern_selfhosted_heartbeats_total"+till] == "1" })
	got := b.metrics()
	f := func(name, want string) {
		t.Helper()
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	f(`postern_selfhosted_streams{gateway="shop"}`, "1")
	f(`postern_selfhosted_assigned_revision{gateway="bank"}`, "0")
	f("postern_selfhosted_connected"+till, "1")
	f("postern_selfhosted_offline"+till, "0")
	f("postern_selfhosted_failing"+till, "0") // it serves what it is assigned
	f("postern_selfhosted_configuration_current"+till, "1")
	f("postern_selfhosted_configuration_age_seconds"+till, "7")
	f("postern_selfhosted_configuration_revision"+till, fmt.Sprint(s.doc.Revision))
	f("postern_selfhosted_credential_expiry_timestamp_seconds"+till, fmt.Sprint(float64(made.Expires.Unix())))
	f(`postern_selfhosted_instance_info{endpoint="gw.management.postern.internal:443",gateway="shop",instance="till-1",protocol="v2",version="v\"1"}`, "1")
	for name := range got {
		if strings.Contains(name, hush) {
			t.Errorf("%s: what gateways tell is no label", name)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	b.eventually("the end of the stream is shown", func() bool { return b.metrics()["postern_selfhosted_connected"+till] == "0" })
	b.later.Store(int64(10 * time.Minute))
	got = b.metrics()
	f("postern_selfhosted_offline"+till, "1")
	if age := got["postern_selfhosted_configuration_age_seconds"+till]; len(age) != 3 {
		t.Errorf("after ten minutes what it serves is %s s old", age)
	}
}

func TestAnEndpointIsANameOfTheGatewayOrNone(t *testing.T) {
	for host, want := range map[string]string{
		"gw.configuration.x":        "gw.configuration.x:443",
		"GW.management.x.:3443":     "gw.management.x:3443",
		"gw.management.x:no number": "gw.management.x:443",
		"127.0.0.1:3443":            "address",
		"evil.example:1":            "address",
		"":                          "address",
	} {
		if got := endpointOf(host, "x"); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}

func TestMetricsAskForAToken(t *testing.T) {
	p := newPlane(t)
	if rec := p.call("GET", "/metrics", model.Secret{}, ""); rec.Code != http.StatusUnauthorized {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}
