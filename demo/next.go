// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"postern.dev/postern/explain/answer"
)

// summary says how every walk-through went.
func (p *player) summary() {
	p.title("How it went")
	p.gap()
	for _, x := range *p.played {
		mark, verdict := green, fmt.Sprintf("%d requests, each seen as it was explained", x.calls)
		if n := len(x.wrong); n > 0 {
			mark, verdict = red, fmt.Sprintf("%d requests, %d things not as told", x.calls, n)
		}
		p.line("  %-34s %s", x.s.Name, p.in(mark, verdict))
		for _, w := range x.wrong {
			p.text("    ", w)
		}
	}
	if p.o.Once {
		p.gap()
		p.text("  ", "To look around in the last of them, run the demo without --once; its name or number, as in: postern demo 1, plays one alone.")
	}
}

// serve keeps the last Postern running and says how to go on.
func (p *player) serve(ctx context.Context) error {
	commands, err := p.next(ctx)
	if err != nil {
		return err
	}
	// The Hosts are for whoever connects as one now; backends go on serving.
	if err := p.stage.callers.Yield(); err != nil {
		return err
	}
	p.title("What to try next")
	p.gap()
	p.text("  ", "Postern goes on serving this walk-through until you stop it with Ctrl-C. In another terminal:")
	p.gap()
	p.line("    %s", p.in(bold, "export POSTERN_CONFIG="+quoted(p.stage.ConfigPath())))
	if p.o.Program != "" {
		p.line("    %s", p.in(bold, "alias postern="+quoted(p.o.Program)))
	}
	for _, c := range commands {
		p.gap()
		p.text("  ", c.about)
		p.gap()
		p.line("    %s", p.in(bold, c.line))
	}
	if p.page.err != nil {
		return p.page.err
	}
	<-ctx.Done()
	p.gap()
	p.text("  ", "Stopped; nothing is left behind.")
	return p.page.err
}

// suggestion is a command line that works now.
type suggestion struct{ about, line string }

// next finds what is worth trying in the state that the walk-through has led
// to: its requests are explained again, for much has changed since.
func (p *player) next(ctx context.Context) ([]suggestion, error) {
	out := []suggestion{{"What there is:", "postern get all"}}
	var allowed, denied, joined *answer.Question
	var id string
	for _, o := range p.asked {
		q := o.Question
		a, err := p.stage.api.Explain(ctx, q)
		if err != nil {
			return nil, err
		}
		https := strings.HasPrefix(q.URL, "https:")
		switch {
		case a.Verdict == answer.Deny:
			denied = &q
		case https && a.Verdict == answer.Allow:
			allowed = &q
			if strings.HasPrefix(q.From, "host/") {
				joined = &q
			}
		}
		if o.Response != nil && o.Response.Status == http.StatusForbidden && a.Verdict == answer.Deny {
			id = o.Response.Header.Get("X-Postern-Request-Id")
		}
	}
	if joined != nil {
		out = append(out, suggestion{"A real request, from a tunnel of your own:", curl(joined)})
	}
	if allowed != nil {
		out = append(out, suggestion{"Every hop of a request that gets through:", explained(allowed)})
	}
	if denied != nil {
		out = append(out, suggestion{"And of one that does not, with what would let it through:", explained(denied)})
	}
	if id != "" {
		out = append(out, suggestion{"Why one of the requests above was refused, by the id that its answer carried:", "postern why " + id})
	}
	return out, nil
}

// explained is the command line that asks a question.
func explained(q *answer.Question) string {
	args := []string{"postern explain --from", quoted(q.From)}
	if q.Method != "" {
		args = append(args, "-X", quoted(q.Method))
	}
	for _, h := range q.Headers {
		args = append(args, "-H", quoted(h.Name+": "+h.Value))
	}
	if q.Insecure {
		args = append(args, "-k")
	}
	return strings.Join(append(args, quoted(q.URL)), " ")
}

// curl is the command line that sends a question as a Host.
func curl(q *answer.Question) string {
	args := []string{`curl -sS --cacert "$POSTERN_CA_FILE"`}
	if q.Insecure {
		args = append(args, "-k")
	}
	if q.Method != "" {
		args = append(args, "-X", quoted(q.Method))
	}
	for _, h := range q.Headers {
		args = append(args, "-H", quoted(h.Name+": "+h.Value))
	}
	args = append(args, quoted(q.URL))
	return "postern connect " + strings.TrimPrefix(q.From, "host/") + " -- sh -c " + quoted(strings.Join(args, " "))
}

// quoted is a word for a shell.
func quoted(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:@%+,=", r)
	}
	if s != "" && strings.TrimFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
