// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package labs

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// outside is a machine without a tunnel: it sees the real sockets that
// published ports are offered on, and explains from its own address.
type outside struct {
	*machine
	s    *services
	from string
}

func (s *services) outside() *outside {
	m := s.machine("outside")
	addr := regexp.MustCompile(`inet ([0-9.]+)/30`).FindStringSubmatch(m.ok("ip", "-o", "-4", "addr", "show", "dev", "up0"))
	if addr == nil {
		s.t.Fatal("the machine outside has no address")
	}
	return &outside{m, s, "internet/" + addr[1]}
}

// call calls a URL where its name has the address of the real sockets.
func (o *outside) call(url string, args ...string) answer {
	o.t.Helper()
	name, port := strings.TrimPrefix(url, "https://"), "443"
	name, _, _ = strings.Cut(name, "/")
	if n, p, ok := strings.Cut(name, ":"); ok {
		name, port = n, p
	}
	return o.curl(o.s.ca, append(args, "--resolve", name+":"+port+":"+public, url)...)
}

// sees holds what a call comes to, and the code that explain gives: on the
// internet segment, where what is not admitted is dropped, a caller waits; a real
// socket has accepted it by then and resets it.
func (o *outside) sees(t *testing.T, url, want, code string) explained {
	t.Helper()
	a := o.call(url)
	if a.String() != want {
		t.Errorf("%s: the caller sees %s, want %s: %s", url, a, want, a.raw)
	}
	in := *o.s.lab
	in.t = t
	e := in.explain(o.from, url)
	if e.Code != code {
		t.Errorf("%s: explain says %s, want %s: %+v", url, e.Code, code, e.Hops)
	}
	same := e.Symptom.Kind == a.Kind || e.Symptom.Kind == "timeout" && a.Kind == "reset"
	if !same || e.Symptom.Status != 0 && e.Symptom.Status != a.Status {
		t.Errorf("%s: the caller sees %s, explain says %s", url, a, e.Symptom.symptom)
	}
	return e
}

// front admits to the nodes what the rules say.
func (s *services) front(rules ...string) {
	s.t.Helper()
	s.apply("SecurityGroup", "front", "{network: corp, rules: ["+strings.Join(rules, ", ")+"]}")
}

const (
	fromInternet = `{name: clients, direction: inbound, protocol: tcp, ports: ["443"], from: ["tag:Internet"]}`
	fromPlane    = `{name: management, direction: inbound, protocol: tcp, ports: ["3443"], from: ["tag:ApiManagement"]}`
	toPlane      = `{name: management, direction: inbound, protocol: tcp, ports: ["3443"], from: ["tag:Internet"]}`
)

// TestPublishedPortsAreOpenAsGroupsSay offers an injected Gateway's ports on real
// sockets: the groups of its Subnet hold for them as in the Network.
func TestPublishedPortsAreOpenAsGroupsSay(t *testing.T) {
	t.Parallel()
	s := newServices(t, "--public", public)
	s.authorize("service-sg1", `"8080/8080"`)
	s.front()
	s.apply("Subnet", "nodes", "{network: corp, cidr: 10.20.1.0/28, securityGroup: front}")
	s.apply("Gateway", "main", "{region: eu-1, networkMode: external, subnet: nodes, privateAddress: 10.20.1.4}")
	out := s.outside()
	const plane = "https://main.management.postern.internal:3443/ServiceStatus"

	t.Run("nobody is admitted", func(t *testing.T) {
		e := out.sees(t, ordersURL, "reset", "sg/no-inbound-rule")
		if h := e.decided(); h.Layer != "sg-in" || h.Component != "Subnet/nodes" || h.Rule.Resource != "SecurityGroup/front" {
			t.Errorf("%+v decides", h)
		}
		out.sees(t, plane, "reset", "sg/no-inbound-rule")
		if c := s.status("gateway", "main").condition("ManagementReachable"); c.Status || !strings.Contains(c.Message, "main.management.postern.internal:3443") {
			t.Errorf("the condition ManagementReachable is %+v", c)
		}
		if got := s.atOrders.callers(t); len(got) != 0 {
			t.Errorf("orders was called by %v", got)
		}
	})
	t.Run("the internet is admitted", func(t *testing.T) {
		s.front(fromInternet, fromPlane)
		out.sees(t, ordersURL, "response 200", "backend/ok")
		if got := s.atOrders.callers(t); !slices.Equal(got, []string{nodeAddress}) {
			t.Errorf("orders was called by %v", got)
		}
		if a := out.call(ordersURL); !strings.HasPrefix(a.Body, "the backend ") {
			t.Errorf("%s", a.raw)
		}
		if c := s.status("gateway", "main").condition("ManagementReachable"); !c.Status {
			t.Errorf("the condition ManagementReachable is %+v", c)
		}
		// It is not for the Network, whose machines are not the internet.
		if a := s.clerk.curl(s.ca, ordersURL); a.Kind != "timeout" {
			t.Errorf("from the Network: %s", a.raw)
		}
	})
	t.Run("somebody else is admitted", func(t *testing.T) {
		s.front(strings.ReplaceAll(fromInternet, `"tag:Internet"`, "192.0.2.0/24"))
		out.sees(t, ordersURL, "reset", "sg/no-inbound-rule")
		s.front(strings.ReplaceAll(fromInternet, `"tag:Internet"`, "198.51.100.0/24"))
		out.sees(t, ordersURL, "response 200", "backend/ok")
	})
	t.Run("the other components", func(t *testing.T) {
		s.front(fromInternet, toPlane)
		out.sees(t, "https://main.portal.postern.internal/", "response 200", "listen/accepted")
		out.sees(t, "https://main.scm.postern.internal/", "response 200", "listen/accepted")
		out.sees(t, "https://main.management.postern.internal/ServiceStatus", "tls", "tls/unknown-name")
		// On the segment it has an address of its own where nothing listens. The real
		// one is shared, so that something accepts; the configuration is not served.
		const configuration = "https://main.configuration.postern.internal/ServiceStatus"
		if a := out.call(configuration); a.Kind != "tls" {
			t.Errorf("configuration: %s", a.raw)
		}
		if e := s.explain(out.from, configuration); e.Code != "listen/refused" {
			t.Errorf("configuration: explain says %s: %+v", e.Code, e.Hops)
		}
		out.sees(t, "https://main.postern.internal:8443/orders/index.html", "refused", "listen/refused")
	})
	t.Run("the management plane", func(t *testing.T) {
		s.front(fromInternet, toPlane)
		out.sees(t, plane, "response 200", "listen/accepted")
		const gateway = "https://main.management.postern.internal:3443/v1/gateways/main"
		if a := out.call(gateway); a.Status != 401 {
			t.Errorf("without a token: %s", a.raw)
		}
		a := out.call(gateway, "-H", "Authorization: Bearer "+s.token())
		var got struct{ Kind string }
		if a.Status != 200 || json.Unmarshal([]byte(a.Body), &got) != nil || got.Kind != "Gateway" {
			t.Errorf("with a token: %s", a.raw)
		}
		s.front(fromInternet, fromPlane)
		out.sees(t, plane, "reset", "sg/no-inbound-rule")
	})
	t.Run("Gateways share the address", func(t *testing.T) {
		s.front(fromInternet, toPlane)
		s.apply("Gateway", "inner", "{region: eu-2, networkMode: internal, subnet: nodes}")
		out.sees(t, ordersURL, "response 200", "backend/ok")
		out.sees(t, strings.Replace(plane, "main", "inner", 1), "response 200", "listen/accepted")
		if a := out.call("https://nobody.postern.internal/"); a.Kind != "tls" {
			t.Errorf("a name that none serves: %s", a.raw)
		}
		// Its port 443 is not published, though the address has one.
		if a := out.call("https://inner.postern.internal/"); a.Kind != "tls" {
			t.Errorf("a name that is not public: %s", a.raw)
		}
		s.ok("delete", "gateway", "inner")
	})
	t.Run("without injection everything is public", func(t *testing.T) {
		s.ok("delete", "securitygroupauthorization", "orders", "--cascade")
		s.apply("Gateway", "main", "{region: eu-1}")
		for component, path := range map[string]string{"portal": "/", "scm": "/", "management": "/ServiceStatus", "configuration": "/ServiceStatus"} {
			out.sees(t, "https://main."+component+".postern.internal"+path, "response 200", "listen/accepted")
		}
		out.sees(t, plane, "response 200", "listen/accepted")
		// It has no address in the Network of its backends any more.
		e := out.sees(t, ordersURL, "response 504", "route/none")
		if h := e.decided(); h.Layer != "backend-route" {
			t.Errorf("%+v decides", h)
		}
	})
	t.Run("outbound integration reaches backends", func(t *testing.T) {
		s.apply("Subnet", "integration", "{network: corp, cidr: 10.20.4.0/27, delegatedTo: main}")
		s.apply("Gateway", "main", "{region: eu-1, outbound: {subnet: integration}}")
		out.sees(t, ordersURL, "response 504", "sg/no-inbound-rule")
		s.authorize("service-sg1", `"8080/8080"`)
		out.sees(t, ordersURL, "response 200", "backend/ok")
		if got := s.atOrders.callers(t); !slices.Equal(got, []string{nodeAddress, "10.20.4.4"}) {
			t.Errorf("orders was called by %v", got)
		}
	})
	t.Run("internal mode leaves the management plane alone", func(t *testing.T) {
		s.front(fromInternet, toPlane)
		s.apply("Gateway", "main", "{region: eu-1, networkMode: internal, subnet: nodes, privateAddress: 10.20.1.4}")
		if a := out.call(ordersURL); a.Kind != "refused" {
			t.Errorf("the gateway: %s", a.raw)
		}
		if e := s.explain(out.from, ordersURL); e.Code != "dns/nxdomain" {
			t.Errorf("explain: %s %+v", e.Code, e.Hops)
		}
		out.sees(t, plane, "response 200", "listen/accepted")
		want := []string{"tcp " + public + ":3443", "tcp " + management, "udp " + hubAddress + ":51820"}
		slices.Sort(want)
		if got := s.hub.sockets(); !slices.Equal(got, want) {
			t.Errorf("the server listens on %v, want %v", got, want)
		}
	})
}

// token is the administrator's.
func (l *lab) token() string {
	l.t.Helper()
	settings, err := os.ReadFile(l.config)
	if err != nil {
		l.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^token: (\S+)$`).FindSubmatch(settings)
	if m == nil {
		l.t.Fatal("the client settings hold no token")
	}
	return string(m[1])
}
