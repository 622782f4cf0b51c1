// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"

	"postern.dev/postern/compile"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// management answers one request, as the management plane does more of.
func (l *lab) management(_ context.Context, c net.Conn, o *snapshot.Origin) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nmanagement of %s for %s", r.Host, o.Source.Addr())
}

// challenges knows one name and one token.
type challenges struct{ ca *authority }

func (c challenges) TLSALPN(name string) (*tls.Certificate, bool) {
	if name != "acme.example" {
		return nil, false
	}
	cert, err := c.ca.certificate("challenge.example")
	return cert, err == nil
}

func (challenges) HTTP01(host, token string) (string, bool) {
	return token + ".key", host == "acme.example" && token == "t0ken"
}

// arrive opens a connection with an origin of its own.
func (l *lab) arrive(t testing.TB, o *snapshot.Origin) net.Conn {
	t.Helper()
	client, server := loopback(t)
	var done sync.WaitGroup
	done.Go(func() { l.ServeConn(context.Background(), server, o) })
	t.Cleanup(func() { client.Close(); done.Wait() })
	return client
}

// ask sends a GET over c, under TLS where name is set, and returns what came of
// it.
func (l *lab) ask(c net.Conn, cfg *tls.Config, host, path string) string {
	if cfg != nil {
		cfg.RootCAs = l.ca.pool
		c = tls.Client(c, cfg)
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host); err != nil {
		return outcome(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return outcome(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return outcome(err)
	}
	return fmt.Sprintf("%d %s", res.StatusCode, b)
}

func outcome(err error) string {
	if errors.Is(err, syscall.ECONNRESET) {
		return "reset"
	}
	return err.Error()
}

func TestTheNameInTheHandshakeChoosesTheComponent(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	at := func(address string) *snapshot.Origin {
		return &snapshot.Origin{Source: netip.MustParseAddrPort("198.51.100.7:50000"), Local: netip.MustParseAddrPort(address)}
	}
	l.g.PrivatePorts = map[uint16]snapshot.Components{443: {"gateway", "management", "portal", "scm"}}
	node := at("10.1.0.5:443")
	node.Node = "main"
	endpoint := at("10.1.0.4:443")
	endpoint.Endpoint = "corp"
	const unrecognized = "remote error: tls: unrecognized name"
	for _, x := range []struct {
		name, host, path string
		origin           *snapshot.Origin
		want             string
	}{
		{"the gateway", l.g.Host, "/status-0123456789abcdef", at("198.18.0.10:443"), "200 "},
		{"the gateway by a name that is not served", "lb.example", "/", at("198.18.0.10:443"), "wrong name"},
		{"management", "main.management." + base, "/", at("198.18.0.10:443"), "200 management of main.management.postern.internal for 198.51.100.7"},
		{"management at its own port", "main.management." + base, "/", at("198.18.0.10:3443"), "200 management of"},
		{"management at a node", "main.management." + base, "/", node, "200 management of"},
		{"management at an Endpoint", "main.management." + base, "/", endpoint, unrecognized},
		{"the gateway at the management's port", l.g.Host, "/", at("198.18.0.10:3443"), unrecognized},
		{"the gateway at the configuration's address", l.g.Host, "/", at("198.18.0.11:443"), unrecognized},
		{"what nobody serves", "main.configuration." + base, "/", at("198.18.0.11:443"), unrecognized},
		{"the portal", "main.portal." + base, "/", at("198.18.0.10:443"), "200 <!doctype html>"},
		{"a page of the portal", "main.portal." + base, "/apis", at("198.18.0.10:443"), "404 <!doctype html>"},
		{"the Git repository", "main.scm." + base, "/", at("198.18.0.10:443"), "200 <!doctype html>"},
		{"by a real socket", "main.management." + base, "/", at("203.0.113.1:3443"), "200 management of"},
	} {
		t.Run(x.name, func(t *testing.T) {
			got := l.ask(l.arrive(t, x.origin), &tls.Config{ServerName: x.host}, x.host, x.path)
			if x.want == "wrong name" {
				if !strings.Contains(got, "certificate is valid for") {
					t.Error(got)
				}
			} else if !strings.HasPrefix(got, x.want) {
				t.Errorf("%s, want %s", got, x.want)
			}
		})
	}
	if got := l.ask(l.arrive(t, at("198.18.0.10:443")), &tls.Config{ServerName: "main.portal." + base}, l.g.Host, "/"); !strings.HasPrefix(got, "404") {
		t.Errorf("another host on the portal's connection: %s", got)
	}
}

func TestARefusedNameCannotTakeASessionUpAgain(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	cache := &anySession{}
	o := &snapshot.Origin{Source: netip.MustParseAddrPort("198.51.100.7:50000"), Local: netip.MustParseAddrPort("203.0.113.1:443")}
	if got := l.ask(l.arrive(t, o), &tls.Config{ServerName: l.pub.Host, ClientSessionCache: cache}, l.pub.Host, "/prod/pets"); !strings.HasPrefix(got, "200") {
		t.Fatal(got)
	}
	if cache.session == nil {
		t.Fatal("no session was offered")
	}
	if got := l.ask(l.arrive(t, o), &tls.Config{ServerName: "nobody.example", ClientSessionCache: cache}, "nobody.example", "/"); got != "remote error: tls: unrecognized name" {
		t.Error(got)
	}
}

// anySession offers one session for every name.
type anySession struct{ session *tls.ClientSessionState }

func (a *anySession) Get(string) (*tls.ClientSessionState, bool) { return a.session, a.session != nil }

func (a *anySession) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		a.session = s
	}
}

func TestARealSocketIsShutForAGatewayThatIsNotThere(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	l.g.PublicPorts = map[uint16]snapshot.Components{3443: {snapshot.ComponentManagement}} // as internal mode has it
	o := func(port uint16) *snapshot.Origin {
		return &snapshot.Origin{Source: netip.MustParseAddrPort("198.51.100.7:50000"), Local: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.1"), port)}
	}
	l.g.HTTP = "serve"
	if got := l.ask(l.arrive(t, o(443)), &tls.Config{ServerName: l.g.Host}, l.g.Host, "/"); got != "remote error: tls: unrecognized name" {
		t.Errorf("TLS: %s", got)
	}
	if got := l.ask(l.arrive(t, o(80)), nil, l.g.Host, "/"); got != "reset" {
		t.Errorf("in clear: %s", got)
	}
	if got := l.ask(l.arrive(t, o(3443)), &tls.Config{ServerName: "main.management." + base}, "main.management."+base, "/"); !strings.HasPrefix(got, "200 ") {
		t.Errorf("management: %s", got)
	}
}

func TestDomainsAskForCertificatesOfTheirOwnAuthorities(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	domain := func(name string, ca *authority, required bool) *snapshot.Domain {
		d := &snapshot.Domain{
			Name: name, Type: model.Regional, ClientCA: &snapshot.ClientCA{Bundle: name, Pool: ca.pool, Required: required},
			Mappings: []snapshot.PathMapping{{API: l.pub, Stage: l.pub.Stages["prod"], StageName: "prod"}},
		}
		l.g.Hosts[name] = &snapshot.Host{Kind: snapshot.HostDomain, Name: name, Domain: d}
		return d
	}
	ours, theirs := newAuthority(t), newAuthority(t)
	required := domain("required.example", ours, true)
	domain("optional.example", ours, false)
	domain("other.example", theirs, true)
	mine, err := ours.certificate("partner")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := theirs.certificate("stranger")
	if err != nil {
		t.Fatal(err)
	}
	cache := &anySession{}
	config := func(name string, c *tls.Certificate) *tls.Config {
		cfg := &tls.Config{ServerName: name, ClientSessionCache: cache}
		if c != nil {
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
		}
		return cfg
	}
	const missing, unknown = "remote error: tls: certificate required", "remote error: tls: unknown certificate authority"
	for _, x := range []struct {
		sni, host string
		cert      *tls.Certificate
		want      string
	}{
		{l.pub.Host, l.pub.Host, nil, "403"}, // a session to offer; no stage in the path
		{"required.example", "required.example", mine, "200"},
		{"required.example", "required.example", nil, missing},
		{"required.example", "required.example", foreign, unknown},
		{"optional.example", "optional.example", nil, "200"},
		{"optional.example", "optional.example", foreign, unknown},
		{"other.example", "other.example", mine, unknown},
		{"required.example", "other.example", mine, "403"},
		{l.pub.Host, "required.example", mine, "403"},
	} {
		got := l.ask(l.connect(t, false, 443), config(x.sni, x.cert), x.host, "/pets")
		if !strings.HasPrefix(got, x.want) {
			t.Errorf("%s over %s with %v: %s, want %s", x.host, x.sni, x.cert != nil, got, x.want)
		}
	}

	// What an authority vouched for counts as long as it is the Domain's.
	cfg := config("required.example", mine)
	cfg.RootCAs = l.ca.pool
	c := tls.Client(l.connect(t, false, 443), cfg)
	in := bufio.NewReader(c)
	status := func() int {
		fmt.Fprintf(c, "GET /pets HTTP/1.1\r\nHost: required.example\r\n\r\n")
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if n := status(); n != 200 {
		t.Fatal(n)
	}
	required.ClientCA = &snapshot.ClientCA{Bundle: "both", Required: true, Pool: func() *x509.CertPool {
		p := theirs.pool.Clone()
		p.AddCert(ours.cert)
		return p
	}()}
	if n := status(); n != 200 {
		t.Errorf("an authority was added: %d", n)
	}
	required.ClientCA = &snapshot.ClientCA{Bundle: "theirs", Required: true, Pool: theirs.pool}
	if n := status(); n != 403 {
		t.Errorf("the authority is the Domain's no longer: %d", n)
	}
}

// TestChallengesHoldToTheGroups proves names at a real socket, where only those
// are answered whom the Gateway's groups admit.
func TestChallengesHoldToTheGroups(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	named := func(name string) model.Head { return model.Head{Metadata: model.Metadata{Name: name}} }
	set, _, err := model.Admit(model.NewSet(), model.Change{Puts: []model.Object{
		&model.Network{Head: named("corp"), Spec: model.NetworkSpec{CIDRs: []string{"10.0.0.0/16"}}},
		&model.Subnet{Head: named("nodes"), Spec: model.SubnetSpec{Network: "corp", CIDR: "10.0.1.0/24"}},
		&model.SecurityGroup{Head: named("front"), Spec: model.SecurityGroupSpec{Network: "corp", Rules: []model.Rule{
			{Name: "authority", Direction: "inbound", Protocol: "tcp", Ports: []string{"80", "443"}, From: []string{"198.51.100.0/24"}},
		}}},
		&model.Gateway{Head: named("main"), Spec: model.GatewaySpec{
			Region: region, NetworkMode: model.ModeExternal, Subnet: "nodes", SecurityGroups: []string{"front"}, HTTP: model.HTTPRedirect,
		}},
		&model.API{Head: named("open"), Spec: model.APISpec{Gateway: "main", Type: model.Regional, OpenAPI: []byte(`"example:petstore"`)}},
		&model.Stage{Head: named("open.prod")},
		&model.Domain{Head: named("acme.example"), Spec: model.DomainSpec{
			Type: model.Regional, Mappings: []model.Mapping{{API: "open", Stage: "prod"}}, TLS: &model.DomainTLS{ACME: &model.DomainACME{}},
		}},
	}}, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l.Swap(new(compile.Compiler).Compile(set, compile.Options{Base: base, Segment: []netip.Prefix{model.DefaultInternet}}).Snapshot)

	const token = "/.well-known/acme-challenge/t0ken"
	for _, x := range []struct{ from, name, tls, clear string }{
		{"198.51.100.7:50000", "acme.example", "proved", "200 t0ken.key"},
		{"203.0.113.9:50000", "acme.example", "reset", "reset"},
		{"198.51.100.7:50000", "nobody.example", "remote error: tls: unrecognized name", `403 {"message":"Forbidden"}`},
	} {
		socket := func(port uint16) net.Conn {
			return l.arrive(t, &snapshot.Origin{Source: netip.MustParseAddrPort(x.from), Local: netip.AddrPortFrom(netip.IPv4Unspecified(), port)})
		}
		c := tls.Client(socket(443), &tls.Config{ServerName: x.name, NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true})
		got := "proved"
		if err := c.Handshake(); err != nil {
			got = outcome(err)
		}
		if got != x.tls {
			t.Errorf("tls-alpn-01 of %s from %s: %s, want %s", x.name, x.from, got, x.tls)
		}
		if got := l.ask(socket(80), nil, x.name, token); got != x.clear {
			t.Errorf("http-01 of %s from %s: %s, want %s", x.name, x.from, got, x.clear)
		}
	}
}

func TestChallengesAreAnsweredBeforeAnythingElse(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	l.g.HTTP = "redirect"
	hello := func(name string, protos ...string) error {
		c := tls.Client(l.connect(t, false, 443), &tls.Config{ServerName: name, NextProtos: protos, InsecureSkipVerify: true})
		if err := c.Handshake(); err != nil {
			return err
		}
		if s := c.ConnectionState(); s.NegotiatedProtocol != "acme-tls/1" || s.PeerCertificates[0].DNSNames[0] != "challenge.example" {
			return fmt.Errorf("%q, %s", s.NegotiatedProtocol, s.PeerCertificates[0].DNSNames)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			return fmt.Errorf("it is served on: %w", err)
		}
		return nil
	}
	if err := hello("ACME.example", "acme-tls/1"); err != nil {
		t.Error(err)
	}
	if err := hello("other.example", "acme-tls/1"); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a name that is not being proved: %v", err)
	}
	if err := hello("acme.example", "acme-tls/1", "http/1.1"); err == nil {
		t.Error("a usual handshake was taken for a challenge")
	}
	for _, x := range []struct{ host, path, want string }{
		{"acme.example:80", "/.well-known/acme-challenge/t0ken", "200 t0ken.key"},
		{"acme.example", "/.well-known/acme-challenge/other", "308 "},
		{"other.example", "/.well-known/acme-challenge/t0ken", "308 "},
	} {
		if got := l.ask(l.connect(t, false, 80), nil, x.host, x.path); got != x.want {
			t.Errorf("%s%s: %s, want %s", x.host, x.path, got, x.want)
		}
	}
}
