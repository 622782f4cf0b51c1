// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	compile "postern.dev/postern/compile/iam"
	"postern.dev/postern/decide/iam"
	snapshot "postern.dev/postern/snapshot/iam"
)

const (
	region  = "eu-west-1"
	account = "000000000000"
	api     = "a1b2c3d4e5"
	vpce1   = "vpce-11111111111111111"
	vpce2   = "vpce-22222222222222222"
	vpc1    = "vpc-11111111111111111"
)

func parse(t testing.TB, doc string) *snapshot.Policy {
	t.Helper()
	p, err := compile.Parse([]byte(doc), compile.Options{Region: region, Account: account, API: api})
	if err != nil {
		t.Fatalf("parse %s:\n%v", doc, err)
	}
	return p
}

// get is an anonymous GET /test/pets without anything to tell where it is from.
func get() iam.Request {
	return iam.Request{
		Action:   "execute-api:Invoke",
		Resource: iam.Resource{Region: region, Account: account, API: api, Stage: "test", Method: "GET", Path: "/pets"},
		Context:  iam.Context{Time: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), SecureTransport: true},
	}
}

func through(vpce string) iam.Request {
	r := get()
	r.Context.SourceVpce, r.Context.SourceVpc = vpce, vpc1
	r.Context.VpcSourceIP = netip.MustParseAddr("10.0.0.5")
	return r
}

func public() iam.Request {
	r := get()
	r.Context.SourceIP = netip.MustParseAddr("203.0.113.9")
	return r
}

// statement writes a statement about everything.
func statement(effect, condition string) string {
	return fmt.Sprintf(`{"Effect":%q,"Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*/*/*","Condition":{%s}}`, effect, condition)
}

func policy(statements ...string) string {
	s := `{"Version":"2012-10-17","Statement":[`
	for i, st := range statements {
		if i > 0 {
			s += ","
		}
		s += st
	}
	return s + "]}"
}

const (
	allow    = iam.Allow
	explicit = iam.ExplicitDeny
	implicit = iam.ImplicitDeny
)

func TestVectors(t *testing.T) {
	open := statement("Allow", "")
	r1, r2, r3 := through(vpce1), through(vpce2), public()
	elsewhere := through(vpce2)
	elsewhere.Context.SourceVpc = "vpc-22222222222222222"
	far := through(vpce2)
	far.Context.VpcSourceIP = netip.MustParseAddr("10.0.1.5")
	post := get()
	post.Resource.Method = "POST"
	one := get()
	one.Resource.Path = "/pets/1"
	bob := get()
	bob.Principal = iam.Principal{Kind: iam.Identity, ARN: "arn:aws:iam::111111111111:user/bob", Account: "111111111111", UserName: "bob"}

	type want struct {
		who  string
		r    iam.Request
		want iam.Decision
	}
	f := func(name, doc string, wants ...want) {
		t.Run(name, func(t *testing.T) {
			p := parse(t, doc)
			for _, w := range wants {
				got := iam.Evaluate(p, &w.r)
				if got.Decision != w.want {
					t.Errorf("%s: got %v by statement %d, want %v", w.who, got.Decision, got.Statement, w.want)
				}
				if trace := iam.Explain(p, &w.r); trace.Verdict != got {
					t.Errorf("%s: Explain says %+v, Evaluate %+v", w.who, trace.Verdict, got)
				}
			}
		})
	}
	f("1 deny all but one endpoint",
		policy(statement("Deny", `"StringNotEquals":{"aws:sourceVpce":"`+vpce1+`"}`), open),
		want{"R1", r1, allow}, want{"R2", r2, explicit}, want{"R3", r3, explicit})
	f("2 allow one endpoint only",
		policy(statement("Allow", `"StringEquals":{"aws:SourceVpce":"`+vpce1+`"}`)),
		want{"R1", r1, allow}, want{"R2", r2, implicit}, want{"R3", r3, implicit})
	f("3 SourceIp deny hits every private caller",
		policy(open, statement("Deny", `"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"}`)),
		want{"R1", r1, explicit}, want{"R2", r2, explicit}, want{"R3", r3, allow})
	f("4 positive SourceIp deny misses private callers",
		policy(open, statement("Deny", `"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}`)),
		want{"R1", r1, allow}, want{"R2", r2, allow}, want{"R3", r3, allow})
	f("5 VpcSourceIp is the right key",
		policy(open, statement("Deny", `"NotIpAddress":{"aws:VpcSourceIp":"10.0.0.0/24"}`)),
		want{"R1", r1, allow}, want{"R2 inside", r2, allow}, want{"R2 outside", far, explicit}, want{"R3", r3, explicit})
	// The suffix does not spare a caller without the key: for a missing key the
	// condition is true, so the Deny applies.
	f("6 IfExists under a negated deny",
		policy(open, statement("Deny", `"StringNotEqualsIfExists":{"aws:SourceVpce":"`+vpce1+`"}`)),
		want{"R1", r1, allow}, want{"R2", r2, explicit}, want{"R3", r3, explicit})
	f("7 Null spares the public",
		policy(open, statement("Deny", `"StringNotEquals":{"aws:SourceVpce":"`+vpce1+`"},"Null":{"aws:SourceVpce":"false"}`)),
		want{"R1", r1, allow}, want{"R2", r2, explicit}, want{"R3", r3, allow})
	f("8 values under a negated operator are NORed",
		policy(open, statement("Deny", `"StringNotEquals":{"aws:SourceVpce":["`+vpce1+`","`+vpce2+`"]}`)),
		want{"R1", r1, allow}, want{"R2", r2, allow}, want{"R3", r3, explicit})
	f("9 keys under a negated operator are ANDed",
		policy(open, statement("Deny", `"StringNotEquals":{"aws:SourceVpce":"`+vpce1+`","aws:SourceVpc":"`+vpc1+`"}`)),
		want{"R1", r1, allow}, want{"R2 in vpc-1", r2, allow}, want{"R2 elsewhere", elsewhere, explicit}, want{"R3", r3, explicit})
	f("10 one method",
		policy(`{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*/GET/*"}`),
		want{"R1", r1, allow}, want{"R2", r2, allow}, want{"R3", r3, allow}, want{"POST", post, implicit})
	f("11 one path",
		policy(`{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/test/GET/pets"}`),
		want{"R1", r1, allow}, want{"/pets/1", one, implicit})
	f("12 a named principal never matches the anonymous",
		policy(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:role/r"},"Action":"execute-api:Invoke","Resource":"execute-api:/*"}`),
		want{"R1", r1, implicit})
	username := `{"Version":"2008-10-17","Statement":` + statement("Allow", `"StringEquals":{"aws:username":"${aws:username}"}`) + `}`
	f("13 variables are literal in 2008-10-17", username, want{"bob", bob, implicit})
	f("13 variables are read in 2012-10-17",
		policy(statement("Allow", `"StringEquals":{"aws:username":"${aws:username}"}`)),
		want{"bob", bob, allow}, want{"anonymous", r1, implicit})
}

func TestMessageIsTheServicesOwn(t *testing.T) {
	p := parse(t, policy(statement("Allow", `"StringEquals":{"aws:SourceVpce":"`+vpce1+`"}`)))
	r := public()
	r.Resource.Account = "123456789012"
	r.Resource.Path = ""
	const want = "User: anonymous is not authorized to perform: execute-api:Invoke on resource: arn:aws:execute-api:eu-west-1:********9012:a1b2c3d4e5/test/GET/"
	if got := iam.Message(iam.Evaluate(p, &r), &r); got != want {
		t.Errorf("implicit deny:\n got %s\nwant %s", got, want)
	}
	if got := iam.Message(iam.Verdict{Decision: explicit}, &r); got != want+" with an explicit deny" {
		t.Errorf("explicit deny: %s", got)
	}
	if got := iam.Message(iam.Verdict{Decision: allow}, &r); got != "" {
		t.Errorf("an allow has the message %q", got)
	}
}

func TestNilPolicyDeniesImplicitly(t *testing.T) {
	r := get()
	if v := iam.Evaluate(nil, &r); v.Decision != implicit || v.Statement != -1 {
		t.Errorf("got %+v", v)
	}
	if tr := iam.Explain(nil, &r); tr.Verdict.Allowed() || tr.Nearest != -1 {
		t.Errorf("got %+v", tr)
	}
}
