// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
)

var update = flag.Bool("update", false, "write what is into the golden files")

// TestAdmitGolden admits before.yaml, then the change: change.yaml and the
// resources listed in delete. want holds every error, or the status of all
// that changed.
func TestAdmitGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, want := "", ""
			current := model.NewSet()
			var change model.Change
			at := -1
			for i, f := range a.Files {
				switch f.Name {
				case "before.yaml":
					if current, _, err = model.Admit(current, model.Change{Puts: decode(t, f)}, model.Options{Deployments: true}); err != nil {
						t.Fatalf("before.yaml: %v", err)
					}
				case "change.yaml":
					change.Puts = decode(t, f)
				case "cascade":
					change.Cascade = true
				case "delete":
					for l := range strings.FieldsSeq(string(f.Data)) {
						k, n, _ := strings.Cut(l, "/")
						change.Deletes = append(change.Deletes, model.Ref{Kind: model.Kind(k), Name: n})
					}
				case "want":
					at, want = i, string(f.Data)
				default:
					t.Fatalf("unknown section %s", f.Name)
				}
			}
			next, changed, err := model.Admit(current, change, model.Options{})
			if err != nil {
				got = err.Error() + "\n"
			}
			for _, r := range changed {
				got += describe(next, r)
			}
			if *update {
				if at < 0 {
					a.Files = append(a.Files, txtar.File{Name: "want"})
					at = len(a.Files) - 1
				}
				a.Files[at].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-want +got (go test -update writes it):\n%s", d)
			}
		})
	}
}

func decode(t *testing.T, f txtar.File) []model.Object {
	t.Helper()
	o, err := manifest.Decode(f.Name, f.Data)
	if err != nil {
		t.Fatalf("%s: %v", f.Name, err)
	}
	return o
}

// describe writes one line: the resource and its status.
func describe(s *model.Set, r model.Ref) string {
	o := s.Object(r)
	if o == nil {
		return r.String() + " deleted\n"
	}
	st := o.Base().Status
	line := fmt.Sprintf("%s id=%s", r, st.ID)
	for _, f := range []struct{ name, v string }{
		{"host", st.Host},
		{"addresses", strings.Join(st.Addresses, ",")},
		{"public", st.PublicAddress},
		{"configuration", st.ConfigurationAddress},
		{"outbound", st.OutboundAddress},
		{"connection", st.Connection},
	} {
		if f.v != "" {
			line += " " + f.name + "=" + f.v
		}
	}
	for _, g := range st.GrantedRules {
		line += fmt.Sprintf("\n  %s: Gateway/%s %s/%s from %s", g.Name, g.Gateway, g.Protocol, g.Ports, strings.Join(g.From, ","))
		if g.Orphan {
			line += " orphan"
		}
	}
	if len(st.GrantedPorts) > 0 {
		line += " granted=" + strings.Join(st.GrantedPorts, ",")
	}
	return line + "\n"
}
