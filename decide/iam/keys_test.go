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

// full is a request in which every key has a value of its own.
func full() (iam.Request, map[snapshot.KeyID]string) {
	r := get()
	r.Principal = iam.Principal{
		Kind: iam.Identity, ARN: "arn:aws:iam::111111111111:user/bob", Account: "111111111111",
		Type: "User", UserID: "AIDABOB", UserName: "bob",
	}
	r.Context = iam.Context{
		Time: time.Date(2026, 11, 22, 10, 0, 0, 0, time.FixedZone("", 3600)), SecureTransport: true,
		SourceIP: netip.MustParseAddr("203.0.113.9"), VpcSourceIP: netip.MustParseAddr("2001:db8::5"),
		SourceVpce: "vpce", SourceVpc: "vpc", Referer: "referer", UserAgent: "agent",
		SourceArn: "arn:aws:sns:r:a:t", ViaDomainArn: "arn:aws:execute-api:r:a:/domainnames/d",
		SourceEndpoint: "endpoint", SourceNetwork: "network", SourceHost: "host", SourceLink: "link", SourceGateway: "gateway",
		ClientCertSubject: "CN=partner",
	}
	return r, map[snapshot.KeyID]string{
		snapshot.KeySourceVpce: "vpce", snapshot.KeySourceVpc: "vpc", snapshot.KeyVpcSourceIP: "2001:db8::5",
		snapshot.KeySourceIP: "203.0.113.9", snapshot.KeyCurrentTime: "2026-11-22T09:00:00Z", snapshot.KeyEpochTime: "1795338000",
		snapshot.KeyReferer: "referer", snapshot.KeyUserAgent: "agent", snapshot.KeySecureTransport: "true",
		snapshot.KeySourceArn: "arn:aws:sns:r:a:t", snapshot.KeyViaDomainArn: "arn:aws:execute-api:r:a:/domainnames/d",
		snapshot.KeySourceEndpoint: "endpoint", snapshot.KeySourceNetwork: "network", snapshot.KeySourceHost: "host",
		snapshot.KeySourceLink: "link", snapshot.KeySourceGateway: "gateway",
		snapshot.KeyClientCertSubject: "CN=partner",
		snapshot.KeyPrincipalArn:      "arn:aws:iam::111111111111:user/bob", snapshot.KeyPrincipalAccount: "111111111111",
		snapshot.KeyPrincipalType: "User", snapshot.KeyUserID: "AIDABOB", snapshot.KeyUsername: "bob",
	}
}

func TestEveryKnownKeyIsReadAndCanBeMissing(t *testing.T) {
	r, values := full()
	zero := get()
	zero.Context = iam.Context{}
	tested := 0
	for _, k := range snapshot.KnownKeys() {
		if k.ID == snapshot.KeyOther {
			continue
		}
		tested++
		want, ok := values[k.ID]
		if !ok {
			t.Errorf("%s is not tested", k.Name)
			continue
		}
		if !holds(t, fmt.Sprintf(`"StringEquals":{%q:%q}`, k.Name, want), r) {
			t.Errorf("%s is not %q", k.Name, want)
		}
		// As a variable it stands for the same text, exactly and without case.
		for _, operator := range []string{"StringEquals", "StringLike", "StringEqualsIgnoreCase"} {
			if !holds(t, fmt.Sprintf(`%q:{%q:"${%s}"}`, operator, k.Name, k.Name), r) {
				t.Errorf("%s: ${%s} is another text than the key's", operator, k.Name)
			}
			if holds(t, fmt.Sprintf(`%q:{%q:"${%s}x"}`, operator, k.Name, k.Name), r) {
				t.Errorf("%s: ${%s} with a letter more equals the key", operator, k.Name)
			}
		}
		if missing := holds(t, fmt.Sprintf(`"Null":{%q:"true"}`, k.Name), zero); missing == (k.ID == snapshot.KeySecureTransport) {
			t.Errorf("%s of an empty request: missing is %v", k.Name, missing)
		}
		checks := iam.Explain(parse(t, policy(statement("Allow", fmt.Sprintf(`"Null":{%q:"false"}`, k.Name)))), &r).Statements[0].Checks
		if got := checks[3].Got; len(got) != 1 || got[0] != want {
			t.Errorf("Explain shows %s as %q, want %q", k.Name, got, want)
		}
	}
	if tested != len(values) {
		t.Errorf("%d keys have numbers, %d are tested", tested, len(values))
	}
}

func TestValuesAreReadAsTheOperatorWants(t *testing.T) {
	with := func(value string) iam.Request {
		r := get()
		r.Context.Extra = []iam.Attribute{{Key: "aws:thing", Values: []string{value}}}
		return r
	}
	f := func(condition, value string, want bool) {
		t.Helper()
		t.Run(condition+" "+value, func(t *testing.T) {
			if got := holds(t, condition, with(value)); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	f(`"IpAddress":{"aws:Thing":"10.0.0.0/8"}`, "10.1.2.3", true)
	f(`"IpAddress":{"aws:Thing":"10.0.0.0/8"}`, "::ffff:10.1.2.3", true)
	f(`"IpAddress":{"aws:Thing":"::ffff:10.0.0.0/104"}`, "10.1.2.3", true)
	f(`"IpAddress":{"aws:Thing":"::ffff:10.1.2.3"}`, "10.1.2.3", true)
	f(`"IpAddress":{"aws:Thing":"10.0.0.0/8"}`, "ten", false)
	f(`"NotIpAddress":{"aws:Thing":"10.0.0.0/8"}`, "ten", true)
	f(`"DateLessThan":{"aws:Thing":"2026-01-01"}`, "2025-12-31T23:59:59.5Z", true)
	f(`"DateLessThan":{"aws:Thing":"2026-01-01"}`, "-86400", true)
	f(`"DateGreaterThan":{"aws:Thing":"1970-01"}`, "2026", false)
	f(`"DateGreaterThan":{"aws:Thing":"1970-01"}`, "9999999999999", false)
	f(`"DateEquals":{"aws:Thing":"2026-01-01"}`, "soon", false)
	f(`"Bool":{"aws:Thing":"true"}`, "true", true)
	f(`"Bool":{"aws:Thing":"true"}`, "1", false)
	f(`"NumericEquals":{"aws:SecureTransport":"1"}`, "x", false)
	f(`"NumericEquals":{"aws:Thing":"10"}`, "1e1", false)
	f(`"DateEquals":{"aws:SecureTransport":"2026-01-01"}`, "x", false)
	f(`"IpAddress":{"aws:SecureTransport":"0.0.0.0/0"}`, "x", false)
	f(`"BinaryEquals":{"aws:SecureTransport":"dHJ1ZQ=="}`, "x", false)
	f(`"StringEqualsIgnoreCase":{"aws:Thing":"a${aws:none, 'B'}c"}`, "AbC", true)
	f(`"StringEqualsIgnoreCase":{"aws:Thing":"a${aws:none}"}`, "a", false)
	f(`"StringNotEqualsIgnoreCase":{"aws:Thing":"a${aws:none}"}`, "a", true)
	f(`"StringEqualsIgnoreCase":{"aws:Thing":"${aws:CurrentTime}"}`, "2026-11-22t09:00:00z", true)
	f(`"StringEqualsIgnoreCase":{"aws:Thing":"${aws:CurrentTime}"}`, "2026-11-22t09:00:0", false)
	f(`"ArnLike":{"aws:Thing":"${aws:thing}"}`, "arn:aws:sns:r:a:t", true)
	f(`"ArnLike":{"aws:Thing":"arn:aws:sns:r:${aws:none, 'a'}:t"}`, "arn:aws:sns:r:a:t", true)
	f(`"ArnLike":{"aws:Thing":"arn:aws:sns:*:*:t"}`, "arn:aws:sns", false)
}

func TestCallersThatAreNoIdentity(t *testing.T) {
	f := func(element, value string, who iam.Principal, want bool) {
		t.Helper()
		t.Run(element+value+who.Name, func(t *testing.T) {
			effect := "Allow"
			if element == "NotPrincipal" {
				effect = "Deny"
			}
			p := parse(t, policy(fmt.Sprintf(`{"Effect":%q,%q:%s,"Action":"*","Resource":"*"}`, effect, element, value)))
			r := get()
			r.Principal = who
			if got := iam.Explain(p, &r).Statements[0].Matched; got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	provider := iam.Principal{Kind: iam.Federated, Name: "accounts.example.com"}
	canonical := iam.Principal{Kind: iam.Canonical, Name: "79a59df900b949e55d96a1e698fbaced"}
	f("Principal", `{"Federated":"accounts.example.com"}`, provider, true)
	f("Principal", `{"Federated":"accounts.example.org"}`, provider, false)
	f("Principal", `{"CanonicalUser":"79a59df900b949e55d96a1e698fbaced"}`, canonical, true)
	f("Principal", `{"CanonicalUser":"accounts.example.com"}`, provider, false)
	f("NotPrincipal", `{"Federated":"accounts.example.com"}`, provider, false)
	f("NotPrincipal", `{"Federated":"accounts.example.com"}`, canonical, true)
	f("NotPrincipal", `"*"`, canonical, false)

	r := get()
	r.Principal = provider
	if got := iam.Message(iam.Verdict{}, &r); got[:26] != "User: accounts.example.com" {
		t.Errorf("got %q", got)
	}
}

func TestPolicyOfAnIdentityAppliesToWhoeverHoldsIt(t *testing.T) {
	p, err := compile.Parse([]byte(`{"Statement":{"Effect":"Allow","Action":"execute-api:*","Resource":"*"}}`), compile.Options{Identity: true})
	if err != nil {
		t.Fatal(err)
	}
	r := get()
	if v := iam.Evaluate(p, &r); !v.Allowed() || v.Delegated {
		t.Errorf("got %+v", v)
	}
}
