// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/instance"
)

// Command runs one postern command line and returns its exit code.
type Command func(ctx context.Context, args []string, stdout, stderr io.Writer) int

// Options say what to play and how.
type Options struct {
	// Only selects the walk-throughs whose name holds it; all if empty.
	Only string
	// Once ends after the last step in place of serving on.
	Once    bool
	Out     io.Writer
	Command Command
	// Instance shapes the Posterns that are started; its addresses are the
	// demo's own.
	Instance instance.Options
}

// ErrDisagree says that something was seen that the explanation did not say,
// or that a step did not go as its walk-through tells.
var ErrDisagree = errors.New("not every outcome equals its explanation")

// Run plays walk-throughs one after another, each on an empty Postern. Without
// Once the last one serves on until ctx ends.
func Run(ctx context.Context, o Options) error {
	scripts, err := Scripts()
	if err != nil {
		return err
	}
	var chosen []Script
	var names []string
	for _, s := range scripts {
		names = append(names, s.Name)
		if strings.Contains(s.Name, o.Only) {
			chosen = append(chosen, s)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no walk-through is called %q; there are: %s", o.Only, strings.Join(names, ", "))
	}
	calls, wrong := 0, 0
	for i, s := range chosen {
		p := &player{o: o, s: s}
		err := p.play(ctx, i == len(chosen)-1 && !o.Once)
		calls, wrong = calls+p.calls, wrong+p.wrong
		if err != nil {
			return fmt.Errorf("walk-through %s: %w", s.Name, err)
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%w: %d of %d", ErrDisagree, wrong, calls)
	}
	return nil
}

// player plays one Script.
type player struct {
	o            Options
	s            Script
	dir          string
	stage        *Stage
	out          bytes.Buffer // stdout of the last command
	err          bytes.Buffer // stderr of the last command
	calls, wrong int
}

func (p *player) play(ctx context.Context, stay bool) (err error) {
	dir, remove, err := tempData()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	p.dir = dir
	for _, f := range p.s.Files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
			return err
		}
	}
	if p.stage, err = NewStage(ctx, filepath.Join(dir, "data"), p.o.Instance); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stage.Close()) }()
	p.title()
	for _, l := range p.s.Lines {
		if err := p.line(ctx, l); err != nil {
			return err
		}
	}
	p.printf("\n  %d requests sent, %d as explained\n", p.calls, p.calls-p.wrong)
	if stay {
		return p.serve(ctx)
	}
	return nil
}

// line plays one line. Only what keeps the walk-through from going on is an
// error; a step that goes otherwise than told is counted and shown.
func (p *player) line(ctx context.Context, l Line) error {
	if len(l.Args) == 0 {
		p.text(l.Text)
		return nil
	}
	args := l.Args[1:]
	switch l.Args[0] {
	case "server":
		return nil // it runs already
	case "postern":
		return p.command(ctx, args, l.Not)
	case "call":
		q, err := ParseCall(args)
		if err != nil {
			return err
		}
		if err := p.stage.Call(ctx, q); err != nil {
			return err
		}
		p.calls++
		p.show()
		p.check(p.stage.Last.Agrees())
	case "sees":
		p.check(p.stage.Last.Sees(args))
	case "because":
		p.check(p.stage.Last.Because(args))
	case "finds":
		p.check(p.stage.Last.Finds(args))
	case "fix":
		p.check(p.stage.Last.Fix(strings.Join(args, " ")))
	case "leave":
		return p.stage.Leave(args[0])
	case "stdout":
		return match(args[0], p.out.String())
	case "stderr":
		return match(args[0], p.err.String())
	default:
		return fmt.Errorf("unknown command %q", l.Args[0])
	}
	return nil
}

func match(pattern, text string) error {
	ok, err := regexp.MatchString(pattern, text)
	if err == nil && !ok {
		err = fmt.Errorf("the output lacks %q:\n%s", pattern, text)
	}
	return err
}

// command runs the postern command in this process.
func (p *player) command(ctx context.Context, args []string, not bool) error {
	p.printf("\n  $ postern %s\n", strings.Join(args, " "))
	run := []string{"--config", p.stage.ConfigPath()}
	for i, a := range args {
		if i > 0 && args[i-1] == "-f" {
			a = filepath.Join(p.dir, a)
		}
		run = append(run, a)
	}
	p.out.Reset()
	p.err.Reset()
	code := p.o.Command(ctx, run, &p.out, &p.err)
	for _, l := range strings.Split(strings.TrimSpace(p.out.String()+p.err.String()), "\n") {
		p.printf("    %s\n", l)
	}
	if (code != 0) != not {
		return fmt.Errorf("postern %s: exit code %d", strings.Join(args, " "), code)
	}
	return nil
}

// check counts and shows what is not as told.
func (p *player) check(err error) {
	if err != nil {
		p.wrong++
		p.printf("    NOT AS TOLD: %v\n", err)
	}
}

func (p *player) printf(format string, args ...any) { fmt.Fprintf(p.o.Out, format, args...) }

func (p *player) title() {
	p.printf("\n%s\n%s\n", p.s.Title, strings.Repeat("=", len(p.s.Title)))
}

// text prints a line of the story; an empty one parts its paragraphs.
func (p *player) text(t string) {
	if t != "" {
		p.printf("  %s\n", t)
		return
	}
	p.printf("\n")
}

// show prints the last call: what was sent, what came back, and why.
func (p *player) show() {
	o := &p.stage.Last
	method := o.Question.Method
	if method == "" {
		method = "GET"
	}
	if strings.HasPrefix(o.Question.URL, "dns:") {
		method = "look up"
	}
	p.printf("\n  %s  %s %s\n", o.Question.From, method, o.Question.URL)
	for _, h := range o.Question.Headers {
		p.printf("      %s: %s\n", h.Name, h.Value)
	}
	if o.Question.Insecure {
		p.printf("      (ignoring the certificate)\n")
	}
	mark := "ok "
	if o.Agrees() != nil {
		mark = "BAD"
	}
	a := &o.Answer
	h := a.Hops[a.DecidedBy]
	p.printf("    saw       %s\n", Describe(o.Seen))
	p.printf("    explained %s, %s at %s\n", told(a.Symptom), a.Code, h.Component)
	p.printf("    %s       %s\n", mark, h.Reason)
	if h.Rule != nil {
		p.printf("              rule: %s %s %s\n", h.Rule.Resource, h.Rule.Path, h.Rule.Name)
	}
	for _, f := range a.Findings {
		p.printf("    note      %s\n", f.Message)
	}
	for _, f := range a.Fixes {
		p.printf("    fix       %s\n", f.Summary)
	}
}

func told(s answer.Symptom) string {
	if s.Kind == answer.Response && s.Status == 0 {
		return "the backend's response"
	}
	if s.Kind == answer.Response {
		return fmt.Sprintf("response %d", s.Status)
	}
	return Describe(s)
}

// serve keeps the last Postern running and says how to go on.
func (p *player) serve(ctx context.Context) error {
	p.printf(`
Postern goes on serving this walk-through until you stop it (Ctrl-C). In another
terminal:

  export POSTERN_CONFIG=%s
  postern get endpoints
  postern get apis
  postern explain --from internet https://NAME/...
  postern connect HOST -- curl -v https://NAME/...

`, p.stage.ConfigPath())
	<-ctx.Done()
	return nil
}
