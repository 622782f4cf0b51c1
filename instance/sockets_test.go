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

	"postern.dev/postern/instance"
)

func TestAGatewayWithTheRealAddressIsGuardedAndNotAlone(t *testing.T) {
	public, ports := machine(t), map[uint16]uint16{443: freePort(t), 3443: freePort(t)}
	w := start(t, instance.Options{Public: public, PublicPorts: ports}, private+`
---
apiVersion: postern/v1
kind: SecurityGroup
metadata: {name: inside}
spec: {network: corp, rules: [{name: inside, direction: inbound, protocol: tcp, ports: ["443"], from: ["tag:VirtualNetwork"]}]}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: shut}
spec: {region: eu-1, networkMode: external, subnet: gateways, securityGroups: [inside], publicAddress: `+public.String()+`}
`)
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: w.roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(public, ports[443]).String())
		},
	}}
	for _, x := range []struct{ url, want string }{
		{"https://shut.postern.internal/status-0123456789abcdef", "connection reset by peer"},
		{"https://open.postern.internal/status-0123456789abcdef", "200 "},
		{"https://open.management.postern.internal/ServiceStatus", `200 {"status":"ok"}`},
		{"https://open.configuration.postern.internal/ServiceStatus", `200 {"status":"ok"}`},
	} {
		if got, _ := w.get(c, x.url); !strings.Contains(got, x.want) {
			t.Errorf("%s: %s, want %s", x.url, got, x.want)
		}
	}
}

func TestARealSocketRedirectsToTheRealPort(t *testing.T) {
	public, ports := netip.MustParseAddr("127.0.0.1"), map[uint16]uint16{80: freePort(t), 443: freePort(t), 3443: freePort(t)}
	w := start(t, instance.Options{Public: public, PublicPorts: ports}, `
apiVersion: postern/v1
kind: Gateway
metadata: {name: clear}
spec: {region: eu-1, http: redirect}
`)
	c := &http.Client{
		Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(public.String(), port))
		}},
	}
	res, err := c.Get(fmt.Sprintf("http://clear.postern.internal:%d/status-0123456789abcdef", ports[80]))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	to := res.Header.Get("Location")
	if res.StatusCode != 308 || to != fmt.Sprintf("https://clear.postern.internal:%d/status-0123456789abcdef", ports[443]) {
		t.Errorf("%d to %q", res.StatusCode, to)
	}
	if got, _ := w.get(c, to); !strings.HasPrefix(got, "200") {
		t.Errorf("%s: %s", to, got)
	}
}

// machine is an address of this machine that a Gateway can have beside the
// Networks of private.
func machine(t *testing.T) netip.Addr {
	t.Helper()
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() && !netip.MustParsePrefix("10.0.0.0/8").Contains(p.Addr()) {
			return p.Addr()
		}
	}
	t.Skip("this machine has no address but loopback and 10.0.0.0/8")
	return netip.Addr{}
}
