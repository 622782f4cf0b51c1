// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/decide/iam"
)

// witnesses has for each deliberate difference a statement and a context on which
// the two differ.
var witnesses = map[string]struct{ version, statement, context string }{
	"version-ignored":        {"2008-10-17", `"Condition":{"StringEquals":{"aws:Referer":"${aws:SourceVpce}"}}`, `{"aws:Referer":"a","aws:SourceVpce":"a"}`},
	"literal-in-equals":      {"", `"Condition":{"StringEquals":{"aws:Referer":"a${*}"}}`, `{"aws:Referer":"a*"}`},
	"unresolved-negated":     {"", `"Condition":{"StringNotEquals":{"aws:Referer":"${aws:SourceVpce}"}}`, `{"aws:Referer":"a"}`},
	"wrong-type-negated":     {"", `"Condition":{"NotIpAddress":{"aws:Referer":"10.0.0.0/8"}}`, `{"aws:Referer":"a"}`},
	"not-a-number":           {"", `"Condition":{"NumericEquals":{"aws:Referer":"5"}}`, `{"aws:Referer":"5 apples"}`},
	"not-a-date":             {"", `"Condition":{"DateLessThan":{"aws:Referer":"2026-01-01"}}`, `{"aws:Referer":"vpce-1"}`},
	"binary-text":            {"", `"Condition":{"BinaryEquals":{"aws:Referer":"YQ=="}}`, `{"aws:Referer":"a"}`},
	"plain-on-many":          {"", `"Condition":{"StringEquals":{"aws:PrincipalOrgPaths":"a"}}`, `{"aws:PrincipalOrgPaths":["a","b"]}`},
	"null-of-empty":          {"", `"Condition":{"Null":{"aws:PrincipalOrgPaths":"false"}}`, `{"aws:PrincipalOrgPaths":[]}`},
	"not-principal-deny":     {"", `"Effect":"Deny","NotPrincipal":{"AWS":"arn:aws:iam::111111111111:user/bob"}`, `{}`},
	"epoch-milliseconds":     {"", `"Condition":{"DateLessThan":{"aws:EpochTime":"2020-01-01"}}`, `{"aws:EpochTime":"1700000000"}`},
	"host-of-other-family":   {"", `"Condition":{"NotIpAddress":{"aws:SourceIp":"10.0.0.5"}}`, `{"aws:SourceIp":"2001:db8::1"}`},
	"all-of-ipv4":            {"", `"Condition":{"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}`, `{"aws:SourceIp":"10.0.0.5"}`},
	"wildcard-crosses-slash": {"", `"Resource":"arn:aws:execute-api:*:*:*/GET/*"`, `{}`},
}

// TestDifferencesAreReal keeps the list of deliberate differences honest: each one
// has a pair on which the two still differ.
func TestDifferencesAreReal(t *testing.T) {
	if os.Getenv("POSTERN_ORACLE") != "1" {
		t.Skip("SKIPPED: the differences from the simulator were NOT checked; set POSTERN_ORACLE=1")
	}
	var in bytes.Buffer
	enc := json.NewEncoder(&in)
	cases := make([]pair, len(differences))
	for i, d := range differences {
		cases[i] = witness(t, d.name)
		if got := allDifferences(&cases[i]); len(got) != 1 || got[0] != d.name {
			t.Errorf("the witness of %s is excluded for %v", d.name, got)
		}
		if err := enc.Encode(cases[i].question()); err != nil {
			t.Fatal(err)
		}
	}
	if len(witnesses) != len(differences) {
		t.Errorf("%d witnesses for %d differences", len(witnesses), len(differences))
	}
	cmd := exec.CommandContext(t.Context(), "node", "oracle.mjs")
	cmd.Stdin, cmd.Stderr = &in, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	for i, d := range differences {
		var a answer
		if err := dec.Decode(&a); err != nil {
			t.Fatal(err)
		}
		want, known := meaning[a.Decision]
		got := iam.Evaluate(cases[i].policy, &cases[i].request).Decision
		if !known || got == want.Decision {
			t.Errorf("%s: we say %v, the simulator %q %s; if they agree, compare such pairs again and take it off the list", d.name, got, a.Decision, a.Error)
		}
	}
}

// TestREADMEListsTheDifferences reads the table of README.md.
func TestREADMEListsTheDifferences(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		if !strings.Contains(string(readme), "\n| `"+d.name+"` |") {
			t.Errorf("README.md has no row for %s", d.name)
		}
	}
}

func witness(t *testing.T, name string) pair {
	t.Helper()
	w, ok := witnesses[name]
	if !ok {
		t.Fatalf("%s has no witness", name)
	}
	if w.version == "" {
		w.version = "2012-10-17"
	}
	statement := w.statement
	for _, e := range []struct{ name, otherwise string }{
		{`"Effect"`, `"Allow"`}, {`Principal"`, `"*"`}, {`"Action"`, `"*"`}, {`"Resource"`, `"*"`},
	} {
		if !strings.Contains(statement, e.name+":") {
			statement += `,"` + strings.Trim(e.name, `"`) + `":` + e.otherwise
		}
	}
	doc := `{"Version":"` + w.version + `","Statement":{` + statement + `}}`
	c := pair{doc: doc, full: doc, context: map[string]any{}}
	var err error
	if c.policy, err = compilePair(doc); err != nil {
		t.Fatal(err)
	}
	r := &c.request
	r.Action = "execute-api:Invoke"
	r.Resource = iam.Resource{Region: region, Account: account, API: api, Stage: "test", Method: "GET", Path: "/pets"}
	if name == "not-principal-deny" {
		r.Principal = iam.Principal{Kind: iam.Identity, Account: ours, ARN: "arn:aws:iam::111111111111:user/bob"}
	}
	var context map[string]any
	if err := json.Unmarshal([]byte(w.context), &context); err != nil {
		t.Fatal(err)
	}
	for k, v := range context {
		if list, ok := v.([]any); ok {
			values := []string{}
			for _, x := range list {
				values = append(values, x.(string))
			}
			c.context[k] = values
			r.Context.Extra = append(r.Context.Extra, iam.Attribute{Key: k, Values: values})
			continue
		}
		c.context[k] = v
		switch s := v.(string); k {
		case "aws:Referer":
			r.Context.Referer = s
		case "aws:SourceVpce":
			r.Context.SourceVpce = s
		case "aws:SourceIp":
			r.Context.SourceIP = netip.MustParseAddr(s)
		case "aws:EpochTime":
			r.Context.Time = time.Unix(1_700_000_000, 0)
		default:
			t.Fatalf("a witness uses %s", k)
		}
	}
	return c
}
