// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/snapshot"
)

func TestTheStatusPathAnswersUnderTheOwnNameAlone(t *testing.T) {
	w := newWorld(t)
	for _, x := range []struct {
		name, host, method string
		at                 *snapshot.Endpoint
		closed             bool
		ok                 bool
		code               string
	}{
		{name: "on the public address", host: w.g.Host, ok: true, code: "listen/accepted"},
		{name: "HEAD", host: w.g.Host, method: "HEAD", ok: true, code: "listen/accepted"},
		{name: "at an Endpoint", host: w.g.Host, at: w.corp, ok: true, code: "listen/accepted"},
		{name: "POST", host: w.g.Host, method: "POST", code: "api/id-unknown"},
		{name: "an API's name", host: w.pub.Host, code: "stage/missing"},
		{name: "public access off", host: w.g.Host, closed: true, code: "listen/public-access-off"},
		{name: "public access off, at an Endpoint", host: w.g.Host, at: w.corp, closed: true, ok: true, code: "listen/accepted"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w.g.PublicAccess = !x.closed
			method := x.method
			if method == "" {
				method = "GET"
			}
			v := request.Judge(w.Snapshot, w.at(x.at, method, x.host, request.StatusPath), false)
			if v.Status != x.ok || v.Allowed != x.ok || v.Code() != x.code || x.ok && (v.Response.Status != 200 || v.Response.Body != "") {
				t.Errorf("%v %v %s %+v", v.Status, v.Allowed, v.Code(), v.Response)
			}
		})
	}
}

func TestADomainMayRequireACertificateOfItsCallers(t *testing.T) {
	w := newWorld(t)
	const name = "a.shop.example"
	shown := &request.ClientCert{Domain: w.shop.Name, Subject: "CN=partner,O=Example"}
	for _, x := range []struct {
		name     string
		required bool
		with     func(*request.Arrival)
		code     string
		symptom  request.Symptom
		status   int
	}{
		{name: "shown", required: true, with: func(a *request.Arrival) { a.ClientCert = shown }, code: "policy/absent"},
		{name: "not shown, and asked about", required: true, with: func(a *request.Arrival) { a.Verify = true }, code: "tls/client-cert", symptom: request.Handshake},
		{name: "no longer shown on an old connection", required: true, with: func(*request.Arrival) {}, code: "tls/client-cert", status: 403},
		{name: "of another Domain", required: true, with: func(a *request.Arrival) { a.ClientCert = &request.ClientCert{Domain: "b.example"} }, code: "tls/client-cert", status: 403},
		{name: "the handshake named another", required: true, with: func(a *request.Arrival) { a.SNI, a.Verify = w.g.Host, true }, code: "tls/client-cert", status: 403},
		{name: "in clear", required: true, with: func(a *request.Arrival) { a.TLS, a.SNI = false, "" }, code: "tls/client-cert", status: 403},
		{name: "another name of the wildcard", required: true, with: func(a *request.Arrival) { a.ClientCert, a.Host = shown, "b.shop.example:443" }, code: "policy/absent"},
		{name: "optional", with: func(*request.Arrival) {}, code: "policy/absent"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w.shop.ClientCA = &snapshot.ClientCA{Required: x.required}
			a := w.at(nil, "GET", name, "/pets")
			x.with(a)
			v := request.Judge(w.Snapshot, a, false)
			allowed := x.code == "policy/absent"
			if v.Allowed != allowed || v.Symptom != x.symptom || v.Response.Status != x.status || !allowed && v.Code() != x.code {
				t.Errorf("%v %s %v %+v", v.Allowed, codes(&v), v.Symptom, v.Response)
			}
			if every := request.Judge(w.Snapshot, a, true); every.Allowed != allowed || !allowed && every.Code() != x.code {
				t.Errorf("every: %s", codes(&every))
			}
		})
	}
}

func TestAnAPINamedByIDDoesNotOpenADomainThatRequiresACertificate(t *testing.T) {
	w := newWorld(t)
	w.vip.ClientCA = &snapshot.ClientCA{Required: true}
	a := w.at(w.corp, "GET", w.corp.Host, "/prod/pets")
	a.Host, a.APIID, a.HasAPIID = w.vip.Name, privID, true
	if v := request.Judge(w.Snapshot, a, false); v.Code() != "tls/client-cert" || v.Response.Status != 403 {
		t.Error(codes(&v))
	}
}

func TestPoliciesSeeTheCertificateOfTheirOwnDomain(t *testing.T) {
	w := newWorld(t)
	w.vip.ClientCA = &snapshot.ClientCA{}
	w.vip.Policy = policy(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*",
		"Condition":{"StringEquals":{"postern:ClientCertSubject":"CN=partner"}}}]}`, "")
	for cert, allowed := range map[request.ClientCert]bool{
		{Domain: w.vip.Name, Subject: "CN=partner"}:  true,
		{Domain: w.vip.Name, Subject: "CN=other"}:    false,
		{Domain: "b.example", Subject: "CN=partner"}: false,
		{}: false,
	} {
		a := w.at(w.corp, "GET", w.vip.Name, "/o/pets")
		if a.ClientCert = &cert; cert.Domain == "" {
			a.ClientCert = nil
		}
		if v := request.Judge(w.Snapshot, a, false); v.Allowed != allowed {
			t.Errorf("%v: %s", cert, codes(&v))
		}
	}
}

func TestWhomADomainsPolicyRefusesLearnsNothingOfOperations(t *testing.T) {
	w := newWorld(t)
	w.vip.Policy = policy(t, noMatch, "")
	for _, path := range []string{"/o/pets", "/o/no-such-thing"} {
		v := request.Judge(w.Snapshot, w.at(w.corp, "GET", w.vip.Name, path), false)
		if v.Code() != "policy/no-allow" || v.Response.Body != forbidden {
			t.Errorf("%s: %s %s", path, codes(&v), v.Response.Body)
		}
	}
}

// published gives the Gateway of a world addresses and ports.
func published(w *world) {
	w.g.Public = []netip.Addr{netip.MustParseAddr("198.18.0.16")}
	w.g.Configuration = []netip.Addr{netip.MustParseAddr("198.18.0.17")}
	w.g.PublicPorts = map[uint16]snapshot.Components{443: {"gateway", "management"}, 3443: {"management"}}
	w.g.ConfigurationPorts = map[uint16]snapshot.Components{443: {"configuration"}}
	w.g.PrivatePorts = map[uint16]snapshot.Components{443: {"gateway", "management", "configuration"}}
	w.Internet = snapshot.Internet{
		Prefixes: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")},
		Gateways: map[netip.Addr]*snapshot.Gateway{w.g.Public[0]: w.g, w.g.Configuration[0]: w.g},
	}
	for _, c := range []snapshot.Component{"management", "configuration"} {
		name := "main." + string(c) + "." + base
		w.g.Hosts[name] = &snapshot.Host{Kind: snapshot.HostComponent, Name: name, Component: c}
	}
}

func TestWhatListensDependsOnTheAddressThatWasCalled(t *testing.T) {
	w := newWorld(t)
	published(w)
	for _, x := range []struct {
		name   string
		origin snapshot.Origin
		want   snapshot.Components
		shared bool
	}{
		{"the public address", snapshot.Origin{Local: netip.MustParseAddrPort("198.18.0.16:443")}, snapshot.Components{"gateway", "management"}, false},
		{"its other port", snapshot.Origin{Local: netip.MustParseAddrPort("198.18.0.16:3443")}, snapshot.Components{"management"}, false},
		{"the configuration's address", snapshot.Origin{Local: netip.MustParseAddrPort("198.18.0.17:443")}, snapshot.Components{"configuration"}, false},
		{"a node", snapshot.Origin{Node: "main", Local: netip.MustParseAddrPort("10.1.0.5:443")}, snapshot.Components{"gateway", "management", "configuration"}, false},
		{"an Endpoint", snapshot.Origin{Endpoint: "corp", Local: netip.MustParseAddrPort("10.1.0.4:443")}, snapshot.Components{"gateway"}, false},
		{"a real socket", snapshot.Origin{Local: netip.MustParseAddrPort("203.0.113.1:443")}, snapshot.Components{"gateway", "management", "configuration"}, true},
		{"a real socket's other port", snapshot.Origin{Local: netip.MustParseAddrPort("203.0.113.1:3443")}, snapshot.Components{"management"}, true},
	} {
		if got := request.Listens(w.Snapshot, w.g, &x.origin); !slices.Equal(got, x.want) || request.Shared(w.Snapshot, &x.origin) != x.shared {
			t.Errorf("%s: %v, shared %v", x.name, got, request.Shared(w.Snapshot, &x.origin))
		}
	}
}

func TestARealSocketStandsForThePublicAddressOfEitherFamily(t *testing.T) {
	w := newWorld(t)
	published(w)
	for _, x := range []struct {
		source string
		c      snapshot.Component
		port   uint16
		want   string
	}{
		{"192.0.2.7", "gateway", 443, "listen/accepted"},
		{"2001:db8::7", "gateway", 443, "listen/accepted"},
		{"192.0.2.7", "configuration", 443, "listen/accepted"},
		{"192.0.2.7", "gateway", 80, "listen/refused"},
	} {
		o := &snapshot.Origin{Source: netip.AddrPortFrom(netip.MustParseAddr(x.source), 4000), Local: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.1"), x.port)}
		if v := request.Admitted(w.Snapshot, w.g, x.c, o); v.Code != x.want {
			t.Errorf("%s, %s, %d: %s", x.source, x.c, x.port, v.Code)
		}
	}
}

func TestAFailedDialHasTheCodeOfWhatStoppedIt(t *testing.T) {
	undelivered := func(code string) error {
		return fmt.Errorf("dial: %w", &flow.Undelivered{Verdict: flow.Verdict{Code: code}})
	}
	for _, x := range []struct {
		err  error
		code string
	}{
		{undelivered(flow.ListenRefused), "backend/refused"},
		{undelivered(flow.RouteNone), "route/none"},
		{undelivered("sg/no-inbound-rule"), "sg/no-inbound-rule"},
		{&request.DialError{Code: request.CodeNoName, Host: "x", Err: errors.New("none")}, "dns/nxdomain"},
		{&request.DialError{Code: request.CodeNoWay, Host: "x", Err: errors.New("none")}, "route/none"},
		{errors.New("another"), ""},
	} {
		code, answer, ok := request.DialFailed(x.err)
		if code != x.code || ok != (x.code != "") || ok && answer.Body != `{"message": "Network error communicating with endpoint"}` {
			t.Errorf("%v: %s %v %v", x.err, code, answer, ok)
		}
	}
	if request.ConnectTimedOut(29*time.Second) != &request.NetworkError || request.ConnectTimedOut(3*time.Second) != &request.TimedOut {
		t.Error("a connection that did not come about in time is answered otherwise")
	}
}
