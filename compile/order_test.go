// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/compile"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// seen is what callers and operators see of a compilation: every name in every
// view, and every condition.
func seen(r *compile.Result) []string {
	out := slices.Clone(r.Assumptions)
	for ref, list := range r.Conditions {
		for i, c := range list {
			out = append(out, fmt.Sprintf("%s [%d] %+v", ref, i, c))
		}
	}
	view := func(whose string, v *snapshot.View) {
		for _, z := range v.Zones {
			out = append(out, fmt.Sprintf("%s %s %s %v %v %v", whose, z.Domain, z.Owner, z.Private, z.Alone, z.Names))
		}
	}
	s := r.Snapshot
	view("public", s.Public)
	for name, n := range s.Networks {
		view(name, n.View)
		for a, i := range n.Interfaces {
			out = append(out, fmt.Sprintf("%s %s %s", name, a, i.Owner))
			for _, set := range []*sg.Set{i.Groups, i.Managed} {
				if set != nil {
					out = append(out, fmt.Sprintf("%s %s %+v %+v %s", name, a, set.Ways[sg.Inbound].Rules, set.Ways[sg.Outbound].Rules, set.Key))
				}
			}
		}
	}
	for name, g := range s.Gateways {
		out = append(out, fmt.Sprintf("%s %v %v", name, g.PublicPorts, slices.Sorted(maps.Keys(g.Hosts))))
		for _, p := range g.Paths {
			out = append(out, name+" "+p.Path+" "+p.API.Name)
		}
	}
	slices.Sort(out)
	return out
}

func TestOrderOfTheManifestsDoesNotMatter(t *testing.T) {
	folders, err := os.ReadDir("../examples")
	if err != nil {
		t.Fatal(err)
	}
	draw := rand.New(rand.NewSource(1))
	for _, f := range folders {
		objects, err := manifest.Load(nil, filepath.Join("../examples", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		want := seen(compiled(t, objects...))
		for range 10 {
			draw.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
			if d := cmp.Diff(want, seen(compiled(t, objects...))); d != "" {
				t.Fatalf("%s, as %s: -in order +shuffled:\n%s", f.Name(), order(objects), d)
			}
		}
	}
}

func order(objects []model.Object) string {
	names := make([]string, len(objects))
	for i, o := range objects {
		names[i] = model.RefOf(o).String()
	}
	return strings.Join(names, ", ")
}
