// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package labs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const privateAPI = "../../examples/private-api"

// fromDesk is the desk behind the site's router, in the words of explain.
const fromDesk = "link/onprem/" + deskAddress

// TestPrivateAPIFromASiteWithStockClients reaches a private API from a site,
// as the first walk-through tells it, and then lets it go wrong in each of the
// ways that it names.
func TestPrivateAPIFromASiteWithStockClients(t *testing.T) {
	t.Parallel()
	l := newLab(t, "wg", "wg-quick", "wireguard-go", "dig", "nslookup", "curl", "ping", "openssl", "ss")
	l.ok("apply", "-f", absolute(t, privateAPI))
	l.ok("deploy", "petstore", "--stage", "test")
	endpoint, api := l.status("endpoint", "corp"), l.status("api", "petstore")
	router, desk := l.site(l.ok("config", "wireguard", "link/onprem"))
	header := "x-apigw-api-id: " + api.ID
	base := "https://" + endpoint.Host

	// call calls a URL from the desk and compares.
	call := func(t *testing.T, want, code, url string, headers ...string) (answer, explained) {
		t.Helper()
		var args []string
		for _, h := range headers {
			args = append(args, "-H", h)
		}
		a := desk.curl(l.ca, append(args, url)...)
		in := *l
		in.t = t
		return a, in.agrees(fromDesk, url, headers, a.symptom, want, code)
	}

	t.Run("the name has a private address", func(t *testing.T) {
		if len(endpoint.Addresses) != 1 || !strings.HasPrefix(endpoint.Addresses[0], "10.20.1.") {
			t.Fatalf("the Endpoint has %v", endpoint.Addresses)
		}
		if out := desk.ok("nslookup", endpoint.Host, resolver); !strings.Contains(out, "Address: "+endpoint.Addresses[0]+"\n") {
			t.Errorf("nslookup: %s", out)
		}
		for _, how := range []string{"+notcp", "+tcp"} {
			out := desk.ok("dig", "+short", "+time=2", "+tries=1", how, endpoint.Host, "@"+resolver)
			if out != endpoint.Addresses[0]+"\n" {
				t.Errorf("dig %s: %s", how, out)
			}
		}
		e := l.explain(fromDesk, "dns://"+endpoint.Host)
		if e.Symptom.Kind != "answer" || e.Code != "dns/answered" || !slices.Equal(e.Symptom.Addresses, endpoint.Addresses) {
			t.Errorf("explain: %+v", e)
		}
	})
	t.Run("with the header the API answers", func(t *testing.T) {
		a, _ := call(t, "response 200", "backend/ok", base+"/test/pets", header)
		if a.line != "HTTP/1.1 200 OK" || !strings.Contains(a.Body, `"type":"dog"`) {
			t.Errorf("%s %s", a.line, a.Body)
		}
		out := desk.ok("curl", "-sS", "--max-time", "5", "--cacert", l.ca, "-IX", "GET", "-H", header, base+"/test")
		if !strings.HasPrefix(out, "HTTP/1.1 200 OK\r\n") {
			t.Errorf("curl -IX GET: %s", out)
		}
	})
	t.Run("the certificate is the Endpoint's", func(t *testing.T) {
		certificate(t, desk, l.ca, endpoint.Addresses[0]+":443", endpoint.Host)
	})
	t.Run("the reason stays with the operator", func(t *testing.T) {
		a := desk.curl(l.ca, base+"/test/pets")
		_, after, _ := strings.Cut(strings.ToLower(a.head), "x-postern-request-id: ")
		id, _, _ := strings.Cut(after, "\r\n")
		if r := l.postern("why", id); r.code != 0 || !strings.Contains(r.out, "api/id-missing") {
			t.Errorf("why %s: %s", id, r)
		}
	})
	for _, c := range []struct {
		name, want, code, url string
		headers               []string
	}{
		{"no header", "response 403", "api/id-missing", base + "/test/pets", nil},
		{"the id of another API", "response 403", "api/id-unknown", base + "/test/pets", []string{"x-apigw-api-id: aaaaaaaaaa"}},
		{"no stage in the path", "response 403", "stage/missing", base + "/pets", []string{header}},
		{"a stage that does not exist", "response 403", "stage/missing", base + "/prod/pets", []string{header}},
		{"an operation that does not exist", "response 403", "method/unknown", base + "/test/cars", []string{header}},
		{"a name that is not public", "nxdomain", "dns/nxdomain", "https://" + api.Host + "/test/pets", nil},
		{"a port that no group admits", "timeout", "sg/no-inbound-rule", base + ":8443/test/pets", []string{header}},
	} {
		t.Run(c.name, func(t *testing.T) { call(t, c.want, c.code, c.url, c.headers...) })
	}
	t.Run("a port that is admitted and closed", func(t *testing.T) {
		l.apply("SecurityGroup", "execute-api", admit(`"443", "8443"`))
		call(t, "refused", "listen/refused", base+":8443/test/pets", header)
		call(t, "response 200", "backend/ok", base+"/test/pets", header)
	})
	t.Run("ping where ICMP is admitted", func(t *testing.T) {
		ping(t, desk, endpoint.Addresses[0], false)
		ping(t, desk, resolver, true)
		l.apply("SecurityGroup", "execute-api",
			`{network: corp, rules: [{direction: inbound, protocol: icmp, from: [192.168.50.0/24]}, {direction: inbound, protocol: tcp, ports: ["443"], from: [192.168.50.0/24]}]}`)
		ping(t, desk, endpoint.Addresses[0], true)
	})
	t.Run("a rule that is gone", func(t *testing.T) {
		l.apply("SecurityGroup", "execute-api", "{network: corp, rules: []}")
		call(t, "timeout", "sg/no-inbound-rule", base+"/test/pets", header)
		l.apply("SecurityGroup", "execute-api", admit(`"443"`))
		call(t, "response 200", "backend/ok", base+"/test/pets", header)
	})
	t.Run("a group that admits somebody else", func(t *testing.T) {
		l.apply("SecurityGroup", "execute-api", strings.ReplaceAll(admit(`"443"`), "192.168.50.0/24", "192.168.50.64/26"))
		call(t, "timeout", "sg/no-inbound-rule", base+"/test/pets", header)
		l.apply("SecurityGroup", "execute-api", admit(`"443"`))
	})
	t.Run("an Endpoint whose policy denies", func(t *testing.T) {
		l.apply("Endpoint", "corp", `{gateway: main, subnets: [corp-endpoints], securityGroups: [execute-api], privateDNS: false,
  policy: {Version: "2012-10-17", Statement: [
    {Effect: Allow, Principal: "*", Action: "execute-api:Invoke", Resource: "*"},
    {Effect: Deny, Principal: "*", Action: "execute-api:Invoke", Resource: "*", Condition: {IpAddress: {"aws:VpcSourceIp": 192.168.50.0/24}}}]}}`)
		call(t, "response 403", "endpoint/policy-deny", base+"/test/pets", header)
		l.apply("Endpoint", "corp", "{gateway: main, subnets: [corp-endpoints], securityGroups: [execute-api], privateDNS: false}")
	})
	t.Run("an Endpoint that is rejected", func(t *testing.T) {
		l.ok("endpoint", "reject", "corp")
		call(t, "timeout", "endpoint/rejected", base+"/test/pets", header)
		l.ok("endpoint", "approve", "corp")
		call(t, "response 200", "backend/ok", base+"/test/pets", header)
	})
	t.Run("a policy that was changed and is not deployed", func(t *testing.T) {
		l.apply("API", "petstore", policy("vpce-00000000000000000"))
		if _, e := call(t, "response 200", "backend/ok", base+"/test/pets", header); !e.finds("stage/stale") {
			t.Errorf("explain finds %v, want stage/stale", e.Findings)
		}
		l.ok("deploy", "petstore", "--stage", "test")
		call(t, "response 403", "policy/explicit-deny", base+"/test/pets", header)
		l.apply("API", "petstore", policy("${Endpoint/corp.id}"))
		l.ok("deploy", "petstore", "--stage", "test")
		call(t, "response 200", "backend/ok", base+"/test/pets", header)
	})
	t.Run("a stage without a deployment", func(t *testing.T) {
		l.apply("Stage", "petstore.empty", "{}")
		call(t, "response 403", "stage/not-deployed", base+"/empty/pets", header)
	})
	t.Run("a key that was replaced", func(t *testing.T) {
		conf := l.ok("config", "wireguard", "link/onprem")
		call(t, "timeout", "route/link-down", base+"/test/pets", header)
		router.untunnel(router.tunnels[len(router.tunnels)-1])
		call(t, "timeout", "route/link-down", base+"/test/pets", header)
		router.tunnel(conf)
		call(t, "response 200", "backend/ok", base+"/test/pets", header)
	})
	t.Run("the server listens on what was asked for", func(t *testing.T) {
		want := []string{"tcp " + management, "udp " + hubAddress + ":51820"}
		if got := l.hub.sockets(); !slices.Equal(got, want) {
			t.Errorf("the server listens on %v, want %v", got, want)
		}
		certificate(t, router, l.ca, management, "main.management.postern.internal")
	})
}

// admit is the example's group with other ports.
func admit(ports string) string {
	return fmt.Sprintf("{network: corp, rules: [{name: https-from-the-site, direction: inbound, protocol: tcp, ports: [%s], from: [192.168.50.0/24]}]}", ports)
}

// policy is the example's API, whose policy denies all but one Endpoint.
func policy(endpoint string) string {
	return fmt.Sprintf(`
  gateway: main
  type: private
  openapi: example:petstore
  policy:
    Version: "2012-10-17"
    Statement:
      - {Effect: Deny, Principal: "*", Action: "execute-api:Invoke", Resource: "execute-api:/*/*/*", Condition: {StringNotEquals: {"aws:SourceVpce": %q}}}
      - {Effect: Allow, Principal: "*", Action: "execute-api:Invoke", Resource: "execute-api:/*/*/*"}`, endpoint)
}

// TestSiteReachesTheEndpointOverIPv6 gives everything a second family.
func TestSiteReachesTheEndpointOverIPv6(t *testing.T) {
	t.Parallel()
	l := newLab(t, "wg", "wg-quick", "wireguard-go", "dig", "curl", "ping")
	l.ok("apply", "-f", absolute(t, privateAPI))
	l.apply("Network", "corp", `{cidrs: [10.20.0.0/16, "fd00:20::/48"]}`)
	l.apply("Subnet", "corp-six", `{network: corp, cidr: "fd00:20:0:1::/64"}`)
	l.apply("Link", "onprem", `{network: corp, type: direct-connect, cidrs: [192.168.50.0/24, "fd00:50::/64"]}`)
	l.apply("SecurityGroup", "execute-api", `{network: corp, rules: [{direction: inbound, protocol: any, from: ["fd00:50::/64"]}]}`)
	l.apply("Endpoint", "corp", "{gateway: main, subnets: [corp-endpoints, corp-six], securityGroups: [execute-api], privateDNS: false}")
	l.ok("deploy", "petstore", "--stage", "test")
	endpoint, api := l.status("endpoint", "corp"), l.status("api", "petstore")
	router, desk := l.site(l.ok("config", "wireguard", "link/onprem"))
	router.sysctl("ipv6/conf/all/forwarding", "1")
	router.ip("addr", "add", "fd00:50::1/64", "dev", "lan0", "nodad")
	desk.ip("addr", "add", "fd00:50::10/64", "dev", "eth0", "nodad")
	desk.ip("route", "add", "default", "via", "fd00:50::1")

	six := strings.TrimSpace(desk.ok("dig", "+short", "+time=2", "+tries=1", "AAAA", endpoint.Host, "@"+resolver))
	if !strings.HasPrefix(six, "fd00:20:0:1:") || !slices.Contains(endpoint.Addresses, six) {
		t.Fatalf("AAAA %q of %v", six, endpoint.Addresses)
	}
	url, header := "https://"+endpoint.Host+"/test/pets", "x-apigw-api-id: "+api.ID
	a := desk.curl(l.ca, "-6", "-H", header, url)
	l.agrees("link/onprem/fd00:50::10", url, []string{header}, a.symptom, "response 200", "backend/ok")
	ping(t, desk, six, true)
	a = desk.curl(l.ca, "-6", "-H", header, "https://"+endpoint.Host+":8443/test/pets")
	if a.Kind != "refused" {
		t.Errorf("a closed port is %s, want refused", a)
	}
	// The group admits the second family alone.
	a = desk.curl(l.ca, "-4", "-H", header, url)
	if a.Kind != "timeout" {
		t.Errorf("IPv4 is %s, want timeout", a)
	}
}

// TestTunnelsOutliveTheServer ends a server and starts it again on its data:
// the site's client and its file stay as they are.
func TestTunnelsOutliveTheServer(t *testing.T) {
	t.Parallel()
	l := newLab(t, "wg", "wg-quick", "wireguard-go", "curl")
	l.ok("apply", "-f", absolute(t, privateAPI))
	l.ok("deploy", "petstore", "--stage", "test")
	_, desk := l.site(l.ok("config", "wireguard", "link/onprem"))
	url, header := "https://"+l.status("endpoint", "corp").Host+"/test/pets", "x-apigw-api-id: "+l.status("api", "petstore").ID
	call := func() answer { return desk.curl(l.ca, "-H", header, url) }
	if a := call(); a.Status != 200 {
		t.Fatalf("before: %s", a.raw)
	}
	l.server.stop()
	if a := call(); a.Kind != "timeout" {
		t.Errorf("meanwhile: %s %s, want timeout", a, a.raw)
	}
	l.serve()
	// A client asks for a new session 15 s after its last one fell silent.
	if !eventually(func() bool { return call().Status == 200 }) {
		t.Errorf("after: %s", call().raw)
	}
	// What was deployed is served under the names and ids that it had.
	a := call()
	l.agrees(fromDesk, url, []string{header}, a.symptom, "response 200", "backend/ok")
}
