// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"postern.dev/postern/explain/answer"
)

// printAnswer writes an answer for people.
var printAnswer = writeAnswer

var outcomeSigns = map[answer.Outcome]string{answer.Pass: "ok", answer.Stop: "STOP", answer.Skip: "-"}

func writeAnswer(w io.Writer, a answer.Answer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s (%s)\n", a.Verdict, a.Code, symptom(a.Symptom))
	for _, h := range a.Hops {
		fmt.Fprintf(&b, "  %-4s %-14s %s: %s [%s]\n", outcomeSigns[h.Outcome], h.Layer, h.Component, h.Reason, h.Code)
		if h.Rule != nil && h.Outcome == answer.Stop {
			fmt.Fprintf(&b, "       rule: %s\n", rule(h.Rule))
		}
	}
	if len(a.Blockers) > 1 {
		b.WriteString("everything that would stop it:\n")
		for _, x := range a.Blockers {
			fmt.Fprintf(&b, "  %s at %s\n", x.Code, x.Component)
		}
	}
	for _, f := range a.Findings {
		fmt.Fprintf(&b, "note: %s: %s [%s]\n", f.Component, f.Message, f.Code)
	}
	for _, f := range a.Fixes {
		fmt.Fprintf(&b, "fix for %s: %s\n", f.For, f.Summary)
		for _, c := range f.Commands {
			fmt.Fprintf(&b, "  %s\n", c)
		}
		for _, o := range f.AlsoOpens {
			fmt.Fprintf(&b, "  also opens: %s to %s\n", o.From, o.To)
		}
	}
	for _, s := range a.Assumptions {
		fmt.Fprintf(&b, "assumed: %s\n", s)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func symptom(s answer.Symptom) string {
	switch s.Kind {
	case answer.Response:
		return strings.TrimSpace(fmt.Sprintf("status %d %s", s.Status, s.Body))
	case answer.Answered:
		return "answers " + strings.Join(s.Addresses, ", ")
	default:
		return string(s.Kind)
	}
}

func rule(r *answer.Rule) string {
	out := r.Resource
	if r.Path != "" {
		out += " " + r.Path
	}
	if r.Name != "" {
		out += " (" + r.Name + ")"
	}
	return out
}
