// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam_test

import (
	"fmt"
	"net/netip"
	"testing"

	"postern.dev/postern/decide/iam"
	snapshot "postern.dev/postern/snapshot/iam"
)

// sample returns a value that an operator of that family can compare.
func sample(f snapshot.Family) string {
	switch f {
	case snapshot.FamilyNumeric:
		return "5"
	case snapshot.FamilyDate:
		return "2026-01-31T00:00:00Z"
	case snapshot.FamilyBool:
		return "true"
	case snapshot.FamilyBinary:
		return "cG9zdGVybg=="
	case snapshot.FamilyIP:
		return "10.0.0.0/8"
	case snapshot.FamilyARN:
		return "arn:aws:iam::111111111111:role/*"
	default:
		return "x"
	}
}

// holds reports whether a condition holds: it is the only one of an Allow.
func holds(t testing.TB, condition string, r iam.Request) bool {
	t.Helper()
	return iam.Evaluate(parse(t, policy(statement("Allow", condition))), &r).Allowed()
}

func TestMissingKey(t *testing.T) {
	for _, o := range snapshot.Operators() {
		if o.Family == snapshot.FamilyNull {
			continue
		}
		f := func(name string, want bool) {
			t.Run(name, func(t *testing.T) {
				if got := holds(t, fmt.Sprintf(`%q:{"aws:Absent":%q}`, name, sample(o.Family)), get()); got != want {
					t.Errorf("missing key: got %v, want %v", got, want)
				}
			})
		}
		f(o.Name, o.Negated)
		f(o.Name+"IfExists", true)
		f("ForAllValues:"+o.Name, true)
		f("ForAnyValue:"+o.Name, false)
		f("ForAllValues:"+o.Name+"IfExists", true)
		f("ForAnyValue:"+o.Name+"IfExists", false)
	}
	if !holds(t, `"Null":{"aws:Absent":"true"}`, get()) {
		t.Error("Null true does not hold for a missing key")
	}
	if holds(t, `"Null":{"aws:Absent":"false"}`, get()) {
		t.Error("Null false holds for a missing key")
	}
}

func TestNullOfPresentKey(t *testing.T) {
	if holds(t, `"Null":{"aws:SourceVpce":true}`, through(vpce1)) {
		t.Error("Null true holds for a present key")
	}
	if !holds(t, `"Null":{"aws:SourceVpce":false}`, through(vpce1)) {
		t.Error("Null false does not hold for a present key")
	}
	if !holds(t, `"Null":{"aws:SourceVpce":["true","false"]}`, through(vpce1)) {
		t.Error("Null with both values does not hold")
	}
}

func TestOperators(t *testing.T) {
	extra := func(key string, values ...string) iam.Request {
		r := get()
		r.Context.Extra = []iam.Attribute{{Key: key, Values: values}}
		return r
	}
	f := func(condition string, r iam.Request, want bool) {
		t.Helper()
		t.Run(condition, func(t *testing.T) {
			if got := holds(t, condition, r); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	agent := get()
	agent.Context.UserAgent = "curl/8.5.0"
	f(`"StringEquals":{"AWS:USERAGENT":"curl/8.5.0"}`, agent, true)
	f(`"StringEquals":{"aws:UserAgent":"Curl/8.5.0"}`, agent, false)
	f(`"StringEquals":{"aws:UserAgent":"curl/*"}`, agent, false)
	f(`"StringEqualsIgnoreCase":{"aws:UserAgent":"CURL/8.5.0"}`, agent, true)
	f(`"StringEqualsIgnoreCase":{"aws:UserAgent":"CURL/8.5.01"}`, agent, false)
	f(`"StringNotEqualsIgnoreCase":{"aws:UserAgent":"CURL/8.5.0"}`, agent, false)
	f(`"StringLike":{"aws:UserAgent":"curl/?.*"}`, agent, true)
	f(`"StringNotLike":{"aws:UserAgent":"curl/?.*"}`, agent, false)
	f(`"StringLike":{"aws:UserAgent":["wget*","curl*"]}`, agent, true)
	f(`"StringEqualsIgnoreCase":{"aws:Thing":"ÄRGER"}`, extra("aws:thing", "ärger"), true)
	f(`"StringLike":{"aws:Thing":"?rger"}`, extra("aws:thing", "ärger"), true)

	f(`"NumericEquals":{"aws:Thing":"5"}`, extra("aws:thing", "5.0"), true)
	f(`"NumericNotEquals":{"aws:Thing":5}`, extra("aws:thing", "5.0"), false)
	f(`"NumericLessThan":{"aws:Thing":"5"}`, extra("aws:thing", "4.99"), true)
	f(`"NumericLessThan":{"aws:Thing":"5"}`, extra("aws:thing", "5"), false)
	f(`"NumericLessThanEquals":{"aws:Thing":"5"}`, extra("aws:thing", "5"), true)
	f(`"NumericGreaterThan":{"aws:Thing":"-5"}`, extra("aws:thing", "-4"), true)
	f(`"NumericGreaterThanEquals":{"aws:Thing":"5"}`, extra("aws:thing", "4"), false)
	f(`"NumericEquals":{"aws:Thing":"5"}`, extra("aws:thing", "five"), false)
	f(`"NumericNotEquals":{"aws:Thing":"5"}`, extra("aws:thing", "five"), true)
	f(`"NumericGreaterThan":{"aws:EpochTime":"1700000000"}`, get(), true)

	f(`"DateLessThan":{"aws:CurrentTime":"2026-11-22T09:00:01Z"}`, get(), true)
	f(`"DateLessThan":{"aws:CurrentTime":"2026-11-22T10:00:00+01:00"}`, get(), false)
	f(`"DateEquals":{"aws:CurrentTime":"2026-11-22T10:00:00+01:00"}`, get(), true)
	f(`"DateLessThanEquals":{"aws:EpochTime":"2026-11-22T09:00Z"}`, get(), true)
	f(`"DateGreaterThan":{"aws:CurrentTime":"2026-11"}`, get(), true)
	f(`"DateGreaterThanEquals":{"aws:CurrentTime":"1700000000"}`, get(), true)
	f(`"DateNotEquals":{"aws:CurrentTime":"2026-11-22"}`, get(), true)
	f(`"StringEquals":{"aws:CurrentTime":"2026-11-22T09:00:00Z"}`, get(), true)

	f(`"Bool":{"aws:SecureTransport":true}`, get(), true)
	f(`"Bool":{"aws:SecureTransport":"false"}`, get(), false)
	f(`"BinaryEquals":{"aws:Thing":"cG9zdGVybg=="}`, extra("aws:thing", "postern"), true)
	f(`"BinaryEquals":{"aws:Thing":"cG9zdGVybg=="}`, extra("aws:thing", "Postern"), false)

	f(`"IpAddress":{"aws:VpcSourceIp":"10.0.0.5"}`, through(vpce1), true)
	f(`"IpAddress":{"aws:VpcSourceIp":["192.168.0.0/16","10.0.0.4/30"]}`, through(vpce1), true)
	f(`"NotIpAddress":{"aws:VpcSourceIp":["192.168.0.0/16","10.0.0.4/30"]}`, through(vpce1), false)
	six, mapped := get(), get()
	six.Context.SourceIP = netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666")
	mapped.Context.SourceIP = netip.MustParseAddr("::ffff:203.0.113.9")
	f(`"IpAddress":{"aws:SourceIp":"2001:db8::/32"}`, six, true)
	f(`"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}`, six, false)
	f(`"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}`, mapped, true)
	f(`"StringLike":{"aws:SourceIp":"2001:db8:*:4444:5555:666?"}`, six, true)
	f(`"StringEqualsIgnoreCase":{"aws:SourceIp":"2001:DB8:1111:2222:3333:4444:5555:6666"}`, six, true)

	arn := get()
	arn.Context.SourceArn = "arn:aws:sns:eu-west-1:111111111111:topic:a:b"
	f(`"ArnLike":{"aws:SourceArn":"arn:aws:sns:*:111111111111:topic:*"}`, arn, true)
	f(`"ArnEquals":{"aws:SourceArn":"arn:aws:sns:*:111111111111:topic:?:b"}`, arn, true)
	f(`"ArnLike":{"aws:SourceArn":"arn:aws:sns:*:topic:*:b"}`, arn, false)
	f(`"ArnNotEquals":{"aws:SourceArn":"arn:aws:sns:*:*:*"}`, arn, false)
	f(`"ArnNotLike":{"aws:SourceArn":"arn:aws:sqs:*:*:*"}`, arn, true)
	f(`"ArnLike":{"aws:UserAgent":"arn:aws:sqs:*:*:*"}`, agent, false)

	f(`"StringEquals":{"postern:SourceHost":"laptop"}`, get(), false)
	host := get()
	host.Context.SourceHost = "laptop"
	f(`"StringEquals":{"postern:sourcehost":"laptop"}`, host, true)
}

func TestSetsOfValues(t *testing.T) {
	many := func(values ...string) iam.Request {
		r := get()
		r.Context.Extra = []iam.Attribute{{Key: "aws:PrincipalOrgPaths", Values: values}}
		return r
	}
	f := func(operator, values string, r iam.Request, want bool) {
		t.Helper()
		t.Run(operator+values+fmt.Sprint(r.Context.Extra[0].Values), func(t *testing.T) {
			if got := holds(t, fmt.Sprintf(`%q:{"aws:PrincipalOrgPaths":%s}`, operator, values), r); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	f("ForAllValues:StringEquals", `["a","b"]`, many("a", "b"), true)
	f("ForAllValues:StringEquals", `["a","b"]`, many("a", "c"), false)
	f("ForAllValues:StringEquals", `["a","b"]`, many("a"), true)
	f("ForAllValues:StringEquals", `["a","b"]`, many(), true)
	f("ForAllValues:StringEquals", `["a","b"]`, many("", ""), true)
	f("ForAllValues:StringNotEquals", `["a","b"]`, many("c", "d"), true)
	f("ForAllValues:StringNotEquals", `["a","b"]`, many("c", "a"), false)
	f("ForAnyValue:StringEquals", `["a","b"]`, many("c", "a"), true)
	f("ForAnyValue:StringEquals", `["a","b"]`, many("c", "d"), false)
	f("ForAnyValue:StringEquals", `["a","b"]`, many(), false)
	f("ForAnyValue:StringNotEquals", `["a","b"]`, many("a", "c"), true)
	f("ForAnyValue:StringNotEquals", `["a","b"]`, many("a", "b"), false)
	f("ForAnyValue:StringLike", `"o-1/*"`, many("o-2/r/x", "o-1/r/y"), true)
	f("StringEquals", `"a"`, many("b", "a"), true)
	f("StringNotEquals", `"a"`, many("b", "a"), false)
}

func TestVariables(t *testing.T) {
	bob := get()
	bob.Principal = iam.Principal{Kind: iam.Identity, Account: "111111111111", ARN: "arn:aws:iam::111111111111:user/bob", UserName: "bob"}
	bob.Context.Extra = []iam.Attribute{{Key: "aws:PrincipalTag/team", Values: []string{"*"}}}
	bob.Resource.Path = "/home/bob"
	star := bob
	star.Principal.UserName = "*"
	f := func(name, statement string, r iam.Request, want bool) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			if got := iam.Evaluate(parse(t, policy(statement)), &r).Allowed(); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	resource := func(element, s string) string {
		return fmt.Sprintf(`{"Effect":"Allow","Principal":"*","Action":"*",%q:%q}`, element, s)
	}
	f("in a resource", resource("Resource", "execute-api:/*/GET/home/${aws:username}"), bob, true)
	f("its value is no wildcard", resource("Resource", "execute-api:/*/GET/home/${aws:username}"), star, false)
	f("unresolved in a resource", resource("Resource", "execute-api:/*/GET/home/${aws:username}"), get(), false)
	f("unresolved in NotResource", resource("NotResource", "execute-api:/*/GET/home/${aws:username}"), get(), false)
	f("default", resource("Resource", "execute-api:/*/GET/${aws:PrincipalTag/none, 'home'}/bob"), bob, true)
	f("default unused", resource("Resource", "execute-api:/*/GET/home/${aws:username, 'alice'}"), bob, true)
	f("literal star", resource("Resource", "execute-api:/*/GET/home/${*}"), bob, false)
	path := bob
	path.Resource.Path = "/home/*?$"
	f("literals", resource("Resource", "execute-api:/*/GET/home/${*}${?}${$}"), path, true)
	f("value is no wildcard in StringLike", statement("Allow", `"StringLike":{"aws:username":"${aws:PrincipalTag/team}"}`), bob, false)
	f("unresolved under a negated operator", statement("Allow", `"StringNotEquals":{"aws:username":"${aws:PrincipalTag/none}"}`), bob, true)
	f("unresolved under a positive operator", statement("Allow", `"StringEquals":{"aws:username":"${aws:PrincipalTag/none}"}`), bob, false)
	f("time as a variable", statement("Allow", `"DateEquals":{"aws:CurrentTime":"2026-11-22T09:00:00Z"},"StringEquals":{"aws:CurrentTime":"${aws:CurrentTime}"}`), bob, true)
	f("bool as a variable", statement("Allow", `"Bool":{"aws:SecureTransport":"${aws:SecureTransport}"}`), bob, true)
	f("an ARN as a whole", statement("Allow", `"ArnEquals":{"aws:PrincipalArn":"${aws:PrincipalArn}"}`), bob, true)
	session := get()
	session.Principal = iam.Principal{Kind: iam.Identity, Account: "111111111111", ARN: "arn:aws:sts::111111111111:assumed-role/r/s", Role: "arn:aws:iam::111111111111:role/r"}
	f("the ARN of a session's principal is its role's", statement("Allow", `"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111111111111:role/r"}`), session, true)
	f("in one part of an ARN", statement("Allow", `"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::${aws:PrincipalAccount}:user/*"}`), bob, true)
}

func TestPrincipals(t *testing.T) {
	const a = "111111111111"
	who := map[string]iam.Principal{
		"anonymous": {},
		"root":      {Kind: iam.Identity, Account: a, ARN: "arn:aws:iam::" + a + ":root"},
		"bob":       {Kind: iam.Identity, Account: a, ARN: "arn:aws:iam::" + a + ":user/bob"},
		"session":   {Kind: iam.Identity, Account: a, ARN: "arn:aws:sts::" + a + ":assumed-role/r/s", Role: "arn:aws:iam::" + a + ":role/r"},
		"service":   {Kind: iam.Service, Name: "apigateway.amazonaws.com"},
		"stranger":  {Kind: iam.Identity, Account: "222222222222", ARN: "arn:aws:iam::222222222222:user/bob"},
	}
	f := func(effect, element, value string, matching ...string) {
		t.Helper()
		t.Run(effect+element+value, func(t *testing.T) {
			p := parse(t, policy(fmt.Sprintf(`{"Effect":%q,%q:%s,"Action":"*","Resource":"*"}`, effect, element, value)))
			for name, principal := range who {
				want := false
				for _, m := range matching {
					want = want || m == name
				}
				r := get()
				r.Principal = principal
				if got := iam.Explain(p, &r).Statements[0].Matched; got != want {
					t.Errorf("%s: matches is %v, want %v", name, got, want)
				}
			}
		})
	}
	all := []string{"anonymous", "root", "bob", "session", "service", "stranger"}
	f("Allow", "Principal", `"*"`, all...)
	f("Allow", "Principal", `{"AWS":"*"}`, all...)
	f("Allow", "Principal", `{"AWS":"111111111111"}`, "root", "bob", "session")
	f("Allow", "Principal", `{"AWS":"arn:aws:iam::111111111111:root"}`, "root", "bob", "session")
	f("Allow", "Principal", `{"AWS":"arn:aws:iam::111111111111:user/bob"}`, "bob")
	f("Allow", "Principal", `{"AWS":"arn:aws:iam::111111111111:role/r"}`, "session")
	f("Allow", "Principal", `{"AWS":"arn:aws:sts::111111111111:assumed-role/r/s"}`, "session")
	f("Allow", "Principal", `{"AWS":"arn:aws:sts::111111111111:assumed-role/r/t"}`)
	f("Allow", "Principal", `{"Service":"apigateway.amazonaws.com"}`, "service")
	f("Allow", "NotPrincipal", `{"AWS":"arn:aws:iam::111111111111:user/bob"}`, "anonymous", "root", "session", "service", "stranger")
	f("Deny", "NotPrincipal", `{"AWS":"arn:aws:iam::111111111111:user/bob"}`, all...)
	f("Deny", "NotPrincipal", `{"AWS":["arn:aws:iam::111111111111:user/bob","111111111111"]}`, "anonymous", "session", "service", "stranger")
	f("Deny", "NotPrincipal", `{"AWS":["arn:aws:iam::111111111111:role/r","111111111111"]}`, "anonymous", "bob", "session", "service", "stranger")
	f("Deny", "NotPrincipal", `{"AWS":["111111111111","arn:aws:sts::111111111111:assumed-role/r/s"]}`, "anonymous", "bob", "session", "service", "stranger")
	f("Deny", "NotPrincipal", `{"AWS":["arn:aws:iam::111111111111:role/r","111111111111","arn:aws:sts::111111111111:assumed-role/r/s"]}`,
		"anonymous", "bob", "service", "stranger")
}

func TestAllowByAccountIsDelegated(t *testing.T) {
	r := get()
	r.Principal = iam.Principal{Kind: iam.Identity, Account: "111111111111", ARN: "arn:aws:iam::111111111111:user/bob"}
	byAccount := `{"Effect":"Allow","Principal":{"AWS":"111111111111"},"Action":"*","Resource":"*"}`
	byName := `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:user/bob"},"Action":"*","Resource":"*"}`
	if v := iam.Evaluate(parse(t, policy(byAccount)), &r); !v.Allowed() || !v.Delegated {
		t.Errorf("by account: %+v", v)
	}
	if v := iam.Evaluate(parse(t, policy(byAccount, byName)), &r); v.Delegated || v.Statement != 1 {
		t.Errorf("by account and by name: %+v", v)
	}
}

func TestActions(t *testing.T) {
	f := func(element, value string, want bool) {
		t.Helper()
		t.Run(element+value, func(t *testing.T) {
			p := parse(t, policy(fmt.Sprintf(`{"Effect":"Allow","Principal":"*",%q:%s,"Resource":"*"}`, element, value)))
			r := get()
			if got := iam.Evaluate(p, &r).Allowed(); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	f("Action", `"*"`, true)
	f("Action", `"EXECUTE-API:invoke"`, true)
	f("Action", `"execute-api:*"`, true)
	f("Action", `"execute-api:In?oke"`, true)
	f("Action", `"execute-api:*N*KE"`, true)
	f("Action", `["execute-api:ManageConnections","execute-api:Invoke"]`, true)
	f("Action", `"execute-api:Inv"`, false)
	f("NotAction", `"execute-api:Invoke"`, false)
	f("NotAction", `"execute-api:ManageConnections"`, true)
}

func TestResources(t *testing.T) {
	f := func(element, value string, change func(*iam.Resource), want bool) {
		t.Helper()
		t.Run(element+value, func(t *testing.T) {
			p := parse(t, policy(fmt.Sprintf(`{"Effect":"Allow","Principal":"*","Action":"*",%q:%s}`, element, value)))
			r := get()
			if change != nil {
				change(&r.Resource)
			}
			if got := iam.Evaluate(p, &r).Allowed(); got != want {
				t.Errorf("%s: got %v, want %v", r.Resource.ARN(), got, want)
			}
		})
	}
	root := func(s *iam.Resource) { s.Path = "" }
	f("Resource", `"*"`, nil, true)
	f("Resource", `"execute-api:/*"`, nil, true)
	f("Resource", `"execute-api:/*/*/*"`, root, true)
	f("Resource", `"execute-api:/test/GET/"`, root, true)
	f("Resource", `"execute-api:/test/GET/"`, nil, false)
	f("Resource", `"execute-api:/Test/GET/pets"`, nil, false)
	f("Resource", `"execute-api:/test/GET/p?ts"`, nil, true)
	f("Resource", `"execute-api:/*/pets"`, nil, true)
	f("Resource", `"arn:aws:execute-api:eu-west-1:000000000000:a1b2c3d4e5/test/GET/pets"`, nil, true)
	f("Resource", `"arn:aws:execute-api:*:*:*"`, nil, true)
	f("Resource", `"arn:*:execute-api:eu-*:00000000000?:*/GET/*"`, nil, true)
	f("Resource", `"arn:aws:execute-api:*/pets:*:*"`, nil, false)
	f("Resource", `"arn:aws:execute-api:us-east-1:*:*"`, nil, false)
	f("Resource", `"arn:aws:s3:*:*:*"`, nil, false)
	f("Resource", `["execute-api:/prod/*","execute-api:/test/*"]`, nil, true)
	f("NotResource", `"execute-api:/test/*"`, nil, false)
	f("NotResource", `"execute-api:/prod/*"`, nil, true)
	bare := func(s *iam.Resource) { s.Path = "pets" }
	f("Resource", `"execute-api:/test/GET/pets"`, bare, true)
	f("Resource", `"execute-api:/test/GETpets"`, bare, false)
	colon := func(s *iam.Resource) { s.Path = "/pets:1" }
	f("Resource", `"execute-api:/test/GET/*"`, colon, true)
	f("Resource", `"execute-api:/test/GET/pets:1"`, colon, true)
	domain := func(s *iam.Resource) { s.Domain = "api.example.com+d1" }
	f("Resource", `"arn:aws:execute-api:*:*:/domainnames/api.example.com+d1"`, domain, true)
	f("Resource", `"arn:aws:execute-api:*:*:/domainnames/api.example.com+d2"`, domain, false)
}

func TestShortFormWithoutAnAPIMeansAnyAPI(t *testing.T) {
	p := parseAnyAPI(t, policy(`{"Effect":"Allow","Principal":"*","Action":"*","Resource":"execute-api:/test/GET/pets"}`))
	r := get()
	if !iam.Evaluate(p, &r).Allowed() {
		t.Error("the API's own path is denied")
	}
	r.Resource.Domain = "api.example.com+d1"
	if !iam.Evaluate(p, &r).Allowed() {
		t.Error("the path behind a domain is denied")
	}
	// "Any API" stands for one API's id; it does not reach into the path.
	r = get()
	r.Resource.Stage, r.Resource.Path = "prod", "/x/test/GET/pets"
	if iam.Evaluate(p, &r).Allowed() {
		t.Error("the wildcard for the API swallowed a stage")
	}
}
