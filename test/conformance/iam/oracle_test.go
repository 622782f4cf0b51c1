// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package iam compares the policy evaluator with an independent IAM simulator on
// random policies and requests. The simulator is AGPL: it runs beside as a process
// of its own, and is neither linked, copied nor shipped. README.md says how to run
// it and where the two differ on purpose.
package iam

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	compile "postern.dev/postern/compile/iam"
	"postern.dev/postern/decide/iam"
)

// question is one line for the simulator.
type question struct {
	Policy    json.RawMessage `json:"policy"`
	Principal *string         `json:"principal"`
	Action    string          `json:"action"`
	Resource  string          `json:"resource"`
	Account   string          `json:"account"`
	Context   map[string]any  `json:"context"`
}

// answer is one line from the simulator.
type answer struct {
	Decision string `json:"decision"`
	Error    string `json:"error"`
}

// meaning maps the simulator's answers about a resource policy to ours.
var meaning = map[string]iam.Verdict{
	"Allowed":           {Decision: iam.Allow},
	"AllowedForAccount": {Decision: iam.Allow, Delegated: true},
	"ExplicitlyDenied":  {Decision: iam.ExplicitDeny},
	"DeniedForAccount":  {Decision: iam.ExplicitDeny},
	"ImplicitlyDenied":  {Decision: iam.ImplicitDeny},
	"NotApplicable":     {Decision: iam.ImplicitDeny},
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		t.Fatalf("%s=%q is not a number", name, s)
	}
	return n
}

func TestEvaluatorAgreesWithTheSimulator(t *testing.T) {
	if os.Getenv("POSTERN_ORACLE") != "1" {
		t.Skip("SKIPPED: the IAM evaluator was NOT compared with the simulator; run `npm ci` in test/conformance/iam and set POSTERN_ORACLE=1")
	}
	if _, err := os.Stat("node_modules/@cloud-copilot/iam-simulate"); err != nil {
		t.Fatalf("the simulator is not installed: run `npm ci` in test/conformance/iam: %v", err)
	}
	count, seed := number(t, "POSTERN_ORACLE_CASES", 100_000), number(t, "POSTERN_ORACLE_SEED", 1)

	cmd := exec.CommandContext(t.Context(), "node", "oracle.mjs")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start node, which runs the simulator: %v", err)
	}

	// The writer stays at most a few hundred cases ahead of the reader.
	asked := make(chan pair, 256)
	excluded := map[string]int{}
	wrote := make(chan error, 1)
	go func() {
		defer close(asked)
		w := bufio.NewWriter(in)
		enc := json.NewEncoder(w)
		g := newGenerator(seed)
		for n := uint64(0); n < count; {
			c, err := g.pair()
			if err != nil {
				t.Error(err)
				break
			}
			if name := difference(&c); name != "" {
				excluded[name]++
				continue
			}
			if err := enc.Encode(c.question()); err != nil {
				wrote <- err
				return
			}
			asked <- c
			n++
		}
		if err := w.Flush(); err != nil {
			wrote <- err
			return
		}
		wrote <- in.Close()
	}()

	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	tally := map[string]int{}
	compared, disagreed := 0, 0
	for c := range asked {
		if !lines.Scan() {
			t.Fatalf("the simulator ended after %d answers: %v", compared, lines.Err())
		}
		var a answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		want, known := meaning[a.Decision]
		got := iam.Evaluate(c.policy, &c.request)
		switch {
		case !known:
			disagreed++
			t.Errorf("the simulator does not answer: %s\n%s", a.Error, c)
		case got.Decision != want.Decision || got.Delegated != want.Delegated:
			disagreed++
			t.Errorf("got %v (delegated %v) by statement %d, the simulator says %s\n%s", got.Decision, got.Delegated, got.Statement, a.Decision, c)
		}
		if disagreed >= 20 {
			t.Fatal("too many disagreements; stopping")
		}
		compared++
		tally[a.Decision]++
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("compared %d pairs (seed %d), %d disagreements; answers %v; not compared for deliberate differences %v",
		compared, seed, disagreed, tally, excluded)
	for _, d := range []string{"Allowed", "ExplicitlyDenied", "ImplicitlyDenied"} {
		if tally[d]*20 < compared {
			t.Errorf("only %d of %d answers are %s: the generator has lost its variety", tally[d], compared, d)
		}
	}
}

// pair is one policy and one request.
type pair struct {
	doc, full string // the policy as we read it, and with full ARNs
	policy    *policyType
	request   iam.Request
	context   map[string]any
}

func (c *pair) question() question {
	q := question{
		Policy: json.RawMessage(c.full), Action: c.request.Action, Resource: c.request.Resource.ARN(),
		Account: c.request.Resource.Account, Context: c.context,
	}
	if p := &c.request.Principal; p.Kind == iam.Service {
		q.Principal = &p.Name
	} else if p.Kind != iam.Anonymous {
		q.Principal = &p.ARN
	}
	return q
}

func (c pair) String() string {
	context, err := json.Marshal(c.context)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("policy:   %s\nprincipal: %+v\nresource: %s\ncontext:  %s", c.doc, c.request.Principal, c.request.Resource.ARN(), context)
}

func compilePair(doc string) (*policyType, error) {
	return compile.Parse([]byte(doc), compile.Options{Region: region, Account: account, API: api, MaxCharacters: 1 << 16})
}
