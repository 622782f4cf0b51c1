// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package render writes what explain answers for people: as a tree, or in a few
// lines. It decides nothing and knows the wire form only.
package render

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"postern.dev/postern/explain/answer"
)

// Options says how an answer is written.
type Options struct {
	// Color marks outcomes with the escape sequences of terminals.
	Color bool
}

// Tree writes all of an answer.
func Tree(w io.Writer, a *answer.Answer, o Options) error {
	p := &page{paint: paint(o.Color)}
	p.line("%s  %s  %s", p.verdict(a.Verdict), p.bold(a.Code), Symptom(a))
	p.hops(a)
	if len(a.Blockers) > 1 {
		p.line("")
		p.line("Everything that would stop it:")
		for i := range a.Blockers {
			b := &a.Blockers[i]
			p.line("  %d. %s", i+1, blocker(b))
		}
	}
	p.findings(a)
	p.fixes(a)
	if len(a.Assumptions) > 0 {
		p.line("")
		p.line("Assumed:")
		for _, s := range a.Assumptions {
			p.line("  - %s", s)
		}
	}
	_, err := io.WriteString(w, p.String())
	return err
}

// Brief returns an answer in a few lines: what decides it, why, and the first
// fix of each blocker.
func Brief(a *answer.Answer) string {
	p := &page{}
	if len(a.Hops) == 0 {
		p.line("%s  %s  %s", a.Verdict, a.Code, Symptom(a))
		return p.String()
	}
	h := &a.Hops[a.DecidedBy]
	p.line("%s  %s at %s  %s", a.Verdict, a.Code, h.Component, Symptom(a))
	p.line("  why: %s", h.Reason)
	if h.Rule != nil && a.Verdict == answer.Deny {
		p.line("  rule: %s", Rule(h.Rule))
	}
	for _, b := range a.Blockers[min(1, len(a.Blockers)):] {
		p.line("  also: %s", blocker(&b))
	}
	told := map[string]bool{}
	for i := range a.Fixes {
		f := &a.Fixes[i]
		if told[f.For] {
			continue
		}
		told[f.For] = true
		p.line("  fix: %s", f.Summary)
	}
	return p.String()
}

// Symptom is what the caller sees, in words.
func Symptom(a *answer.Answer) string {
	s := &a.Symptom
	switch s.Kind {
	case answer.Response:
		switch {
		case s.Status == 0:
			return "the API answers"
		case s.Body == "":
			return "the caller sees status " + strconv.Itoa(s.Status)
		}
		return "the caller sees status " + strconv.Itoa(s.Status) + " " + strings.TrimSpace(s.Body)
	case answer.Answered:
		return "the caller is answered " + strings.Join(s.Addresses, ", ")
	case answer.Connected:
		return "the caller is connected"
	case answer.NXDomain:
		return "the caller sees that the name does not exist"
	case answer.Timeout:
		return "the caller sees a time-out"
	case answer.Refused:
		return "the caller sees the connection refused"
	case answer.Reset:
		return "the caller sees the connection reset"
	case answer.TLS:
		return "the caller sees the TLS handshake fail"
	}
	return "what the caller sees is not known"
}

// Rule points at a place in a manifest, in words.
func Rule(r *answer.Rule) string {
	s := r.Resource
	if r.Path != "" {
		s += " " + r.Path
	}
	if r.Name != "" {
		s += " (" + r.Name + ")"
	}
	return s
}

func blocker(b *answer.Blocker) string {
	s := b.Code + " at " + b.Component
	if b.Rule != nil && Rule(b.Rule) != b.Component {
		s += ", " + Rule(b.Rule)
	}
	return s
}

// page is what has been written so far.
type page struct {
	strings.Builder
	paint
}

func (p *page) line(format string, args ...any) {
	p.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " "))
	p.WriteByte('\n')
}

var signs = map[answer.Outcome]string{answer.Pass: "ok", answer.Stop: "STOP", answer.Skip: "-"}

// hops writes a line for each hop, aligned; those that stop have a second one
// with the code and the rule.
func (p *page) hops(a *answer.Answer) {
	layer, component := 0, 0
	for i := range a.Hops {
		layer = max(layer, len(a.Hops[i].Layer))
		component = max(component, len(a.Hops[i].Component))
	}
	const sign = 6 // the widest of signs, and where the arrow stands
	for i := range a.Hops {
		h := &a.Hops[i]
		mark := "  "
		if i == a.DecidedBy {
			mark = "> "
		}
		p.line("%s%s  %-*s  %-*s  %s", mark, p.sign(h.Outcome), layer, h.Layer, component, h.Component, h.Reason)
		if h.Outcome != answer.Stop {
			continue
		}
		at := h.Code
		if h.Rule != nil {
			at += ", " + Rule(h.Rule)
		}
		p.line("%*s%s", sign+layer+component+6, "", p.dim("["+at+"]"))
	}
}

func (p *page) findings(a *answer.Answer) {
	if len(a.Findings) == 0 {
		return
	}
	p.line("")
	p.line("Worth knowing:")
	for _, f := range a.Findings {
		p.line("  - %s %s", f.Message, p.dim("["+f.Code+"]"))
	}
}

func (p *page) fixes(a *answer.Answer) {
	if len(a.Fixes) == 0 {
		return
	}
	p.line("")
	p.line("What would help, each tried:")
	for i := range a.Fixes {
		f := &a.Fixes[i]
		p.line("  %d. %s %s", i+1, f.Summary, p.dim("["+f.For+"]"))
		for _, c := range f.Patch {
			at := c.Resource
			if c.At != "" {
				at += " at " + c.At
			}
			for _, op := range c.Ops {
				p.line("       change %s: %s", at, operation(&op))
			}
		}
		if f.Request != nil {
			p.line("       ask    %s", request(f.Request))
		}
		for _, c := range f.Commands {
			p.line("       run    %s", c)
		}
		for _, s := range f.Then {
			p.line("       then   %s", s)
		}
		p.openings("opens ", f.AlsoOpens)
		p.openings("breaks", f.Breaks)
		if f.Omitted > 0 {
			p.line("       and %d more that it opens or breaks", f.Omitted)
		}
	}
}

// openings writes a line for each caller: the first URL and how many more.
func (p *page) openings(word string, list []answer.Opening) {
	for i := 0; i < len(list); {
		n := i + 1
		for n < len(list) && list[n].From == list[i].From {
			n++
		}
		more := ""
		if n > i+1 {
			more = fmt.Sprintf(" and %d more", n-i-1)
		}
		p.line("       %s %s to %s%s", word, list[i].From, list[i].To, more)
		i = n
	}
}

func operation(op *answer.PatchOperation) string {
	s := op.Op
	if op.Path != "" {
		s += " " + op.Path
	}
	if op.Value == nil {
		return s
	}
	b, err := json.Marshal(op.Value)
	if err != nil {
		return s
	}
	return s + " " + string(b)
}

func request(r *answer.RequestChange) string {
	s := r.URL
	switch {
	case !strings.HasPrefix(s, "http://") && !strings.HasPrefix(s, "https://"):
	case r.Method != "":
		s = r.Method + " " + s
	default:
		s = "GET " + s
	}
	for _, k := range slices.Sorted(maps.Keys(r.Headers)) {
		s += " -H '" + k + ": " + r.Headers[k] + "'"
	}
	for _, k := range r.Without {
		s += " without " + k
	}
	return s
}

// paint colours, if it is asked to.
type paint bool

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	plain  = "\x1b[0m"
)

func (c paint) with(color, s string) string {
	if !c {
		return s
	}
	return color + s + plain
}

func (c paint) bold(s string) string { return c.with(bold, s) }
func (c paint) dim(s string) string  { return c.with(dim, s) }

func (c paint) sign(o answer.Outcome) string {
	s := fmt.Sprintf("%-4s", signs[o])
	switch o {
	case answer.Stop:
		return c.with(red, s)
	case answer.Pass:
		return c.with(green, s)
	}
	return c.with(dim, s)
}

func (c paint) verdict(v answer.Verdict) string {
	s := string(v)
	switch v {
	case answer.Allow:
		return c.with(green, s)
	case answer.Deny:
		return c.with(red, s)
	}
	return c.with(yellow, s)
}
