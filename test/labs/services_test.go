// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package labs

import (
	"fmt"
	"strings"
	"testing"
)

// What the caller reads when the Gateway cannot reach a backend.
const unreachable = `{"message": "Network error communicating with endpoint"}`

// nodeAddress is the Gateway's in testdata/services.yaml, from where it calls.
const nodeAddress = "10.20.1.4"

// What is behind the Gateway of testdata/services.yaml.
const (
	ordersURL = "https://main.postern.internal/orders/index.html"
	stockURL  = "https://main.postern.internal/stock/index.html"
	storeURL  = "https://main.postern.internal/store/index.html"
)

// services are the Gateway of testdata/services.yaml, its backends and a caller.
type services struct {
	*lab
	orders, stock, router, store, clerk *machine
	ordersTunnel, clerkTunnel           string
	atOrders, atStock, atStore          *httpd
}

// newServices joins everything that testdata/services.yaml speaks of with stock
// clients. The tunnel of stock carries smaller packets than the others.
func newServices(t *testing.T, flags ...string) *services {
	t.Helper()
	s := &services{lab: newLabWith(t, flags, "wg", "wg-quick", "wireguard-go", "curl", "ping", "ss", "busybox")}
	s.ok("apply", "-f", absolute(t, "testdata/services.yaml"))
	s.orders, s.stock, s.clerk = s.machine("orders"), s.machine("stock"), s.machine("clerk")
	s.ordersTunnel = s.orders.tunnel(s.ok("config", "wireguard", "host/orders"))
	s.stock.tunnel(strings.Replace(s.ok("config", "wireguard", "host/stock"), "[Interface]\n", "[Interface]\nMTU = 1280\n", 1))
	s.clerkTunnel = s.clerk.tunnel(s.ok("config", "wireguard", "host/clerk"))
	s.router, s.store = s.site(s.ok("config", "wireguard", "link/onprem"))
	s.atOrders = s.orders.httpd("10.20.2.10:8080")
	s.atStock = s.stock.httpd("10.20.2.11:9000")
	s.atStore = s.store.httpd(deskAddress + ":8080")
	return s
}

// answers calls a URL as the clerk: the backend answers, and explain agrees.
func (s *services) answers(t *testing.T, url string) {
	t.Helper()
	a := s.clerk.curl(s.ca, url)
	in := *s.lab
	in.t = t
	e := in.agrees("host/clerk", url, nil, a.symptom, "response 200", "backend/ok")
	if !strings.HasPrefix(a.Body, "the backend ") {
		t.Errorf("%s: the backend's file is not what came: %s", url, a.raw)
	}
	if h := e.decided(); h.Layer != "backend" || h.Evidence != "probe" {
		t.Errorf("%s: %s with evidence %q decides, want backend with probe", url, h.Layer, h.Evidence)
	}
}

// fails calls a URL as the clerk: the Gateway answers that it does not reach
// the backend, and explain says where the way ends and by whose rule.
func (s *services) fails(t *testing.T, url, code, layer, component, rule string) explained {
	t.Helper()
	a := s.clerk.curl(s.ca, "--max-time", "20", url)
	if a.Body != unreachable || !strings.Contains(strings.ToLower(a.head), "\r\ncontent-type: application/json") {
		t.Errorf("%s: want %s as JSON: %s", url, unreachable, a.raw)
	}
	in := *s.lab
	in.t = t
	e := in.agrees("host/clerk", url, nil, a.symptom, "response 504", code)
	if h := e.decided(); h.Layer != layer || h.Component != component || h.Rule.Resource != rule {
		t.Errorf("%s: explain names %s of %s by %q, want %s of %s by %q", url, h.Layer, h.Component, h.Rule.Resource, layer, component, rule)
	}
	return e
}

// authorize applies the SecurityGroupAuthorization orders.
func (s *services) authorize(group, ports string) {
	s.t.Helper()
	s.apply("SecurityGroupAuthorization", "orders", fmt.Sprintf("{gateway: main, securityGroup: %s, ports: [%s]}", group, ports))
}

// granted lists the names of the rules that a group was granted.
func (s *services) granted(group string) []string {
	s.t.Helper()
	var out []string
	for _, r := range s.status("securitygroup", group).GrantedRules {
		out = append(out, r.Name)
	}
	return out
}
