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
	"strconv"
	"strings"
	"unicode/utf8"

	"postern.dev/postern/instance"
)

// Command runs one postern command line and returns its exit code.
type Command func(ctx context.Context, args []string, stdout, stderr io.Writer) int

// Options say what to play and how.
type Options struct {
	// Only selects the walk-throughs whose number it is or whose name holds it; all if empty.
	Only string
	// Once ends after the last step in place of serving on.
	Once bool
	Out  io.Writer
	// Color marks what is printed with the colours of a terminal.
	Color   bool
	Command Command
	// Program is how the command is called in another terminal, if it is not
	// found as postern there.
	Program string
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
		if chosenBy(s.Name, o.Only) {
			chosen = append(chosen, s)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no walk-through is called %q; there are: %s", o.Only, strings.Join(names, ", "))
	}
	out := &page{to: o.Out, color: o.Color}
	var played []*player
	wrong, calls := 0, 0
	for i, s := range chosen {
		p := &player{o: o, s: s, page: out, played: &played}
		played = append(played, p)
		if err := p.play(ctx, i == len(chosen)-1); err != nil {
			return fmt.Errorf("walk-through %s: %w", s.Name, err)
		}
		calls, wrong = calls+p.calls, wrong+len(p.wrong)
	}
	if wrong > 0 {
		return fmt.Errorf("%w: %d in %d requests", ErrDisagree, wrong, calls)
	}
	return out.err
}

// chosenBy tells whether a walk-through is meant: by its number, or by a part
// of its name.
func chosenBy(name, only string) bool {
	if _, err := strconv.Atoi(only); err == nil {
		return strings.HasPrefix(name, only+"-")
	}
	return strings.Contains(name, only)
}

// player plays one Script.
type player struct {
	*page
	o      Options
	s      Script
	dir    string
	stage  *Stage
	story  []string     // lines of a paragraph that has not ended
	stdout bytes.Buffer // of the last command
	stderr bytes.Buffer // of the last command
	calls  int
	wrong  []string
	asked  []Outcome // every call, for what to try next
	played *[]*player
}

func (p *player) play(ctx context.Context, last bool) (err error) {
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
	p.title(p.s.Title)
	for _, l := range p.s.Lines {
		if err := p.play1(ctx, l); err != nil {
			return err
		}
		if p.page.err != nil {
			return p.page.err
		}
	}
	p.paragraph()
	if !last {
		return nil
	}
	p.summary()
	if !p.o.Once {
		return p.serve(ctx)
	}
	return nil
}

// play1 plays one line. Only what keeps the walk-through from going on is an
// error; a step that goes otherwise than told is counted and shown.
func (p *player) play1(ctx context.Context, l Line) error {
	if len(l.Args) == 0 && l.Text != "" {
		p.story = append(p.story, l.Text)
		return nil
	}
	p.paragraph()
	if len(l.Args) == 0 {
		return nil
	}
	args := l.Args[1:]
	switch l.Args[0] {
	case "server":
		return nil // it runs already
	case "postern":
		return p.command(ctx, args, l.Not)
	case "call":
		c, err := ParseCall(args)
		if err != nil {
			return err
		}
		if err := p.stage.Call(ctx, c); err != nil {
			return err
		}
		p.calls++
		p.asked = append(p.asked, p.stage.Last)
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
	case "serve", "close", "leave", "beside", "gateway", "plane", "clock":
		p.gap()
		p.line("  %s", p.in(cyan, acted(l.Args[0], args)))
		return p.stage.Act(ctx, l.Args[0], args)
	case "ask":
		if err := p.stage.Ask(ctx, args); err != nil {
			p.check(err)
			return nil
		}
		p.asked1()
	case "logs":
		return p.logged(ctx, args)
	case "matrix":
		return p.matrix(ctx, args[0])
	case "stdout":
		p.check(match(args[0], p.stdout.String(), l.Not))
	case "stderr":
		p.check(match(args[0], p.stderr.String(), l.Not))
	default:
		return fmt.Errorf("unknown command %q", l.Args[0])
	}
	return nil
}

// match looks for a pattern in an output as testscript does.
func match(pattern, text string, not bool) error {
	ok, err := regexp.MatchString("(?m)"+pattern, text)
	switch {
	case err != nil:
	case !ok && !not:
		err = fmt.Errorf("the output lacks %q:\n%s", pattern, text)
	case ok && not:
		err = fmt.Errorf("the output has %q:\n%s", pattern, text)
	}
	return err
}

// acted tells what a machine does.
func acted(verb string, args []string) string {
	switch verb {
	case "serve":
		return args[0] + " answers at " + ports(args[1:])
	case "close":
		return args[0] + " answers no more at " + ports(args[1:])
	case "beside":
		return args[0] + " answers beside the self-hosted gateway"
	case "clock":
		return "the clock of the management plane is put " + args[0] + " ahead"
	case "plane":
		return "the management plane is " + args[0]
	case "gateway":
		if args[0] == "stop" {
			return args[1] + " ends"
		}
		return args[1] + " starts: postern gateway " + strings.Join(args[2:], " ")
	}
	return args[0] + " is gone"
}

// asked1 prints what a self-hosted gateway answered, for which there is no
// explanation.
func (p *player) asked1() {
	o := &p.stage.Last
	p.gap()
	p.line("  %s", p.in(cyan, o.Question.From))
	p.field(bold, method(&o.Question), o.Question.URL)
	seen := o.Seen
	seen.Body = start(seen.Body)
	p.field(bold, "saw", Describe(seen))
}

// logged waits for what a self-hosted gateway writes, and prints it.
func (p *player) logged(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: logs SOURCE PATTERN")
	}
	found, err := p.stage.Logs(ctx, args[0], args[1])
	if err != nil {
		p.check(err)
		return nil
	}
	p.field(bold, "says", found[0])
	return nil
}

func ports(args []string) string {
	if len(args) == 1 {
		return "port " + args[0]
	}
	return "ports " + strings.Join(args, ", ")
}

// command runs the postern command in this process.
func (p *player) command(ctx context.Context, args []string, not bool) error {
	p.gap()
	p.line("  %s", p.in(bold, "$ postern "+strings.Join(args, " ")))
	run := []string{"--config", p.stage.ConfigPath()}
	for i, a := range args {
		if i > 0 && (args[i-1] == "-f" || args[i-1] == "--settings") {
			a = filepath.Join(p.dir, a)
		}
		run = append(run, a)
	}
	p.stdout.Reset()
	p.stderr.Reset()
	code := p.o.Command(ctx, run, &p.stdout, &p.stderr)
	for l := range strings.Lines(p.stdout.String() + p.stderr.String()) {
		p.line("  %s", p.in(dim, "  "+strings.TrimRight(l, "\n")))
	}
	if (code != 0) != not {
		return fmt.Errorf("postern %s: exit code %d", strings.Join(args, " "), code)
	}
	return nil
}

// check counts and shows what is not as told.
func (p *player) check(err error) {
	if err != nil {
		p.wrong = append(p.wrong, fmt.Sprintf("request %d: %v", p.calls, err))
		p.field(red, "NOT SO", err.Error())
	}
}

func (p *player) title(text string) {
	p.gap()
	p.line("%s", p.in(bold, text))
	p.line("%s", p.in(bold, strings.Repeat("=", utf8.RuneCountInString(text))))
}

// paragraph prints what was gathered of the story.
func (p *player) paragraph() {
	if len(p.story) > 0 {
		p.gap()
		p.text("  ", strings.Join(p.story, " "))
		p.story = nil
	}
}
