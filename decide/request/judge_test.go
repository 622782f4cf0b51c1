// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

const (
	forbidden = `{"message":"Forbidden"}`
	noRoute   = `{"message":"Missing Authentication Token"}`
	notAuth   = `{"Message":"User: anonymous is not authorized to perform: execute-api:Invoke on resource: arn:aws:execute-api:eu-1:********0000:`
	noMatch   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"arn:aws:execute-api:eu-1:000000000000:other/*"}]}`
	withDeny  = ` with an explicit deny"}`
)

// codes lists the steps; a stop is marked "!", a skip "-", a finding "?".
func codes(v *request.Verdict) string {
	var out []string
	for _, s := range v.Steps() {
		out = append(out, s.Code+[...]string{"", "!", "-", "?"}[s.Outcome])
	}
	return strings.Join(out, " ")
}

func TestEachWayToInvokeAndEachWayItGoesWrong(t *testing.T) {
	w := newWorld(t)
	private := w.priv.Host
	alias := privID + "-" + vpce + ".execute-api.eu-1." + base
	id := func(v string) func(*request.Arrival) {
		return func(a *request.Arrival) { a.APIID, a.HasAPIID = v, true }
	}
	for _, x := range []struct {
		name         string
		at           *snapshot.Endpoint
		method       string
		host, path   string
		with         func(*request.Arrival)
		code, body   string
		errorType    string
		status       int
		steps, route string
	}{
		{
			name: "private DNS name", at: w.corp, host: private, path: "/prod/pets", code: "policy/allow",
			steps: "tls/ok api/found stage/found endpoint/accepted method/found policy/allow", route: "/pets",
		},
		{name: "Endpoint name with id", at: w.corp, host: w.corp.Host, path: "/prod/pets", with: id(privID), code: "policy/allow"},
		{
			name: "Endpoint name with the API's host", at: w.corp, host: w.corp.Host, path: "/prod/pets",
			with: func(a *request.Arrival) { a.Host = private + ":443" }, code: "policy/allow",
		},
		{name: "associated name", at: w.corp, host: alias, path: "/prod", code: "policy/allow", route: "/"},
		{name: "name in capitals with a final dot", at: w.corp, host: strings.ToUpper(private) + ".", path: "/prod/", code: "policy/allow", route: "/"},
		{name: "private Domain", at: w.corp, host: w.vip.Name, path: "/o/pets/1", code: "policy/allow", route: "/pets/1"},
		{name: "Gateway's name", at: w.corp, host: w.g.Host, path: "/orders/pets", code: "policy/allow", route: "/pets"},
		{
			name: "Gateway's name, public API at an Endpoint", at: w.corp, host: w.g.Host, path: "/shop/v1/pets", code: "method/found",
			steps: "tls/ok api/found stage/found endpoint/accepted method/found policy/absent-",
		},
		{name: "header before Host", at: w.corp, host: w.pub.Host, path: "/prod/pets", with: id(privID), code: "policy/allow"},
		{name: "public API", host: w.pub.Host, path: "/prod/pets", code: "method/found", route: "/pets"},
		{name: "Domain over a wildcard", host: "a.shop.example", path: "/pets", code: "method/found", route: "/pets"},
		{name: "Domain, longest path", host: "a.shop.example", path: "/orders/v1/items/pets", code: "method/found", route: "/pets"},
		{name: "method override", host: w.pub.Host, path: "/prod/pets", with: func(a *request.Arrival) { a.Method, a.Override = "GET", "POST" }, code: "method/found"},

		{name: "no id", at: w.corp, host: w.corp.Host, path: "/prod/pets", code: "api/id-missing", status: 403, body: forbidden, errorType: "ForbiddenException"},
		{name: "unknown id", at: w.corp, host: w.corp.Host, path: "/prod/pets", with: id("nosuchapi0"), code: "api/id-unknown", status: 403, body: forbidden, errorType: "ForbiddenException"},
		{name: "empty id", at: w.corp, host: private, path: "/prod/pets", with: id(""), code: "api/id-unknown", status: 403, body: forbidden},
		{name: "unknown execute-api name", at: w.corp, host: "nosuchapi0.execute-api.eu-1." + base, path: "/prod/pets", code: "api/id-unknown", status: 403, body: forbidden},
		{
			name: "unknown name", at: w.corp, host: "nosuch.example", path: "/prod/pets", code: "host/unknown", status: 403, body: forbidden,
			steps: "tls/unknown-name- host/unknown!",
		},
		{name: "another Endpoint's name", at: w.corp, host: w.lab.Host, path: "/prod/pets", code: "host/unknown", status: 403, body: forbidden},
		{name: "alias at another Endpoint", at: w.lab, host: alias, path: "/prod/pets", code: "host/unknown", status: 403, body: forbidden},
		{name: "public API at an Endpoint", at: w.corp, host: w.pub.Host, path: "/prod/pets", code: "api/not-private", status: 403, body: forbidden, errorType: "ForbiddenException"},
		{name: "public API's id at an Endpoint", at: w.corp, host: w.corp.Host, path: "/prod/pets", with: id(pubID), code: "api/not-private", status: 403, body: forbidden},
		{name: "private API on the public address", host: private, path: "/prod/pets", code: "host/unknown", status: 403, body: forbidden},
		{name: "id on the public address counts nothing", host: w.g.Host, path: "/prod/pets", with: id(privID), code: "api/id-unknown", status: 403, body: forbidden},
		{name: "private API's path on the public address", host: w.g.Host, path: "/orders/pets", code: "api/id-unknown", status: 403, body: forbidden},
		{name: "Endpoint's name on the public address", host: w.corp.Host, path: "/prod/pets", with: id(privID), code: "host/unknown", status: 403, body: forbidden},
		{name: "no such path", host: w.g.Host, path: "/shop/v2/pets", code: "api/id-unknown", status: 403, body: forbidden},
		{name: "path of half a segment", host: w.g.Host, path: "/shop/v10/pets", code: "api/id-unknown", status: 403, body: forbidden},
		{name: "private Domain on the public address", host: w.vip.Name, path: "/o/pets", code: "host/unknown", status: 403, body: forbidden},
		{name: "private Domain at another Endpoint", at: w.lab, host: w.vip.Name, path: "/o/pets", code: "host/unknown", status: 403, body: forbidden},
		{name: "public Domain at an Endpoint", at: w.corp, host: "a.shop.example", path: "/pets", code: "host/unknown", status: 403, body: forbidden},
		{name: "Domain without the path", at: w.corp, host: w.vip.Name, path: "/pets", code: "api/id-unknown", status: 403, body: forbidden},
		{name: "two labels under a wildcard", host: "a.b.shop.example", path: "/pets", code: "host/unknown", status: 403, body: forbidden},

		{name: "no stage", at: w.corp, host: private, path: "/", code: "stage/missing", status: 403, body: forbidden, errorType: "ForbiddenException"},
		{name: "unknown stage", at: w.corp, host: private, path: "/test/pets", code: "stage/missing", status: 403, body: forbidden},
		{name: "mapping to no stage", host: w.g.Host, path: "/broken/pets", code: "stage/missing", status: 403, body: forbidden},
		{name: "unknown path", at: w.corp, host: private, path: "/prod/dogs", code: "method/unknown", status: 403, body: noRoute, errorType: "MissingAuthenticationTokenException"},
		{name: "unknown method", at: w.corp, method: "DELETE", host: private, path: "/prod/pets", code: "method/unknown", status: 403, body: noRoute},
		{
			name: "other Endpoint", at: w.lab, host: private, path: "/prod/pets/1", code: "policy/explicit-deny", status: 403,
			body: notAuth + `privateapi/prod/GET/pets/1` + withDeny, errorType: "AccessDeniedException",
			steps: "tls/ok api/found stage/found endpoint/accepted method/found policy/explicit-deny!",
		},
		{name: "root at another Endpoint", at: w.lab, host: private, path: "/prod", code: "policy/explicit-deny", status: 403, body: notAuth + `privateapi/prod/GET/` + withDeny},
		{name: "path in the body is a JSON string", at: w.lab, host: private, path: `/prod/pets/"x`, code: "policy/explicit-deny", status: 403, body: notAuth + `privateapi/prod/GET/pets/\"x` + withDeny},
	} {
		t.Run(x.name, func(t *testing.T) {
			method := x.method
			if method == "" {
				method = "GET"
			}
			a := w.at(x.at, method, x.host, x.path)
			if x.with != nil {
				x.with(a)
			}
			v := request.Judge(w.Snapshot, a, false)
			if v.Code() != x.code || v.Allowed != (x.status == 0) {
				t.Errorf("got %s, allowed %v; steps %s", v.Code(), v.Allowed, codes(&v))
			}
			if v.Response.Status != x.status || v.Response.Body != x.body {
				t.Errorf("answers %d %s", v.Response.Status, v.Response.Body)
			}
			if x.errorType != "" && v.Response.ErrorType != x.errorType {
				t.Errorf("error type %s", v.Response.ErrorType)
			}
			if x.steps != "" && codes(&v) != x.steps {
				t.Errorf("steps %s", codes(&v))
			}
			if x.route != "" && v.Path != x.route {
				t.Errorf("path %s", v.Path)
			}
			every := request.Judge(w.Snapshot, a, true)
			if every.Code() != v.Code() || !cmp.Equal(every.Response, v.Response) || every.Allowed != v.Allowed {
				t.Errorf("judging everything changes the verdict: %s %+v", every.Code(), every.Response)
			}
		})
	}
}

func TestPoliciesAndWhatTheyAnswer(t *testing.T) {
	const (
		allowPets = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/prod/GET/pets"}]}`
		denyAll   = `{"Version":"2012-10-17","Statement":[{"Sid":"Closed","Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}]}`
		allowNone = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"arn:aws:execute-api:eu-1:000000000000:other/*"}]}`
		sourceIP  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*","Condition":{"IpAddress":{"KEY":["10.0.0.0/8","198.51.100.0/24"]}}}]}`
	)
	for _, x := range []struct {
		name, endpoint, api, domain string
		host                        string
		code, body, rule            string
	}{
		{name: "implicit deny", api: allowNone, code: "policy/no-allow", body: notAuth + `privateapi/prod/GET/pets/1"}`, rule: "spec.policy"},
		{name: "no policy", code: "policy/absent", body: notAuth + `privateapi/prod/GET/pets/1"}`, rule: "spec.policy"},
		{name: "explicit deny", api: denyVpce, endpoint: "", host: "", code: "policy/allow"},
		{name: "the path asked for, not the template", api: allowPets, code: "policy/no-allow", body: notAuth + `privateapi/prod/GET/pets/1"}`},
		{name: "Endpoint denies", api: allowAll, endpoint: denyAll, code: "endpoint/policy-deny", body: notAuth + `privateapi/prod/GET/pets/1` + withDeny, rule: "spec.policy.Statement[0]"},
		{name: "Endpoint does not allow", api: allowAll, endpoint: allowNone, code: "endpoint/policy-no-allow", body: notAuth + `privateapi/prod/GET/pets/1"}`},
		{name: "Endpoint before API", api: denyAll, endpoint: allowNone, code: "endpoint/policy-no-allow", body: notAuth + `privateapi/prod/GET/pets/1"}`},
		{name: "Domain denies", api: allowAll, domain: denyAll, host: "orders.corp.example", code: "policy/explicit-deny", body: forbidden, rule: "spec.policy.Statement[0]"},
		{name: "Domain allows", api: allowAll, domain: allowAll, host: "orders.corp.example", code: "policy/allow"},
		{name: "SourceIp is absent behind an Endpoint", api: strings.ReplaceAll(sourceIP, "KEY", "aws:SourceIp"), code: "policy/no-allow", body: notAuth + `privateapi/prod/GET/pets/1"}`},
		{name: "VpcSourceIp", api: strings.ReplaceAll(sourceIP, "KEY", "aws:VpcSourceIp"), code: "policy/allow"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t)
			w.deployment.Policy = nil
			if x.api != "" {
				w.deployment.Policy = policy(t, x.api, privID)
			}
			if x.endpoint != "" {
				w.corp.Policy = policy(t, x.endpoint, "")
			}
			if x.domain != "" {
				w.vip.Policy = policy(t, x.domain, "")
			}
			host, path := w.priv.Host, "/prod/pets/1"
			if x.host != "" {
				host, path = x.host, "/o/pets/1"
			}
			v := request.Judge(w.Snapshot, w.at(w.corp, "GET", host, path), false)
			if v.Code() != x.code || v.Response.Body != x.body {
				t.Errorf("got %s %s; steps %s", v.Code(), v.Response.Body, codes(&v))
			}
			if rule := v.Steps()[v.Decided()].Rule(); x.rule != "" && rule.Path != x.rule {
				t.Errorf("rule %+v", rule)
			}
		})
	}
}

func TestPublicAPIsSeeTheSourceAddressOnly(t *testing.T) {
	w := newWorld(t)
	w.pub.Stages["prod"].Deployment.Policy = policy(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*",
		"Condition":{"IpAddress":{"aws:SourceIp":"198.51.100.7"},"Null":{"aws:SourceVpce":"true","aws:SourceVpc":"true","aws:VpcSourceIp":"true"}}}]}`, pubID)
	if v := request.Judge(w.Snapshot, w.at(nil, "GET", w.pub.Host, "/prod/pets"), false); v.Code() != "policy/allow" {
		t.Error(codes(&v))
	}
}

func TestEveryStopIsListed(t *testing.T) {
	w := newWorld(t)
	w.corp.Policy = policy(t, noMatch, "")
	w.deployment.Policy = policy(t, noMatch, privID)
	w.prod.Stale = []string{"spec.policy"}
	for _, x := range []struct{ host, path, want string }{
		{w.priv.Host, "/prod/dogs", "tls/ok api/found stage/found stage/stale? endpoint/policy-no-allow! method/unknown! policy/no-allow!"},
		{w.priv.Host, "/pets/1", "tls/ok api/found stage/missing! endpoint/policy-no-allow! method/found policy/no-allow!"},
		{w.priv.Host, "/test/pets", "tls/ok api/found stage/missing! endpoint/policy-no-allow! method/found policy/no-allow!"},
		{w.pub.Host, "/prod/dogs", "tls/ok api/not-private! stage/found endpoint/policy-no-allow! method/unknown! policy/absent-"},
		{"nosuch.example", "/prod/dogs", "tls/unknown-name! host/unknown!"},
	} {
		a := w.at(w.corp, "GET", x.host, x.path)
		a.Verify = true
		v := request.Judge(w.Snapshot, a, true)
		if diff := cmp.Diff(x.want, codes(&v)); diff != "" {
			t.Errorf("%s%s: %s", x.host, x.path, diff)
		}
	}
}

func TestAVerifyingCallerStopsAtAWrongCertificate(t *testing.T) {
	w := newWorld(t)
	a := w.at(w.corp, "GET", "lb.example", "/prod/pets")
	a.APIID, a.HasAPIID, a.Verify = privID, true, true
	if v := request.Judge(w.Snapshot, a, false); v.Code() != "tls/unknown-name" || v.Symptom != request.Handshake || v.Allowed {
		t.Errorf("%s, symptom %d", codes(&v), v.Symptom)
	}
	a.Verify = false
	if v := request.Judge(w.Snapshot, a, false); !v.Allowed {
		t.Errorf("insecure: %s", codes(&v))
	}
}

func TestCertificatesAreFewAndFit(t *testing.T) {
	w := newWorld(t)
	for _, x := range []struct {
		e         *snapshot.Endpoint
		sni, name string
		ok        bool
	}{
		{w.corp, w.priv.Host, "*.execute-api.eu-1." + base, true},
		{w.corp, "anything.execute-api.eu-1." + base, "*.execute-api.eu-1." + base, true},
		{w.corp, "two.labels.execute-api.eu-1." + base, "*.execute-api.eu-1." + base, false},
		{w.corp, "x.execute-api.eu-10." + base, "*.execute-api.eu-1." + base, false},
		{w.corp, w.corp.Host, "*.execute-api.eu-1.vpce." + base, true},
		{w.corp, w.vip.Name, w.vip.Name, true},
		{w.lab, w.vip.Name, "*.execute-api.eu-1." + base, false},
		{w.corp, "a.shop.example", "*.execute-api.eu-1." + base, false},
		{nil, "a.shop.example", "*.shop.example", true},
		{nil, w.g.Host, w.g.Host, true},
		{nil, "", "*.execute-api.eu-1." + base, false},
	} {
		if name, ok := request.Certificate(w.Snapshot, w.g, x.e, x.sni); name != x.name || ok != x.ok {
			t.Errorf("%s: %s, %v", x.sni, name, ok)
		}
	}
}

func TestPublicAccessOffAnswersWithTheReason(t *testing.T) {
	w := newWorld(t)
	w.g.PublicAccess = false
	v := request.Judge(w.Snapshot, w.at(nil, "GET", w.pub.Host, "/prod/pets"), false)
	const want = `{ "statusCode": 403, "message": "Request originated from client public IP address 198.51.100.7, public network access on this 'Microsoft.ApiManagement/service/main' is disabled.\r\nTo connect to 'Microsoft.ApiManagement/service/main', please use the Private Endpoint from inside your virtual network." }`
	if v.Code() != "listen/public-access-off" || v.Response.Status != 403 || v.Response.Body != want {
		t.Errorf("%s %d\n%s", v.Code(), v.Response.Status, v.Response.Body)
	}
	if v := request.Judge(w.Snapshot, w.at(w.corp, "GET", w.priv.Host, "/prod/pets"), false); !v.Allowed {
		t.Errorf("at the Endpoint: %s", codes(&v))
	}
}

func TestClearTextIsRedirectedWhereAsked(t *testing.T) {
	w := newWorld(t)
	a := w.at(nil, "GET", w.pub.Host, "/prod/pets")
	a.TLS, a.Query = false, "page=2"
	w.g.HTTP = "redirect"
	v := request.Judge(w.Snapshot, a, false)
	if !v.Allowed || !v.Redirect || v.Response.Status != 308 || v.Response.Location != "https://"+w.pub.Host+"/prod/pets?page=2" {
		t.Errorf("%+v", v.Response)
	}
	for host, want := range map[string]string{"": w.g.Host, "fd00::1": "[fd00::1]", "[fd00::1]:80": "[fd00::1]"} {
		a.Host = host
		if v := request.Judge(w.Snapshot, a, false); v.Response.Location != "https://"+want+"/prod/pets?page=2" {
			t.Errorf("host %q: %s", host, v.Response.Location)
		}
	}
	a.Origin = &snapshot.Origin{Source: a.Origin.Source, Local: netip.MustParseAddrPort("0.0.0.0:80")}
	for _, x := range []struct {
		host, port     string
		socket, secure uint16
		want           string
	}{
		{"a.example", "", 80, 443, "a.example"},
		{"a.example", "", 80, 8443, "a.example:8443"},
		{"a.example", "80", 80, 8443, "a.example:8443"},
		{"a.example", "8080", 8080, 8443, "a.example:8443"},
		{"fd00::1", "8080", 8080, 8443, "[fd00::1]:8443"},
		{"a.example", "8080", 8080, 443, "a.example"},
		{"a.example", "", 8080, 8443, "a.example"}, // something in front moves ports back
		{"a.example", "8080", 0, 0, "a.example"},   // on the segment
	} {
		a.Host, a.Port, a.Origin.Socket, a.Origin.SocketTLS = x.host, x.port, x.socket, x.secure
		if v := request.Judge(w.Snapshot, a, false); v.Response.Location != "https://"+x.want+"/prod/pets?page=2" {
			t.Errorf("%+v: %s", x, v.Response.Location)
		}
	}
	a.Host, a.Port = w.pub.Host, ""
	w.g.HTTP = "serve"
	if v := request.Judge(w.Snapshot, a, false); !v.Allowed || v.Redirect {
		t.Errorf("serve: %s", codes(&v))
	}
}

func TestWhatIsNotDeployedIsNotServed(t *testing.T) {
	w := newWorld(t)
	w.prod.Deployment = nil
	v := request.Judge(w.Snapshot, w.at(w.corp, "GET", w.priv.Host, "/prod/pets"), false)
	if v.Code() != "stage/not-deployed" || v.Response.Body != forbidden {
		t.Error(codes(&v))
	}
	if r := v.Steps()[v.Decided()].Rule(); r.Resource != (model.Ref{Kind: model.KindStage, Name: "orders.prod"}) {
		t.Errorf("rule %+v", r)
	}
}

func TestADisabledDefaultNameLeavesOtherNames(t *testing.T) {
	w := newWorld(t)
	w.deployment.DisableExecuteAPIEndpoint = true
	if v := request.Judge(w.Snapshot, w.at(w.corp, "GET", w.priv.Host, "/prod/pets"), false); v.Code() != "host/unknown" || v.Response.Body != forbidden {
		t.Error(codes(&v))
	}
	if v := request.Judge(w.Snapshot, w.at(w.corp, "GET", w.vip.Name, "/o/pets"), false); !v.Allowed {
		t.Error(codes(&v))
	}
}

func TestAKeyIsDemandedThoughNoneIsKnown(t *testing.T) {
	w := newWorld(t)
	w.deployment.Operations = table(t, `{"openapi":"3.0.1","servers":[{"url":"http://x"}],"components":{"securitySchemes":{"k":{"type":"apiKey","name":"x-api-key","in":"header"}}},
		"paths":{"/a":{"get":{"security":[{"k":[]}]}}}}`)
	a := w.at(w.corp, "GET", w.priv.Host, "/prod/a")
	if v := request.Judge(w.Snapshot, a, false); v.Code() != "auth/key-missing" || v.Response.Body != forbidden {
		t.Error(codes(&v))
	}
	a.Key, a.HasKey = "guess", true
	if v := request.Judge(w.Snapshot, a, false); v.Code() != "auth/key-unknown" {
		t.Error(codes(&v))
	}
}

func TestAPolicyCannotBeGotRoundBySpelling(t *testing.T) {
	w := newWorld(t)
	w.deployment.Operations = table(t, `{"openapi":"3.0.1","servers":[{"url":"http://x"}],"paths":{"/{proxy+}":{"get":{}}}}`)
	w.deployment.Policy = policy(t, `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*"},
		{"Effect":"Deny","Principal":"*","Action":"execute-api:Invoke","Resource":["execute-api:/prod/GET/admin","execute-api:/prod/GET/admin/*","execute-api:/prod/GET/users/root@corp:1"]}]}`, privID)
	for _, path := range []string{"/prod/admin", "/prod/admin/", "/prod/admin//", "/prod/%61dmin/x", "/prod/a/../admin", "/prod/a/%2e%2E/admin/x", "/prod/./admin", "/x/../prod/admin", "/%70rod/admin", "/prod/users/root%40corp%3a1"} {
		if v := request.Judge(w.Snapshot, w.at(w.corp, "GET", w.priv.Host, path), false); v.Code() != "policy/explicit-deny" {
			t.Errorf("%s: %s", path, codes(&v))
		}
	}
}

func TestWhatPoliciesCannotNameIsTooLong(t *testing.T) {
	w := newWorld(t)
	w.deployment.Operations = table(t, `{"openapi":"3.0.1","servers":[{"url":"http://x"}],"paths":{"/{proxy+}":{"get":{}}}}`)
	longest := 1600 - len("arn:aws:execute-api:eu-1:000000000000:"+privID+"/prod/GET/")
	for n, status := range map[int]int{longest: 0, longest + 1: 414} {
		for _, e := range []*snapshot.Endpoint{w.corp, w.lab} {
			if e == w.lab && status == 0 {
				status = 403
			}
			v := request.Judge(w.Snapshot, w.at(e, "GET", w.priv.Host, "/prod/"+strings.Repeat("x", n)), false)
			if v.Response.Status != status {
				t.Errorf("%d bytes: %s %d", n, codes(&v), v.Response.Status)
			}
			if status == 414 && (v.Response.Body != "Request URI too long" || v.Code() != "policy/no-allow") {
				t.Errorf("%d bytes: %s %q", n, codes(&v), v.Response.Body)
			}
		}
	}
}

func TestCanonicalPaths(t *testing.T) {
	for in, want := range map[string]string{
		"/a/b": "/a/b", "": "/", "*": "/*", "/%7e%2f": "/~%2F", "/%zz%4": "/%zz%4", "/a/.": "/a/", "/a/..": "/", "/..": "/",
		"/../../x": "/x", "/a/./b/../c": "/a/c", "/.well-known": "/.well-known", "/a..b/...": "/a..b/...", "/a//../b": "/a/b", "/..x/.": "/..x/",
		"/%21%24%27%28%29%2a%2C%3a%40": "/!$'()*,:@", "/%3b%3d%26%2b%3F%23%5b%c3%a9": "/%3B%3D%26%2B%3F%23%5B%C3%A9", "/a%2f..%2Fb": "/a%2F..%2Fb",
	} {
		if got := request.Canonical(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		if again := request.Canonical(request.Canonical(in)); again != want {
			t.Errorf("%q: twice %q", in, again)
		}
	}
}

func TestAnAPIMayAnswerInItsOwnWords(t *testing.T) {
	w := newWorld(t)
	w.deployment.Operations = table(t, `{"openapi":"3.0.1","servers":[{"url":"http://x"}],"paths":{"/a/{id}":{"get":{}}},
		"x-amazon-apigateway-gateway-responses":{
			"MISSING_AUTHENTICATION_TOKEN":{"statusCode":404,"responseParameters":{"gatewayresponse.header.Access-Control-Allow-Origin":"'*'","gatewayresponse.header.X-Api":"context.apiId"},
				"responseTemplates":{"application/json":"{\"error\":$context.error.messageString,\"type\":\"$context.error.responseType\",\"at\":\"$context.path\"}","text/plain":"$context.error.message"}},
			"DEFAULT_4XX":{"responseParameters":{"gatewayresponse.header.X-Id":"method.request.path.id"}}}}`)
	ask := func(e *snapshot.Endpoint, path, accept string) request.Response {
		a := w.at(e, "GET", w.priv.Host, path)
		a.Accept = accept
		v := request.Judge(w.Snapshot, a, false)
		return v.Response
	}
	r := ask(w.corp, "/prod/b", "")
	if r.Status != 404 || r.Body != `{"error":"Missing Authentication Token","type":"MISSING_AUTHENTICATION_TOKEN","at":"/prod/b"}` ||
		!cmp.Equal(r.Fields, []request.Field{{Name: "Access-Control-Allow-Origin", Value: "*"}, {Name: "X-Api", Value: privID}}) {
		t.Errorf("%+v", r)
	}
	if r := ask(w.corp, "/prod/b", "text/plain, */*"); r.Body != "Missing Authentication Token" || r.ContentType != "text/plain" {
		t.Errorf("%+v", r)
	}
	if r := ask(w.lab, "/prod/a/7%0d%0aX", ""); r.Status != 403 || !strings.HasPrefix(r.Body, notAuth) || !cmp.Equal(r.Fields, []request.Field{{Name: "X-Id", Value: "7X"}}) {
		t.Errorf("%+v", r)
	}
	if r := ask(w.corp, "/test/b", ""); r.Status != 403 || r.Body != forbidden {
		t.Errorf("before the Stage is known: %+v", r)
	}
}
