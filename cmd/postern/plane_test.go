// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern.dev/postern/client/settings"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/compile"
	"postern.dev/postern/control"
	"postern.dev/postern/control/pki"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/store"
	"postern.dev/postern/store/mem"
)

// shell runs command lines against a management plane in this process.
type shell struct {
	t      *testing.T
	folder string
	// answer is what the plane explains.
	answer answer.Answer
	holds  atomic.Bool
}

func newShell(t *testing.T) *shell {
	t.Helper()
	sh := &shell{t: t, folder: t.TempDir()}
	t.Chdir(sh.folder)
	t.Setenv(settings.Variable, "")
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(sh.folder, "user"))
	s := mem.New(store.Limits{})
	authority, err := control.Authority(t.Context(), s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var compiler compile.Compiler
	var served atomic.Pointer[snapshot.Snapshot]
	r, err := registry.Open(t.Context(), registry.Options{
		Store: s, Admission: model.Options{IDs: model.RandomIDs(rand.Reader)},
		Compile: func(in registry.Input) registry.Output {
			out := compiler.Compile(in.Set, compile.Options{
				Revision: in.Revision, Base: model.DefaultBase, Hub: in.Hub, Segment: []netip.Prefix{model.DefaultInternet},
			})
			return registry.Output{Snapshot: out.Snapshot, Conditions: out.Conditions}
		},
		Publish: func(s *snapshot.Snapshot) { served.Store(s) },
		Ports:   registry.Ports{Low: 51820, High: 51829},
	})
	if err != nil {
		t.Fatal(err)
	}
	issuer := pki.NewIssuer(authority, pki.Options{
		Serves: func(name string) bool { return control.Serves(served.Load(), name) }, Now: time.Now,
	})
	plane, err := control.New(control.Options{
		Registry: r, Base: model.DefaultBase, HubHost: "192.0.2.1", Certificate: issuer.Certificate, Loopback: issuer.Loopback,
		Explain: func(context.Context, control.World, answer.Question) (answer.Answer, error) { return sh.answer, nil },
		Reach: func(context.Context, *model.Set, *model.Set) (gains, losses []answer.Opening, err error) {
			return []answer.Opening{{From: "internet", To: "https://x/"}}, nil, nil
		},
		Verify: func(context.Context, control.World) ([]wire.TestResult, error) {
			return []wire.TestResult{{Ref: model.Ref{Name: "t"}, Holds: sh.holds.Load(), Expected: "allow", Found: "deny"}}, nil
		},
		Request: func(_ context.Context, id string) (wire.Request, error) {
			return wire.Request{
				ID: id, Question: answer.Question{From: "host/a", URL: "https://x/"}, Answer: sh.answer,
				Recorded: wire.Recorded{Code: "backend/refused", Status: 504, Revision: 3}, Difference: "the backend was dead",
			}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- plane.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		for _, err := range []error{<-done, r.Close(), s.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	token, err := plane.AdminToken(t.Context(), model.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("postern-data", 0o755); err != nil {
		t.Fatal(err)
	}
	err = settings.Save(filepath.Join("postern-data", settings.FileName), settings.Settings{
		Address: "https://" + l.Addr().String(), CA: string(authority.RootPEM()), Token: token,
	})
	if err != nil {
		t.Fatal(err)
	}
	return sh
}

// file writes a file and returns its name.
func (s *shell) file(name, text string) string {
	s.t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return name
}

// result is what a command line did.
type result struct {
	code     int
	out, err string
}

func (s *shell) run(args ...string) result { return s.runWith("", args...) }

func (s *shell) runWith(in string, args ...string) result {
	s.t.Helper()
	var out, errs bytes.Buffer
	code := run(s.t.Context(), args, streams{strings.NewReader(in), &out, &errs})
	return result{code, out.String(), errs.String()}
}

// ok runs a command line that must succeed and returns what it printed.
func (s *shell) ok(args ...string) string {
	s.t.Helper()
	r := s.run(args...)
	if r.code != 0 {
		s.t.Fatalf("postern %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// fails runs a command line that must fail with exit code 1 and one line that
// says everything of wants.
func (s *shell) fails(args []string, wants ...string) {
	s.t.Helper()
	r := s.run(args...)
	if r.code != exitError || strings.Count(r.err, "\n") != 1 || r.out != "" {
		s.t.Errorf("postern %s: exit %d\nout %s\nerr %s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	for _, w := range wants {
		if !strings.Contains(r.err, w) {
			s.t.Errorf("postern %s: %q does not say %q", strings.Join(args, " "), r.err, w)
		}
	}
}

const world = `apiVersion: postern/v1
kind: Network
metadata: {name: corp, labels: {team: a}}
spec: {cidrs: [10.0.0.0/16]}
---
apiVersion: postern/v1
kind: Subnet
metadata: {name: apps}
spec: {network: corp, cidr: 10.0.1.0/24}
---
apiVersion: postern/v1
kind: Host
metadata: {name: laptop}
spec: {subnet: apps}
---
apiVersion: postern/v1
kind: Link
metadata: {name: hq}
spec: {network: corp, type: vpn, cidrs: [192.168.0.0/24]}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: gw}
spec: {region: eu-1, endpointApproval: manual}
---
apiVersion: postern/v1
kind: Endpoint
metadata: {name: corp-ep}
spec: {gateway: gw, subnets: [apps]}
---
apiVersion: postern/v1
kind: API
metadata: {name: pets}
spec: {gateway: gw, type: regional, openapi: example:petstore}
`
