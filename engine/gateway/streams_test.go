// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 a client of net/http dials by itself, and this one is to use the connection it is given

package gateway_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"postern.dev/postern/model"
	"postern.dev/postern/model/accesslog"
	"postern.dev/postern/snapshot"
)

// speaks is the protocol that a handshake for a name agrees on.
func (l *lab) speaks(t testing.TB, through bool, name string, offers ...string) string {
	t.Helper()
	c := tls.Client(l.connect(t, through, 443), &tls.Config{RootCAs: l.ca.pool, ServerName: name, NextProtos: offers})
	defer c.Close()
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return c.ConnectionState().NegotiatedProtocol
}

func TestTheProtocolDependsOnWhatIsCalled(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	both := []string{"h2", "http/1.1"}
	for _, f := range []struct {
		through bool
		name    string
		offers  []string
		want    string
	}{
		{false, "main." + base, both, "h2"},
		{false, pubID + restOf, both, "h2"},
		{false, pubID + restOf, []string{"http/1.1"}, "http/1.1"},
		{false, pubID + restOf, nil, ""},
		{false, "main.management." + base, both, "http/1.1"},
		{false, "main.portal." + base, both, "http/1.1"},
		{true, privID + restOf, both, "http/1.1"},
	} {
		if got := l.speaks(t, f.through, f.name, f.offers...); got != f.want {
			t.Errorf("%s, through an Endpoint %v, offered %v: %q, want %q", f.name, f.through, f.offers, got, f.want)
		}
	}
	l.corp.HTTP2 = true
	l.Swap(l.s)
	if got := l.speaks(t, true, privID+restOf, both...); got != "h2" {
		t.Errorf("an Endpoint with http2 speaks %q", got)
	}
}

// h2client speaks HTTP/2, to the name in the URL or else to server.
func (l *lab) h2client(t testing.TB, through bool, server string, cert ...tls.Certificate) *http.Client {
	tr := &http2.Transport{
		TLSClientConfig: &tls.Config{RootCAs: l.ca.pool, Certificates: cert},
		DialTLSContext: func(ctx context.Context, _, _ string, cfg *tls.Config) (net.Conn, error) {
			if server != "" {
				cfg = cfg.Clone()
				cfg.ServerName = server
			}
			c := tls.Client(l.connect(t, through, 443), cfg)
			return c, c.HandshakeContext(ctx)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func TestTheAnswerIsTheSameInHTTP2(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	l.corp.HTTP2 = true
	l.Swap(l.s)
	for _, f := range []struct {
		through      bool
		method, path string
		host         string
	}{
		{false, "GET", "/prod/pets", pubID + restOf},
		{false, "GET", "/prod/pets", privID + restOf},
		{false, "GET", "/prod/nothing", pubID + restOf},
		{false, "GET", "/nowhere", pubID + restOf},
		{false, "GET", "/", "main." + base},
		{false, "POST", "/prod/pets", pubID + restOf},
		{true, "GET", "/prod/pets", privID + restOf},
		{true, "GET", "/prod/pets", pubID + restOf},
		{true, "HEAD", "/prod/pets", privID + restOf},
	} {
		one, body1 := l.get(t, f.through, f.method, "https://"+f.host+f.path, nil, "")
		r, err := http.NewRequestWithContext(t.Context(), f.method, "https://"+f.host+f.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		two, err := l.h2client(t, f.through, "").Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(two.Body)
		if err != nil {
			t.Fatal(err)
		}
		two.Body.Close()
		if two.ProtoMajor != 2 || one.StatusCode != two.StatusCode || body1 != string(b) || one.ContentLength != two.ContentLength {
			t.Errorf("%+v: HTTP/1.1 %d %s, HTTP/2 %d %s", f, one.StatusCode, body1, two.StatusCode, b)
		}
		for name := range one.Header {
			if name == "Connection" {
				continue
			}
			if two.Header.Get(name) == "" {
				t.Errorf("%+v: HTTP/2 lacks %s", f, name)
			}
		}
		rec, ok := l.Recent(two.Header.Get("x-postern-request-id"))
		rec1, _ := l.Recent(one.Header.Get("x-postern-request-id"))
		if !ok || rec.Code != rec1.Code || rec.Status != two.StatusCode || rec.Path != f.path || rec.Host != f.host || rec.Proto.String() != "HTTP/2.0" {
			t.Errorf("%+v: remembered %+v, of HTTP/1.1 %+v", f, rec, rec1)
		}
	}
}

// TestTheAccessLogTellsTheCertificateOfItsOwnRequest: the memory of a stream's
// request is used again for those of other connections.
func TestTheAccessLogTellsTheCertificateOfItsOwnRequest(t *testing.T) {
	l, log, out := logged(t, `"example:petstore"`)
	ours := newAuthority(t)
	l.g.Hosts["required.example"] = &snapshot.Host{Kind: snapshot.HostDomain, Name: "required.example", Domain: &snapshot.Domain{
		Name: "required.example", Type: model.Regional, ClientCA: &snapshot.ClientCA{Bundle: "b", Pool: ours.pool, Required: true},
		Mappings: []snapshot.PathMapping{{API: l.pub, Stage: l.pub.Stages["prod"], StageName: "prod"}},
	}}
	l.pub.Stages["prod"].AccessLog.Format = accesslog.MustParse("$context.requestId $context.identity.clientCert.serialNumber")
	l.Swap(l.s)
	type partner struct {
		client *http.Client
		serial string
	}
	var partners []partner
	for _, name := range []string{"one", "two"} {
		c, err := ours.certificate(name)
		if err != nil {
			t.Fatal(err)
		}
		x, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		partners = append(partners, partner{l.h2client(t, false, "", *c), x.SerialNumber.String()})
	}
	want := map[string]string{}
	for n := range 10 {
		p := partners[n%2]
		resp, err := p.client.Get("https://required.example/pets")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s, %v", resp.Status, err)
		}
		resp.Body.Close()
		want[resp.Header.Get("x-amzn-RequestId")] = p.serial
		l.ended(t, n+1)
	}
	log.Flush()
	got := out.take()
	for _, line := range got {
		id, serial, _ := strings.Cut(line, " ")
		if want[id] != serial {
			t.Errorf("request %s came with certificate %s, and the log says %s", id, want[id], serial)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d lines of %d requests", len(got), len(want))
	}
}
