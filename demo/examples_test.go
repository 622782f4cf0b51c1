// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/instance"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
)

const examples = "../examples"

// stage starts an empty Postern for a test.
func stage(t *testing.T) *Stage {
	t.Helper()
	s, err := NewStage(t.Context(), t.TempDir(), instance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// apply applies the manifests of files and folders.
func apply(t *testing.T, s *Stage, paths ...string) wire.Applied {
	t.Helper()
	objects, err := manifest.Load(strings.NewReader(""), paths...)
	if err != nil {
		t.Fatal(err)
	}
	done, err := s.API().Apply(t.Context(), objects, false)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// Every folder of examples is applied by itself, and nothing in it is in want of
// something.
func TestExamplesApplyAndAreReady(t *testing.T) {
	folders, err := os.ReadDir(examples)
	if err != nil || len(folders) < 4 {
		t.Fatalf("%d folders, %v", len(folders), err)
	}
	for _, f := range folders {
		t.Run(f.Name(), func(t *testing.T) {
			s := stage(t)
			apply(t, s, filepath.Join(examples, f.Name()))
			if f.Name() == "private-api" {
				// Its Stage follows the newest Deployment, and there is none yet.
				if _, err := s.API().Deploy(t.Context(), "petstore", wire.Deploy{}); err != nil {
					t.Fatal(err)
				}
			}
			for _, k := range model.Kinds {
				resources, err := s.API().List(t.Context(), k)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range resources {
					for _, c := range r.Status.Conditions {
						if c.Type == "Ready" && !c.Status {
							t.Errorf("%s: %s %s", r.Ref(), c.Reason, c.Message)
						}
					}
				}
			}
		})
	}
}

// The call of the example gets through with the authorization and not without.
func TestExampleOfPrivateBackendsNeedsItsAuthorization(t *testing.T) {
	s := stage(t)
	folder := filepath.Join(examples, "private-backends")
	apply(t, s, filepath.Join(folder, "network.yaml"), filepath.Join(folder, "api.yaml"))
	if err := s.Act(t.Context(), "serve", []string{"host/orders", "8080"}); err != nil {
		t.Fatal(err)
	}
	call := Call{Question: answer.Question{From: "host/clerk", URL: "https://${Gateway/main.host}/shop/orders"}}
	for _, want := range []struct {
		status int
		code   string
	}{{504, "sg/no-inbound-rule"}, {200, "backend/ok"}} {
		if err := s.Call(t.Context(), call); err != nil {
			t.Fatal(err)
		}
		o := &s.Last
		if err := o.Agrees(); err != nil {
			t.Error(err)
		}
		if o.Seen.Status != want.status || o.Answer.Code != want.code {
			t.Errorf("got %s, %s, want %d, %s", Describe(o.Seen), o.Answer.Code, want.status, want.code)
		}
		apply(t, s, filepath.Join(folder, "authorization.yaml"))
	}
}
