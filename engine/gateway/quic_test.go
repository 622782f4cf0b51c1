// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 a client of net/http dials by itself, and this one is to use the connection it is given

package gateway_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"postern.dev/postern/compile/sg"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// socket opens a UDP socket that the engine serves HTTP/3 on, and returns where.
func (l *lab) socket(t testing.TB) net.Addr {
	t.Helper()
	t.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := l.ServeSocket(ctx, pc, func(from netip.AddrPort) (*snapshot.Origin, func(), bool) {
			return &snapshot.Origin{Source: from, Local: netip.MustParseAddrPort("0.0.0.0:443"), QUIC: true}, func() {}, true
		}); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return pc.LocalAddr()
}

// h3client speaks HTTP/3 with the socket at a, with cfg for handshakes.
func (l *lab) h3client(t testing.TB, a net.Addr, server string, cfg *tls.Config) *http.Client {
	t.Helper()
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	qt := &quic.Transport{Conn: pc}
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.RootCAs = l.ca.pool
	tr := &http3.Transport{
		TLSClientConfig: cfg,
		Dial: func(ctx context.Context, _ string, cfg *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			if server != "" {
				cfg = cfg.Clone()
				cfg.ServerName = server
			}
			return qt.Dial(ctx, a, cfg, qc)
		},
	}
	t.Cleanup(func() { tr.Close(); qt.Close(); pc.Close() })
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func fetch(t testing.TB, c *http.Client, method, url, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestTheAnswerIsTheSameInHTTP3(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	c := l.h3client(t, l.socket(t), "", nil)
	for _, f := range []struct{ method, host, path, body string }{
		{"GET", pubID + restOf, "/prod/pets", ""},
		{"HEAD", pubID + restOf, "/prod/pets", ""},
		{"GET", privID + restOf, "/prod/pets", ""},
		{"GET", pubID + restOf, "/prod/nothing", ""},
		{"POST", pubID + restOf, "/prod/pets", `{"type":"cat","price":1}`},
		{"GET", "main." + base, "/", ""},
	} {
		one, body1 := l.get(t, false, f.method, "https://"+f.host+f.path, nil, f.body)
		three, body3 := fetch(t, c, f.method, "https://"+f.host+f.path, f.body)
		if three.ProtoMajor != 3 || one.StatusCode != three.StatusCode || body1 != body3 || one.ContentLength != three.ContentLength {
			t.Errorf("%+v: HTTP/1.1 %d %s (%d), HTTP/3 %d %s (%d)", f, one.StatusCode, body1, one.ContentLength, three.StatusCode, body3, three.ContentLength)
		}
		for name := range one.Header {
			if name != "Connection" && three.Header.Get(name) == "" {
				t.Errorf("%+v: HTTP/3 lacks %s", f, name)
			}
		}
		rec, ok := l.Recent(three.Header.Get("x-postern-request-id"))
		rec1, _ := l.Recent(one.Header.Get("x-postern-request-id"))
		if !ok || rec.Code != rec1.Code || rec.Path != f.path || rec.Proto.String() != "HTTP/3.0" || !rec.TLS {
			t.Errorf("%+v: remembered %+v, of HTTP/1.1 %+v", f, rec, rec1)
		}
	}
}

func TestComponentsDoNotSpeakHTTP3(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	a := l.socket(t)
	for _, name := range []string{"main.management." + base, "main.portal." + base, "main.configuration." + base, "nobody.example"} {
		c := l.h3client(t, a, name, nil)
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+name+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := c.Do(r); err == nil {
			resp.Body.Close()
			t.Errorf("%s answers %d", name, resp.StatusCode)
		} else if !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%s: %v, want an unrecognized name", name, err)
		}
	}
}

func TestGroupsAreAskedForUDP(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	a := l.socket(t)
	n := &snapshot.Network{Name: "corp"}
	for protocol, want := range map[string]bool{"tcp": false, "udp": true, "any": true} {
		r := model.Rule{Name: "in", Direction: model.Inbound, Protocol: protocol, Ports: []string{"443"}}
		g := &model.SecurityGroup{Head: model.Head{Metadata: model.Metadata{Name: "web"}}, Spec: model.SecurityGroupSpec{Network: "corp", Rules: []model.Rule{r}}}
		model.Default(g)
		set, err := sg.New().In(sg.Env{}).Set(g)
		if err != nil {
			t.Fatal(err)
		}
		l.g.Nodes = []*snapshot.Interface{{Network: n, Gateway: l.g, Addr: private.Addr(), Groups: set}}
		l.Swap(l.s)
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+pubID+restOf+"/prod/pets", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := l.h3client(t, a, "", nil).Do(req)
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != want {
			t.Errorf("a group that admits %s: %v", protocol, err)
		}
	}
}

// A client may send requests for any name that the certificate it was shown is
// good for on the same connection: no Domain's certificates are got round by it.
func TestNoConnectionIsLentToADomainThatAsksForCertificates(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	ours := newAuthority(t)
	for name, required := range map[string]bool{"required.example": true, "second.example": true, "optional.example": false, "open.example": false} {
		d := &snapshot.Domain{Name: name, Type: model.Regional, Mappings: []snapshot.PathMapping{{API: l.pub, Stage: l.pub.Stages["prod"], StageName: "prod"}}}
		if name != "open.example" {
			d.ClientCA = &snapshot.ClientCA{Bundle: name, Pool: ours.pool, Required: required}
		}
		l.g.Hosts[name] = &snapshot.Host{Kind: snapshot.HostDomain, Name: name, Domain: d}
	}
	mine, err := ours.certificate("partner")
	if err != nil {
		t.Fatal(err)
	}
	a := l.socket(t)
	const refused = "refused"
	for _, x := range []struct {
		sni, host string
		cert      bool
		want      string
	}{
		{"required.example", "required.example", true, "200"},
		{"required.example", "required.example", false, refused},
		{"required.example", "second.example", true, "403"},
		{"open.example", "required.example", true, "403"},
		{"optional.example", "optional.example", false, "200"},
		{"open.example", "optional.example", false, "200"},
		{l.pub.Host, "required.example", true, "403"},
		{"open.example", "main.management." + base, false, "403"},
	} {
		cfg := &tls.Config{}
		if x.cert {
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return mine, nil }
		}
		two := l.h2client(t, false, x.sni)
		two.Transport.(*http2.Transport).TLSClientConfig.GetClientCertificate = cfg.GetClientCertificate
		for proto, c := range map[string]*http.Client{"HTTP/2": two, "HTTP/3": l.h3client(t, a, x.sni, cfg)} {
			got := ""
			r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+x.host+"/pets", nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp, err := c.Do(r); err != nil {
				got = refused // in which words, depends on what the client is at
			} else {
				resp.Body.Close()
				got = resp.Status
			}
			if !strings.Contains(got, x.want) {
				t.Errorf("%s: %s over %s with %v: %s, want %s", proto, x.host, x.sni, x.cert, got, x.want)
			}
		}
	}
}

func TestSessionsAreTakenUpAgainButForDomainsThatAskForCertificates(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	ours := newAuthority(t)
	l.g.Hosts["required.example"] = &snapshot.Host{Kind: snapshot.HostDomain, Name: "required.example", Domain: &snapshot.Domain{
		Name: "required.example", Type: model.Regional, ClientCA: &snapshot.ClientCA{Bundle: "b", Pool: ours.pool, Required: true},
		Mappings: []snapshot.PathMapping{{API: l.pub, Stage: l.pub.Stages["prod"], StageName: "prod"}},
	}}
	mine, err := ours.certificate("partner")
	if err != nil {
		t.Fatal(err)
	}
	a := l.socket(t)
	for _, x := range []struct {
		name    string
		version uint16
		want    bool
	}{
		{l.pub.Host, tls.VersionTLS12, true},
		{l.pub.Host, tls.VersionTLS13, true},
		{"required.example", tls.VersionTLS12, false},
		{"required.example", tls.VersionTLS13, false},
	} {
		cfg := &tls.Config{
			RootCAs: l.ca.pool, ServerName: x.name, MaxVersion: x.version, NextProtos: []string{"h2"},
			ClientSessionCache:   tls.NewLRUClientSessionCache(4),
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return mine, nil },
		}
		resumed := false
		for range 2 {
			c := tls.Client(l.connect(t, false, 443), cfg)
			if err := c.HandshakeContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 1)); err != nil { // SETTINGS; the ticket came before
				t.Fatal(err)
			}
			resumed = c.ConnectionState().DidResume
			c.Close()
		}
		if resumed != x.want {
			t.Errorf("%s in TLS %x: taken up again %v", x.name, x.version, resumed)
		}
		if x.version == tls.VersionTLS12 {
			continue
		}
		cfg.NextProtos, resumed = nil, false
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		for i := 0; i < 2 || x.want && !resumed && i < 20; i++ { // a ticket may come behind the answer
			resp, _ := fetch(t, l.h3client(t, a, "", cfg), "GET", "https://"+x.name+"/prod/pets", "")
			resumed = resp.TLS.DidResume
		}
		if resumed != x.want {
			t.Errorf("%s in HTTP/3: taken up again %v", x.name, resumed)
		}
	}
}
