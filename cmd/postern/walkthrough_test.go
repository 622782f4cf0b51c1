// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"postern.dev/postern/demo"
	"postern.dev/postern/instance"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"postern": main})
}

// TestWalkThroughs plays the walk-throughs of the demo as testscript files: with
// a real server, real tunnels and the postern command as its users run it.
func TestWalkThroughs(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Setup: func(e *testscript.Env) error {
			e.Values[stageKey{}] = new(*demo.Stage)
			return nil
		},
		Dir: filepath.Join("..", "..", "demo", "walkthroughs"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server":  server,
			"postern": command,
			"call":    call,
			"serve":   act("serve"),
			"close":   act("close"),
			"leave":   act("leave"),
			"beside":  act("beside"),
			"gateway": act("gateway"),
			"plane":   act("plane"),
			"clock":   act("clock"),
			"ask":     ask,
			"logs":    logs,
			"matrix":  matrix,
			"sees":    judge(func(o *demo.Outcome, args []string) error { return o.Sees(args) }),
			"because": judge(func(o *demo.Outcome, args []string) error { return o.Because(args) }),
			"finds":   judge(func(o *demo.Outcome, args []string) error { return o.Finds(args) }),
			"fix":     judge(func(o *demo.Outcome, args []string) error { return o.Fix(args[0]) }),
		},
	})
}

// server starts a Postern for the script.
func server(ts *testscript.TestScript, _ bool, _ []string) {
	s, err := demo.NewStage(context.Background(), ts.MkAbs("data"), instance.Options{})
	ts.Check(err)
	ts.Defer(func() { ts.Check(s.Close()) })
	ts.Setenv("POSTERN_CONFIG", s.ConfigPath())
	*ts.Value(stageKey{}).(**demo.Stage) = s
}

// stageKey finds the Stage of a script.
type stageKey struct{}

func stageOf(ts *testscript.TestScript) *demo.Stage {
	s := *ts.Value(stageKey{}).(**demo.Stage)
	if s == nil {
		ts.Fatalf("the script has not started a server")
	}
	return s
}

// command runs postern as a process of its own.
func command(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("postern", args...)
	switch {
	case err == nil && neg:
		ts.Fatalf("postern %v succeeded", args)
	case err != nil && !neg:
		ts.Fatalf("postern %v: %v", args, err)
	}
}

// call sends a request for real. It fails unless what the caller saw is what the
// explanation says.
func call(ts *testscript.TestScript, _ bool, args []string) {
	c, err := demo.ParseCall(args)
	ts.Check(err)
	s := stageOf(ts)
	ts.Check(s.Call(context.Background(), c))
	ts.Logf("saw %s; explained %s", demo.Describe(s.Last.Seen), s.Last.Answer.Code)
	ts.Check(s.Last.Agrees())
}

// matrix compares every cell of a Gateway's matrix with a request that is sent
// for real.
func matrix(ts *testscript.TestScript, _ bool, args []string) {
	m, err := stageOf(ts).Matrix(context.Background(), args[0])
	ts.Check(err)
	differ, compared := m.Differences()
	ts.Logf("%d cells", compared)
	ts.Check(errors.Join(differ...))
	if compared == 0 {
		ts.Fatalf("the matrix is empty")
	}
}

// act makes a command of what a machine does by itself.
func act(verb string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		ts.Check(stageOf(ts).Act(context.Background(), verb, args))
	}
}

// ask sends a request to a self-hosted gateway itself.
func ask(ts *testscript.TestScript, _ bool, args []string) {
	s := stageOf(ts)
	ts.Check(s.Ask(context.Background(), args))
	ts.Logf("saw %s", demo.Describe(s.Last.Seen))
}

// logs waits for what a self-hosted gateway writes.
func logs(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: logs SOURCE PATTERN")
	}
	found, err := stageOf(ts).Logs(context.Background(), args[0], args[1])
	ts.Check(err)
	ts.Logf("%s", found[0])
}

// judge makes a command of a check of the last call.
func judge(check func(*demo.Outcome, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		err := check(&stageOf(ts).Last, args)
		if neg && err == nil {
			ts.Fatalf("%v holds", args)
		}
		if !neg {
			ts.Check(err)
		}
	}
}
