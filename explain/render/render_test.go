// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/explain/render"
)

// denied has one of everything. What real answers look like stands in the
// scenarios of package explain.
func denied() *answer.Answer {
	rule := &answer.Rule{Resource: "SecurityGroup/web", Path: "spec.rules[2]", Name: "no-site"}
	return &answer.Answer{
		Verdict: answer.Deny, DecidedBy: 1, Code: "sg/inbound-deny", Symptom: answer.Symptom{Kind: answer.Timeout},
		Hops: []answer.Hop{
			{Layer: answer.LayerDNS, Component: "internet", Outcome: answer.Skip, Code: "dns/answered", Reason: "10.0.0.4 is an address."},
			{Layer: answer.LayerSGIn, Component: "Endpoint/corp", Outcome: answer.Stop, Code: "sg/inbound-deny", Rule: rule, Reason: "A rule denies it."},
			{Layer: answer.LayerListen, Component: "Endpoint/corp", Outcome: answer.Pass, Code: "listen/accepted", Reason: "It listens."},
			{Layer: answer.LayerAPI, Component: "Endpoint/corp", Outcome: answer.Stop, Code: "api/id-missing", Reason: "No API is named."},
		},
		Blockers: []answer.Blocker{{Code: "sg/inbound-deny", Component: "Endpoint/corp", Rule: rule}, {Code: "api/id-missing", Component: "Endpoint/corp"}},
		Findings: []answer.Finding{{Code: "route/overlap", Component: "Link/a", Message: "Two prefixes overlap."}},
		Fixes: []answer.Fix{
			{
				Summary: "add a rule", For: "sg/inbound-deny", Verified: true,
				Patch:     []answer.Patch{{Resource: "SecurityGroup/web", Ops: []answer.PatchOperation{{Op: "add", Path: "/spec/rules/-", Value: map[string]any{"direction": "inbound"}}, {Op: "remove", Path: "/spec/rules/2"}}}},
				Commands:  []string{"postern apply -f web.yaml"},
				AlsoOpens: []answer.Opening{{From: "host/a", To: "https://x/"}, {From: "host/a", To: "https://y/"}, {From: "host/b", To: "https://x/"}},
				Breaks:    []answer.Opening{{From: "host/c", To: "https://z/"}}, Omitted: 7,
			},
			{Summary: "take the rule out", For: "sg/inbound-deny"},
			{
				Summary: "name the API", For: "api/id-missing",
				Request: &answer.RequestChange{URL: "https://x/", Headers: map[string]string{"x-apigw-api-id": "abc", "host": "y"}, Without: []string{"x-api-key"}},
			},
		},
		Assumptions: []string{"backends answer"},
	}
}

const tree = `deny  sg/inbound-deny  the caller sees a time-out
  -     dns     internet       10.0.0.4 is an address.
> STOP  sg-in   Endpoint/corp  A rule denies it.
                               [sg/inbound-deny, SecurityGroup/web spec.rules[2] (no-site)]
  ok    listen  Endpoint/corp  It listens.
  STOP  api     Endpoint/corp  No API is named.
                               [api/id-missing]

Everything that would stop it:
  1. sg/inbound-deny at Endpoint/corp, SecurityGroup/web spec.rules[2] (no-site)
  2. api/id-missing at Endpoint/corp

Worth knowing:
  - Two prefixes overlap. [route/overlap]

What would help, each tried:
  1. add a rule [sg/inbound-deny]
       change SecurityGroup/web: add /spec/rules/- {"direction":"inbound"}
       change SecurityGroup/web: remove /spec/rules/2
       run    postern apply -f web.yaml
       opens  host/a to https://x/ and 1 more
       opens  host/b to https://x/
       breaks host/c to https://z/
       and 7 more that it opens or breaks
  2. take the rule out [sg/inbound-deny]
  3. name the API [api/id-missing]
       ask    GET https://x/ -H 'host: y' -H 'x-apigw-api-id: abc' without x-api-key

Assumed:
  - backends answer
`

const brief = `deny  sg/inbound-deny at Endpoint/corp  the caller sees a time-out
  why: A rule denies it.
  rule: SecurityGroup/web spec.rules[2] (no-site)
  also: api/id-missing at Endpoint/corp
  fix: add a rule
  fix: name the API
`

func TestTreeIsAligned(t *testing.T) {
	var b strings.Builder
	if err := render.Tree(&b, denied(), render.Options{}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(tree, b.String()); d != "" {
		t.Error(d)
	}
}

func TestColorChangesNothingButColor(t *testing.T) {
	var b strings.Builder
	if err := render.Tree(&b, denied(), render.Options{Color: true}); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if !strings.Contains(text, "\x1b[31mSTOP\x1b[0m") || !strings.Contains(text, "\x1b[32mok  \x1b[0m") {
		t.Errorf("no colour: %q", text)
	}
	for _, code := range []string{"\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[2m", "\x1b[0m"} {
		text = strings.ReplaceAll(text, code, "")
	}
	if d := cmp.Diff(tree, text); d != "" {
		t.Error(d)
	}
}

func TestBriefTellsTheFirstFixOfEachBlocker(t *testing.T) {
	if d := cmp.Diff(brief, render.Brief(denied())); d != "" {
		t.Error(d)
	}
}

func TestSymptomsInWords(t *testing.T) {
	f := func(s answer.Symptom, want string) {
		t.Helper()
		if got := render.Symptom(&answer.Answer{Symptom: s}); got != want {
			t.Errorf("%+v: %q, want %q", s, got, want)
		}
	}
	f(answer.Symptom{Kind: answer.Response}, "the API answers")
	f(answer.Symptom{Kind: answer.Response, Status: 308}, "the caller sees status 308")
	f(answer.Symptom{Kind: answer.Response, Status: 403, Body: "{}\n"}, "the caller sees status 403 {}")
	f(answer.Symptom{Kind: answer.Answered, Addresses: []string{"10.0.0.4", "10.0.1.4"}}, "the caller is answered 10.0.0.4, 10.0.1.4")
	f(answer.Symptom{Kind: answer.Connected}, "the caller is connected")
	f(answer.Symptom{Kind: answer.NXDomain}, "the caller sees that the name does not exist")
	f(answer.Symptom{Kind: answer.Refused}, "the caller sees the connection refused")
	f(answer.Symptom{Kind: answer.Reset}, "the caller sees the connection reset")
	f(answer.Symptom{Kind: answer.TLS}, "the caller sees the TLS handshake fail")
	f(answer.Symptom{}, "what the caller sees is not known")
}

func TestAnswersWithoutHopsAreWritten(t *testing.T) {
	a := &answer.Answer{Verdict: answer.Unknown, Code: "x/y"}
	if got := render.Brief(a); got != "unknown  x/y  what the caller sees is not known\n" {
		t.Errorf("%q", got)
	}
	if err := render.Tree(full{}, a, render.Options{}); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
}

var errFull = errors.New("no room")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }
