// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"postern.dev/postern/instance"
)

// freePair finds a port that nothing listens on, by TCP and by UDP.
func freePair(t *testing.T) uint16 {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := l.Addr().(*net.TCPAddr).AddrPort()
		u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		_ = l.Close() // nobody called
		if err == nil {
			_ = u.Close() // as before
			return at.Port()
		}
	}
	t.Fatal("no port is free by TCP and UDP")
	return 0
}

// quicClient speaks HTTP/3 with the real socket at a.
func (w *world) quicClient(a netip.AddrPort) *http.Client {
	tr := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: w.roots, MinVersion: tls.VersionTLS13},
		Dial: func(ctx context.Context, _ string, cfg *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, a.String(), cfg, qc)
		},
	}
	w.cleanup(tr.Close)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func TestHTTP3IsServedAndAnnouncedBesideHTTPS(t *testing.T) {
	public, port := netip.MustParseAddr("127.0.0.1"), freePair(t)
	at := netip.AddrPortFrom(public, port)
	w := start(t, instance.Options{Public: public, PublicPorts: map[uint16]uint16{443: port, 3443: freePort(t)}}, `
apiVersion: postern/v1
kind: Gateway
metadata: {name: open}
spec: {region: eu-1}
---
apiVersion: postern/v1
kind: API
metadata: {name: pets}
spec: {gateway: open, type: regional, path: pets, openapi: example:petstore}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: pets.prod}
spec: {autoDeploy: true}
`)
	tcp := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: w.roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", at.String())
		},
	}}
	t.Cleanup(tcp.CloseIdleConnections)
	const url = "https://open.postern.internal/pets/pets"
	two, header := w.get(tcp, url)
	if want := fmt.Sprintf(`h3=":%d"; ma=86400`, port); header.Get("Alt-Svc") != want || !strings.HasPrefix(two, "200") {
		t.Errorf("%s; Alt-Svc is %q, want %q", two, header.Get("Alt-Svc"), want)
	}
	quic := w.quicClient(at)
	three, header3 := w.get(quic, url)
	if three != two || header3.Get("Alt-Svc") != "" {
		t.Errorf("HTTP/3 %q with Alt-Svc %q, HTTP/2 %q", three, header3.Get("Alt-Svc"), two)
	}
	for h, want := range map[*http.Header]string{&header: "HTTP/2.0", &header3: "HTTP/3.0"} {
		r, err := w.api.Request(t.Context(), h.Get("x-postern-request-id"))
		if err != nil {
			t.Fatal(err)
		}
		if r.Recorded.Protocol != want || r.Recorded.Status != 200 || r.Difference != "" || string(r.Answer.Verdict) != "allow" {
			t.Errorf("%s is recorded as %+v, explained as %s: %s", want, r.Recorded, r.Answer.Verdict, r.Difference)
		}
	}
	// Inside, where no datagrams are served, nothing is announced.
	if _, h := w.get(w.client(internetCaller), url); h.Get("Alt-Svc") != "" || h.Get("x-postern-request-id") == "" {
		t.Errorf("on the segment Alt-Svc is %q", h.Get("Alt-Svc"))
	}
}
