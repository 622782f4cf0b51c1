// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/decide/iam"
)

func TestExplainNamesTheConditionThatDenies(t *testing.T) {
	p := parse(t, walkThrough)
	r := through(vpce2)
	tr := iam.Explain(p, &r)
	if tr.Verdict.Decision != explicit || tr.Verdict.Statement != 0 || tr.Nearest != -1 {
		t.Fatalf("got %+v", tr)
	}
	want := iam.Check{
		Element: iam.ElementCondition, Holds: true, Path: "Statement[0].Condition.StringNotEquals.aws:sourceVpce",
		Operator: "StringNotEquals", Key: "aws:SourceVpce", Want: []string{vpce1}, Got: []string{vpce2},
	}
	if d := cmp.Diff(want, tr.Statements[0].Checks[3]); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	const sentence = "Statement[0].Condition.StringNotEquals.aws:sourceVpce holds: the policy says " + vpce1 + ", the request has " + vpce2
	if got := want.String(); got != sentence {
		t.Errorf("got %q", got)
	}
}

func TestExplainSaysThatTheKeyIsMissing(t *testing.T) {
	p := parse(t, policy(statement("Deny", `"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"}`), statement("Allow", "")))
	r := through(vpce1)
	c := iam.Explain(p, &r).Statements[0].Checks[3]
	if !c.Missing || !c.Holds || c.Got != nil || !strings.Contains(c.String(), "the request has no aws:SourceIp") {
		t.Errorf("got %+v: %s", c, c)
	}
}

func TestExplainFindsTheNearestAllow(t *testing.T) {
	p := parse(t, policy(
		`{"Sid":"far","Effect":"Allow","Principal":{"AWS":"111111111111"},"Action":"execute-api:ManageConnections","Resource":"execute-api:/prod/*"}`,
		`{"Sid":"near","Effect":"Allow","Principal":"*","Action":"*","Resource":"execute-api:/*","Condition":{"StringEquals":{"aws:SourceVpce":"`+vpce1+`","aws:SourceVpc":"`+vpc1+`"}}}`,
		`{"Sid":"deny","Effect":"Deny","Principal":"*","Action":"*","Resource":"execute-api:/none"}`,
	))
	r := through(vpce2)
	tr := iam.Explain(p, &r)
	if tr.Verdict.Decision != implicit || tr.Nearest != 1 {
		t.Fatalf("got %+v", tr)
	}
	failed := tr.Statements[1].Failed()
	if len(failed) != 1 || failed[0].Key != "aws:SourceVpce" {
		t.Errorf("got %+v", failed)
	}
	var elements []string
	for _, c := range tr.Statements[0].Failed() {
		elements = append(elements, c.Element.String())
	}
	if d := cmp.Diff([]string{"Principal", "Action", "Resource"}, elements); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
