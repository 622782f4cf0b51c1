// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package labs

import (
	"slices"
	"strings"
	"testing"
)

// TestGatewayReachesBackendsAsAuthorized is the third walk-through: a Gateway in
// internal mode calls backends that are stock clients of WireGuard.
func TestGatewayReachesBackendsAsAuthorized(t *testing.T) {
	t.Parallel()
	s := newServices(t)

	t.Run("without authorization nothing in a group is reached", func(t *testing.T) {
		s.fails(t, ordersURL, "sg/no-inbound-rule", "backend-sg-in", "Host/orders", "SecurityGroup/service-sg1")
		s.fails(t, stockURL, "sg/no-inbound-rule", "backend-sg-in", "Host/stock", "SecurityGroup/service-sg2")
		for _, h := range []*httpd{s.atOrders, s.atStock} {
			if got := h.callers(t); len(got) != 0 {
				t.Errorf("a backend was called by %v", got)
			}
		}
	})
	t.Run("the reason stays with the operator", func(t *testing.T) {
		a := s.clerk.curl(s.ca, ordersURL)
		_, after, _ := strings.Cut(strings.ToLower(a.head), "x-postern-request-id: ")
		id, _, _ := strings.Cut(after, "\r\n")
		if r := s.postern("why", id); r.code != 0 || !strings.Contains(r.out, "sg/no-inbound-rule") || !strings.Contains(r.out, "SecurityGroup/service-sg1") {
			t.Errorf("why %s: %s", id, r)
		}
	})
	t.Run("behind a Link there is no group to ask", func(t *testing.T) { s.answers(t, storeURL) })
	t.Run("authorized", func(t *testing.T) {
		s.authorize("service-sg1", `"8080/8080"`)
		s.answers(t, ordersURL)
		s.fails(t, stockURL, "sg/no-inbound-rule", "backend-sg-in", "Host/stock", "SecurityGroup/service-sg2")
		s.apply("SecurityGroupAuthorization", "stock", `{gateway: main, securityGroup: service-sg2, ports: ["80/80", "8000/9000"]}`)
		s.answers(t, stockURL)
		s.answers(t, ordersURL)
	})
	t.Run("both sides list it", func(t *testing.T) {
		if got := s.granted("service-sg1"); !slices.Equal(got, []string{"orders-8080-8080"}) {
			t.Errorf("service-sg1 was granted %v", got)
		}
		if got := s.granted("service-sg2"); !slices.Equal(got, []string{"stock-80-80", "stock-8000-9000"}) {
			t.Errorf("service-sg2 was granted %v", got)
		}
		if out := s.ok("describe", "securitygroup", "service-sg1"); !strings.Contains(out, "granted orders-8080-8080: tcp/8080/8080 from group:main-managed, of SecurityGroupAuthorization/orders\n") {
			t.Errorf("describe securitygroup: %s", out)
		}
		if out := s.ok("describe", "gateway", "main"); !strings.Contains(out, "authorization orders: SecurityGroup/service-sg1 8080/8080 (granted)\n") ||
			!strings.Contains(out, "authorization stock: SecurityGroup/service-sg2 80/80, 8000/9000 (granted)\n") {
			t.Errorf("describe gateway: %s", out)
		}
	})
	t.Run("backends see the Gateway's address", func(t *testing.T) {
		for name, h := range map[string]*httpd{"orders": s.atOrders, "stock": s.atStock, "store": s.atStore} {
			if got := h.callers(t); !slices.Equal(got, []string{nodeAddress}) {
				t.Errorf("%s was called by %v: %s", name, got, h.stderr())
			}
		}
	})
	t.Run("a grant is for the Gateway alone", func(t *testing.T) {
		if a := s.clerk.curl(s.ca, "http://10.20.2.10:8080/"); a.Kind != "timeout" {
			t.Errorf("the clerk calls orders by itself: %s", a.raw)
		}
		if e := s.explain("host/clerk", "tcp://10.20.2.10:8080"); e.Code != "sg/no-inbound-rule" {
			t.Errorf("explain: %+v", e)
		}
		if e := s.explain("gateway/main", "tcp://10.20.2.10:8080"); e.Verdict != "allow" || e.Symptom.Kind != "connected" {
			t.Errorf("explain: %+v", e)
		}
	})
	t.Run("every component answers at the private address", func(t *testing.T) {
		for _, u := range []string{
			"https://main.postern.internal/status-0123456789abcdef",
			"https://main.management.postern.internal/ServiceStatus", "https://main.management.postern.internal:3443/ServiceStatus",
			"https://main.configuration.postern.internal/ServiceStatus",
			"https://main.portal.postern.internal/", "https://main.scm.postern.internal/",
		} {
			a := s.clerk.curl(s.ca, u)
			if e := s.explain("host/clerk", u); a.Status != 200 || e.Verdict != "allow" || e.Symptom.Status != 200 {
				t.Errorf("%s: explain says %s %s: %s", u, e.Symptom.symptom, e.Code, a.raw)
			}
		}
		const configuration = "https://main.configuration.postern.internal:3443/ServiceStatus"
		a := s.clerk.curl(s.ca, configuration)
		if e := s.explain("host/clerk", configuration); a.Status == 200 || e.Symptom.String() != a.String() {
			t.Errorf("configuration on 3443: explain says %s %s: %s", e.Symptom.symptom, e.Code, a.raw)
		}
	})
	t.Run("full packets", s.fullPackets)
	t.Run("the port moved", s.portMoved)
	t.Run("the group is not the backend's", func(t *testing.T) {
		s.authorize("service-sg2", `"8080/8080"`)
		e := s.fails(t, ordersURL, "sg/no-inbound-rule", "backend-sg-in", "Host/orders", "SecurityGroup/service-sg1")
		if i := slices.IndexFunc(e.Findings, func(f struct{ Code, Component, Message string }) bool {
			return f.Component == "SecurityGroupAuthorization/orders" && strings.Contains(f.Message, "service-sg2")
		}); i < 0 {
			t.Errorf("nothing is said of the authorization: %+v", e.Findings)
		}
		s.authorize("service-sg1", `"8080/8080"`)
		s.answers(t, ordersURL)
	})
	t.Run("the backend has several groups", func(t *testing.T) {
		s.apply("SecurityGroup", "quarantine", `{network: corp, rules: [{name: shut, direction: inbound, action: deny, protocol: tcp, ports: ["8080"], priority: 10}]}`)
		s.apply("Host", "orders", "{subnet: services, address: 10.20.2.10, securityGroups: [service-sg1, quarantine]}")
		s.fails(t, ordersURL, "sg/inbound-deny", "backend-sg-in", "Host/orders", "SecurityGroup/quarantine")
		s.apply("Host", "orders", "{subnet: services, address: 10.20.2.10, securityGroups: [quarantine]}")
		s.fails(t, ordersURL, "sg/inbound-deny", "backend-sg-in", "Host/orders", "SecurityGroup/quarantine")
		s.apply("Host", "orders", "{subnet: services, address: 10.20.2.10, securityGroups: [service-sg1]}")
		s.answers(t, ordersURL)
	})
	t.Run("a group that refers to no other group", func(t *testing.T) {
		s.apply("SecurityGroup", "vault", "{network: corp, defaults: enterprise}")
		s.apply("Host", "orders", "{subnet: services, address: 10.20.2.10, securityGroups: [vault]}")
		s.fails(t, ordersURL, "sg/no-inbound-rule", "backend-sg-in", "Host/orders", "SecurityGroup/vault")
		s.authorize("vault", `"8080/8080"`)
		s.answers(t, ordersURL)
		if g := s.status("securitygroup", "vault").GrantedRules; len(g) != 1 || !slices.Equal(g[0].From, []string{"10.20.1.0/28"}) {
			t.Errorf("vault was granted %+v", g)
		}
		s.apply("Host", "orders", "{subnet: services, address: 10.20.2.10, securityGroups: [service-sg1]}")
		s.authorize("service-sg1", `"8080/8080"`)
		s.answers(t, ordersURL)
	})
	t.Run("the backend is in a peer of the Network", s.inPeer)
	t.Run("the backend is unhealthy", s.unhealthy)
	t.Run("revoked and deleted", s.takenBack)
	t.Run("a connection that is kept is judged anew", func(t *testing.T) {
		s.stock.serves("10.20.2.11:8088")
		s.apply("Backend", "stock", "{network: corp, targets: [{host: 10.20.2.11, port: 8088}]}")
		for range 2 {
			if a := s.clerk.curl(s.ca, stockURL); a.Status != 200 || !strings.Contains(a.Body, "10.20.2.11:8088 was called by "+nodeAddress+":") {
				t.Errorf("%s", a.raw)
			}
		}
		s.ok("revoke", "service-sg2", "stock-8000-9000")
		s.fails(t, stockURL, "sg/no-inbound-rule", "backend-sg-in", "Host/stock", "SecurityGroup/service-sg2")
	})
	t.Run("the backend's tunnel is down", func(t *testing.T) {
		s.orders.untunnel(s.ordersTunnel)
		s.fails(t, ordersURL, "backend/timeout", "backend", "Backend/orders", "")
		s.answers(t, storeURL)
		s.ordersTunnel = s.orders.tunnel(s.ok("config", "wireguard", "host/orders"))
		s.atOrders.stop()
		s.atOrders = s.orders.httpd("10.20.2.10:8080")
		s.answers(t, ordersURL)
	})
	t.Run("the Link is down", func(t *testing.T) {
		s.ok("config", "wireguard", "link/onprem") // a key that nobody has yet
		s.fails(t, storeURL, "route/link-down", "backend-route", "Link/onprem", "")
	})
}

// portMoved is a backend that was started at another port.
func (s *services) portMoved(t *testing.T) {
	s.atOrders.stop()
	s.fails(t, ordersURL, "backend/refused", "backend", "Backend/orders", "")
	s.atOrders = s.orders.httpd("10.20.2.10:8081")
	e := s.fails(t, ordersURL, "backend/refused", "backend", "Backend/orders", "")
	if h := e.decided(); h.Evidence != "probe" {
		t.Errorf("the evidence is %q, want probe: %+v", h.Evidence, h)
	}
	s.apply("Backend", "orders", "{network: corp, targets: [{host: 10.20.2.10, port: 8081}]}")
	s.fails(t, ordersURL, "sg/no-inbound-rule", "backend-sg-in", "Host/orders", "SecurityGroup/service-sg1")
	s.authorize("service-sg1", `"8080/8080", "8081/8081"`)
	s.answers(t, ordersURL)
	s.atOrders.stop()
	s.atOrders = s.orders.httpd("10.20.2.10:8080")
	s.apply("Backend", "orders", "{network: corp, targets: [{host: 10.20.2.10, port: 8080}]}")
	s.authorize("service-sg1", `"8080/8080"`)
	s.answers(t, ordersURL)
}

// inPeer is a backend in another Network, which gets its tunnel once it is a peer.
func (s *services) inPeer(t *testing.T) {
	s.apply("Network", "back", "{cidrs: [10.30.0.0/16]}")
	s.apply("Subnet", "back", "{network: back, cidr: 10.30.2.0/24}")
	s.apply("SecurityGroup", "back", "{network: back}")
	s.apply("Host", "back", "{subnet: back, address: 10.30.2.10, securityGroups: [back]}")
	s.apply("Backend", "stock", "{network: corp, targets: [{host: 10.30.2.10, port: 8080}]}")
	s.fails(t, stockURL, "route/none", "backend-route", "Gateway/main", "")
	s.apply("Peering", "corp-back", "{networks: [corp, back]}")
	s.fails(t, stockURL, "sg/no-inbound-rule", "backend-sg-in", "Host/back", "SecurityGroup/back")
	s.apply("SecurityGroupAuthorization", "back", `{gateway: main, securityGroup: back, ports: ["8080/8080"]}`)
	back := s.machine("back")
	back.tunnel(s.ok("config", "wireguard", "host/back"))
	at := back.httpd("10.30.2.10:8080")
	s.answers(t, stockURL)
	if got := at.callers(t); !slices.Equal(got, []string{nodeAddress}) {
		t.Errorf("it was called by %v", got)
	}
	s.ok("delete", "securitygroupauthorization", "back", "--cascade")
	s.ok("delete", "peering", "corp-back")
	s.fails(t, stockURL, "route/none", "backend-route", "Gateway/main", "")
	s.apply("Backend", "stock", "{network: corp, targets: [{host: 10.20.2.11, port: 9000}]}")
	s.answers(t, stockURL)
}

// unhealthy is a backend that probes find out to be down.
func (s *services) unhealthy(t *testing.T) {
	s.apply("Backend", "orders", `{network: corp, targets: [{host: 10.20.2.10, port: 8080}],
  health: {path: /index.html, interval: 1s, timeout: 1s, unhealthyAfter: 2, healthyAfter: 1}}`)
	s.answers(t, ordersURL)
	s.atOrders.stop()
	var a answer
	if !eventually(func() bool { a = s.clerk.curl(s.ca, ordersURL); return a.Status == 503 }) {
		t.Fatalf("it is not found out: %s", a.raw)
	}
	in := *s.lab
	in.t = t
	e := in.agrees("host/clerk", ordersURL, nil, a.symptom, "response 503", "backend/unhealthy")
	if h := e.decided(); a.Body != `{"message":"Service Unavailable"}` || h.Layer != "backend" || h.Component != "Backend/orders" {
		t.Errorf("%+v decides: %s", h, a.raw)
	}
	s.atOrders = s.orders.httpd("10.20.2.10:8080")
	if !eventually(func() bool { a = s.clerk.curl(s.ca, ordersURL); return a.Status == 200 }) {
		t.Errorf("it is not taken back: %s", a.raw)
	}
	if got := s.atOrders.callers(t); !slices.Equal(got, []string{nodeAddress}) {
		t.Errorf("it was probed and called by %v", got)
	}
	s.apply("Backend", "orders", "{network: corp, targets: [{host: 10.20.2.10, port: 8080}]}")
	s.answers(t, ordersURL)
}

// takenBack takes the grant away on either side.
func (s *services) takenBack(t *testing.T) {
	shut := func() {
		t.Helper()
		s.fails(t, ordersURL, "sg/no-inbound-rule", "backend-sg-in", "Host/orders", "SecurityGroup/service-sg1")
	}
	// On the backend's side: the Gateway's record stays and tells of it.
	s.ok("revoke", "service-sg1", "orders-8080-8080")
	shut()
	s.authorize("service-sg1", `"8080/8080"`)
	shut()
	if c := s.status("securitygroupauthorization", "orders").condition("Granted"); c.Status || c.Reason != "Revoked" {
		t.Errorf("the authorization's condition is %+v", c)
	}
	s.ok("delete", "securitygroupauthorization", "orders")
	s.authorize("service-sg1", `"8080/8080"`)
	s.answers(t, ordersURL)

	// On the Gateway's side alone: the rule is an orphan.
	s.ok("delete", "securitygroupauthorization", "orders")
	s.answers(t, ordersURL)
	g := s.status("securitygroup", "service-sg1")
	if len(g.GrantedRules) != 1 || !g.GrantedRules[0].Orphan {
		t.Errorf("the group's rules: %+v", g.GrantedRules)
	}
	s.ok("revoke", "service-sg1", "orders-8080-8080")
	shut()

	// On both.
	s.authorize("service-sg1", `"8080/8080"`)
	s.answers(t, ordersURL)
	s.ok("delete", "securitygroupauthorization", "orders", "--cascade")
	shut()
	if got := s.granted("service-sg1"); len(got) != 0 {
		t.Errorf("the group was granted %v", got)
	}
	s.authorize("service-sg1", `"8080/8080"`)
	s.answers(t, ordersURL)
}
