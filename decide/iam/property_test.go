// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	_ "postern.dev/postern/test/steady"

	compile "postern.dev/postern/compile/iam"
	"postern.dev/postern/decide/iam"
	snapshot "postern.dev/postern/snapshot/iam"
)

// drawStatement draws a statement whose parts often match what drawRequest draws.
func drawStatement(t *rapid.T, effects ...string) string {
	condition := ""
	if rapid.Bool().Draw(t, "conditional") {
		operator := rapid.SampledFrom([]string{
			"StringEquals", "StringNotEquals", "StringLike", "StringNotLike",
			"StringEqualsIfExists", "ForAllValues:StringEquals", "ForAnyValue:StringNotEquals",
		}).Draw(t, "operator")
		key := rapid.SampledFrom([]string{"aws:SourceVpce", "aws:SourceVpc", "aws:UserAgent", "aws:Absent"}).Draw(t, "key")
		value := rapid.SampledFrom([]string{vpce1, vpce2, vpc1, "vpce-*", "${aws:SourceVpce}", "${aws:Absent}"}).Draw(t, "value")
		condition = fmt.Sprintf(`%q:{%q:%q}`, operator, key, value)
	}
	return fmt.Sprintf(`{"Effect":%q,"Principal":%s,%q:%q,%q:%q,"Condition":{%s}}`,
		rapid.SampledFrom(effects).Draw(t, "effect"),
		rapid.SampledFrom([]string{`"*"`, `{"AWS":"111111111111"}`}).Draw(t, "principal"),
		rapid.SampledFrom([]string{"Action", "NotAction"}).Draw(t, "action element"),
		rapid.SampledFrom([]string{"*", "execute-api:Invoke", "execute-api:ManageConnections"}).Draw(t, "action"),
		rapid.SampledFrom([]string{"Resource", "Resource", "NotResource"}).Draw(t, "resource element"),
		"execute-api:/"+drawPath(t), condition)
}

func drawPath(t *rapid.T) string {
	return rapid.SampledFrom([]string{"*", "*/*/*", "test/*", "prod/*", "test/GET/pets", "*/GET/*", "te?t/*/p*", "*/*/${aws:UserAgent}", "*/POST/*"}).Draw(t, "path")
}

func drawRequest(t *rapid.T) iam.Request {
	r := get()
	r.Resource.Method = rapid.SampledFrom([]string{"GET", "POST"}).Draw(t, "method")
	r.Resource.Stage = rapid.SampledFrom([]string{"test", "prod"}).Draw(t, "stage")
	r.Resource.Path = rapid.SampledFrom([]string{"", "/", "/pets", "/pets/1"}).Draw(t, "request path")
	r.Context.SourceVpce = rapid.SampledFrom([]string{"", vpce1, vpce2}).Draw(t, "vpce")
	r.Context.SourceVpc = rapid.SampledFrom([]string{"", vpc1}).Draw(t, "vpc")
	r.Context.UserAgent = rapid.SampledFrom([]string{"", "pets", vpce1}).Draw(t, "agent")
	if rapid.Bool().Draw(t, "signed") {
		r.Principal = iam.Principal{Kind: iam.Identity, Account: "111111111111", ARN: "arn:aws:iam::111111111111:user/bob"}
	}
	return r
}

// F1.1: Deny beats Allow; order is irrelevant; a Deny more never turns a denial
// into an allow, and an Allow more never turns an allow into a denial.
func TestDenyBeatsAllowInAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(rt, "statements")
		statements := make([]string, n)
		for i := range statements {
			statements[i] = drawStatement(rt, "Allow", "Deny")
		}
		r := drawRequest(rt)
		p := parse(t, policy(statements...))
		v := iam.Evaluate(p, &r)

		matchedAllow, matchedDeny := false, false
		for _, s := range iam.Explain(p, &r).Statements {
			matchedAllow = matchedAllow || s.Matched && s.Effect == snapshot.Allow
			matchedDeny = matchedDeny || s.Matched && s.Effect == snapshot.Deny
		}
		want := implicit
		switch {
		case matchedDeny:
			want = explicit
		case matchedAllow:
			want = allow
		}
		if v.Decision != want {
			rt.Fatalf("got %v, want %v", v.Decision, want)
		}

		shuffled := append([]string(nil), statements...)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		rng.Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if got := iam.Evaluate(parse(t, policy(shuffled...)), &r); got.Decision != v.Decision || got.Delegated != v.Delegated {
			rt.Fatalf("shuffled: got %+v, want %+v", got, v)
		}
		denied := iam.Evaluate(parse(t, policy(append(statements[:n:n], drawStatement(rt, "Deny"))...)), &r)
		if !v.Allowed() && denied.Allowed() {
			rt.Fatal("a Deny more made it an allow")
		}
		allowed := iam.Evaluate(parse(t, policy(append(statements[:n:n], drawStatement(rt, "Allow"))...)), &r)
		if v.Allowed() && !allowed.Allowed() {
			rt.Fatal("an Allow more made it a denial")
		}
	})
}

// F1.3: the short form of a resource matches what the full ARN matches.
func TestShortFormMatchesAsTheFullARN(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		short := drawStatement(rt, "Allow")
		full := strings.ReplaceAll(short, "execute-api:/", "arn:aws:execute-api:"+region+":"+account+":"+api+"/")
		r := drawRequest(rt)
		if rapid.Bool().Draw(rt, "another API") {
			r.Resource.API = "zzzzzzzzzz"
		}
		a, b := iam.Evaluate(parse(t, policy(short)), &r), iam.Evaluate(parse(t, policy(full)), &r)
		if a != b {
			rt.Fatalf("short %+v, full %+v\n%s", a, b, full)
		}
	})
}

// slowMatch is the obviously right wildcard matcher: it tries everything.
func slowMatch(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	switch pattern[0] {
	case '*':
		for i := range s {
			if slowMatch(pattern[1:], s[i:]) {
				return true
			}
		}
		return slowMatch(pattern[1:], "")
	case '?':
		_, n := utf8.DecodeRuneInString(s)
		return s != "" && slowMatch(pattern[1:], s[n:])
	}
	return s != "" && s[0] == pattern[0] && slowMatch(pattern[1:], s[1:])
}

func TestWildcardsMatchAsTheirSlowTwin(t *testing.T) {
	letters := rapid.SampledFrom([]rune("ab/é"))
	wild := rapid.SampledFrom([]rune("ab/é*?*"))
	rapid.Check(t, func(rt *rapid.T) {
		pattern := rapid.StringOfN(wild, 1, 10, -1).Draw(rt, "pattern")
		r := get()
		r.Context.UserAgent = rapid.StringOfN(letters, 1, 12, -1).Draw(rt, "text")
		got := holds(t, fmt.Sprintf(`"StringLike":{"aws:UserAgent":%q}`, pattern), r)
		if want := slowMatch(pattern, r.Context.UserAgent); got != want {
			rt.Fatalf("%q on %q: got %v, want %v", pattern, r.Context.UserAgent, got, want)
		}
		// The same over an ARN in pieces, which are cut at any place.
		r.Resource.Stage = rapid.StringOfN(letters, 0, 4, -1).Draw(rt, "stage")
		r.Resource.Method = rapid.StringOfN(letters, 0, 3, -1).Draw(rt, "method")
		r.Resource.Path = rapid.StringOfN(letters, 0, 6, -1).Draw(rt, "path")
		p := parse(t, policy(fmt.Sprintf(`{"Effect":"Allow","Principal":"*","Action":"*","Resource":%q}`, "execute-api:/"+pattern)))
		want := slowMatch("arn:aws:execute-api:"+region+":"+account+":"+api+"/"+pattern, r.Resource.ARN())
		if got := iam.Evaluate(p, &r).Allowed(); got != want {
			rt.Fatalf("%q on %s: got %v, want %v", pattern, r.Resource.ARN(), got, want)
		}
	})
}

// TestManyStarsStayCheap: the worst patterns take the text's length times the
// pattern's, not more.
func TestManyStarsStayCheap(t *testing.T) {
	pattern := strings.Repeat("*a", 2000) + "*b"
	r := get()
	r.Context.UserAgent = strings.Repeat("a", 64_000)
	if holds(t, fmt.Sprintf(`"StringLike":{"aws:UserAgent":%q}`, pattern), r) {
		t.Error("it matches")
	}
	r.Context.UserAgent += "b"
	if !holds(t, fmt.Sprintf(`"StringLike":{"aws:UserAgent":%q}`, pattern), r) {
		t.Error("it does not match")
	}
}

// FuzzEvaluate holds any policy against any request: Explain must agree with
// Evaluate, a verdict must be accounted for, and a policy must survive a journey
// to a gateway far away.
func FuzzEvaluate(f *testing.F) {
	f.Add([]byte(walkThrough), "/pets", vpce1, "curl")
	f.Add([]byte(everyFamily()), "", "", "")
	f.Add([]byte(policy(`{"Effect":"Allow","NotPrincipal":{"AWS":"111111111111"},"NotAction":"execute-api:I*","NotResource":"execute-api:/${aws:UserAgent, 'x'}/*"}`)), "/a:b", "*", "\xff")
	f.Fuzz(func(t *testing.T, doc []byte, path, vpce, agent string) {
		p, err := compile.Parse(doc, compile.Options{Region: region, Account: account, API: api})
		if err != nil {
			return
		}
		wire, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var far snapshot.Policy
		if err := json.Unmarshal(wire, &far); err != nil {
			t.Fatal(err)
		}
		r := through(vpce)
		r.Resource.Path, r.Context.UserAgent = path, agent
		r.Context.Extra = []iam.Attribute{{Key: "aws:PrincipalOrgPaths", Values: []string{agent, vpce}}}
		for _, who := range []iam.Principal{{}, {Kind: iam.Identity, Account: "111111111111", ARN: "arn:aws:iam::111111111111:user/bob", UserName: agent}} {
			r.Principal = who
			v := iam.Evaluate(p, &r)
			if got := iam.Evaluate(&far, &r); got != v {
				t.Fatalf("after the journey %+v, before %+v", got, v)
			}
			tr := iam.Explain(p, &r)
			if tr.Verdict != v {
				t.Fatalf("Explain %+v, Evaluate %+v", tr.Verdict, v)
			}
			denies, allows := 0, 0
			for i := range tr.Statements {
				s := &tr.Statements[i]
				if s.Matched != (len(s.Failed()) == 0) {
					t.Fatalf("statement %d: matched is %v with %d failed checks", i, s.Matched, len(s.Failed()))
				}
				if s.Matched && s.Effect == snapshot.Deny {
					denies++
				} else if s.Matched {
					allows++
				}
			}
			switch v.Decision {
			case explicit:
				if denies == 0 || !tr.Statements[v.Statement].Matched {
					t.Fatalf("an explicit deny without a Deny: %+v", tr)
				}
			case allow:
				if denies > 0 || allows == 0 || !tr.Statements[v.Statement].Matched {
					t.Fatalf("an allow that nothing grants: %+v", tr)
				}
			default:
				if denies+allows > 0 || v.Statement != -1 {
					t.Fatalf("an implicit deny of what matches: %+v", tr)
				}
			}
		}
	})
}
