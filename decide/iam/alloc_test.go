// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam_test

import (
	"net/netip"
	"testing"

	compile "postern.dev/postern/compile/iam"
	"postern.dev/postern/decide/iam"
	snapshot "postern.dev/postern/snapshot/iam"
)

func parseAnyAPI(t testing.TB, doc string) *snapshot.Policy {
	t.Helper()
	p, err := compile.Parse([]byte(doc), compile.Options{Region: region, Account: account})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// walkThrough is the resource policy of walk-through 1.
const walkThrough = `{"Version":"2012-10-17","Statement":[` +
	`{"Effect":"Deny","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*/*/*","Condition":{"StringNotEquals":{"aws:sourceVpce":"` + vpce1 + `"}}},` +
	`{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*/*/*"}]}`

// everyFamily uses each way of reading a request's values.
func everyFamily() string {
	return policy(
		statement("Deny", `"NotIpAddress":{"aws:VpcSourceIp":["10.0.0.0/8","2001:db8::/32"]}`),
		statement("Deny", `"DateGreaterThan":{"aws:CurrentTime":"2030-01-01T00:00:00Z"}`),
		statement("Deny", `"NumericGreaterThan":{"aws:EpochTime":"1900000000"}`),
		statement("Deny", `"Bool":{"aws:SecureTransport":"false"}`),
		statement("Deny", `"StringEquals":{"aws:VpcSourceIp":"10.0.0.6","aws:CurrentTime":"x"}`),
		statement("Deny", `"StringEqualsIgnoreCase":{"aws:VpcSourceIp":"10.0.0.6"}`),
		statement("Deny", `"ArnLike":{"aws:SourceArn":"arn:aws:sns:*:*:x"}`),
		statement("Deny", `"ForAnyValue:StringEquals":{"aws:PrincipalOrgPaths":["a","b"]}`),
		statement("Deny", `"StringLike":{"aws:UserAgent":"*bot*"}`),
		statement("Deny", `"StringNotLike":{"aws:SourceVpce":"vpce-*"},"Null":{"aws:Referer":"false"}`),
		statement("Deny", `"StringEquals":{"aws:VpcSourceIp":"${aws:CurrentTime}"}`),
		`{"Effect":"Allow","Principal":"*","Action":"execute-api:I*","Resource":"execute-api:/${aws:SourceVpc}/*/*"}`,
		statement("Allow", ""),
	)
}

func TestAllowedAndDeniedRequestsDoNotAllocate(t *testing.T) {
	rich := through(vpce1)
	rich.Context.UserAgent = "curl/8.5.0"
	rich.Context.SourceArn = "arn:aws:sns:eu-west-1:111111111111:topic"
	rich.Context.Extra = []iam.Attribute{{Key: "aws:PrincipalOrgPaths", Values: []string{"c", "d"}}}
	six := rich
	six.Context.VpcSourceIP = mustAddr("2001:db8:1111:2222:3333:4444:5555:6666")
	f := func(name, doc string, r iam.Request, want iam.Decision) {
		t.Run(name, func(t *testing.T) {
			p := parse(t, doc)
			var got iam.Verdict
			if n := testing.AllocsPerRun(100, func() { got = iam.Evaluate(p, &r) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
			if got.Decision != want {
				t.Errorf("got %v by %d, want %v", got.Decision, got.Statement, want)
			}
		})
	}
	f("walk-through, allowed", walkThrough, through(vpce1), allow)
	f("walk-through, another endpoint", walkThrough, through(vpce2), explicit)
	f("walk-through, public", walkThrough, public(), explicit)
	f("no allow", policy(statement("Allow", `"StringEquals":{"aws:SourceVpce":"`+vpce1+`"}`)), public(), implicit)
	f("every family", everyFamily(), rich, allow)
	f("every family, IPv6", everyFamily(), six, allow)
}

var sink iam.Verdict

func BenchmarkEvaluate(b *testing.B) {
	rich := through(vpce1)
	rich.Context.UserAgent = "curl/8.5.0"
	for _, bb := range []struct {
		name, doc string
		r         iam.Request
	}{
		{"walk-through/allow", walkThrough, through(vpce1)},
		{"walk-through/deny", walkThrough, through(vpce2)},
		{"every-family/allow", everyFamily(), rich},
	} {
		b.Run(bb.name, func(b *testing.B) {
			p := parse(b, bb.doc)
			b.ReportAllocs()
			for b.Loop() {
				sink = iam.Evaluate(p, &bb.r)
			}
		})
	}
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }
