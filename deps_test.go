// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package postern_test

import (
	"bufio"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "postern.dev/postern/"

// depRules is the content of deps.rules.
type depRules struct {
	may   map[string][]string // folder -> folders it may import
	rooms map[string][]string // third-party module -> folders that may import it
}

func TestImportsFollowTheRules(t *testing.T) {
	rules := readRules(t)
	for _, imp := range importsOf(t) {
		if msg := rules.judge(imp.folder, imp.path); msg != "" {
			t.Errorf("%s: %s", imp.file, msg)
		}
	}
}

func TestRulesRefuseWhatTheyShould(t *testing.T) {
	rules := readRules(t)
	for _, c := range []struct{ folder, path string }{
		{"engine/gateway", module + "engine/network/user"},
		{"engine/gateway/h1", module + "store"},
		{"decide/flow", module + "compile"},
		{"model", "github.com/goccy/go-yaml"},
		{"control", "go.etcd.io/etcd/client/v3"},
		{"unheard-of", "fmt"},
	} {
		if rules.judge(c.folder, c.path) == "" {
			t.Errorf("%s may import %s, which the rules were written to prevent", c.folder, c.path)
		}
	}
}

type oneImport struct{ folder, file, path string }

// importsOf lists the imports of every Go file that is not a test.
func importsOf(t *testing.T) []oneImport {
	t.Helper()
	var out []oneImport
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); p != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil && p != "." {
				return filepath.SkipDir // a module of its own
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, s := range f.Imports {
			name, err := strconv.Unquote(s.Path.Value)
			if err != nil {
				return err
			}
			out = append(out, oneImport{path.Dir(filepath.ToSlash(p)), p, name})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatal("no imports found: the test looks in the wrong place")
	}
	return out
}

// judge says what is wrong with folder importing name, or nothing.
func (r depRules) judge(folder, name string) string {
	owner := longest(r.may, folder)
	if owner == "" {
		return fmt.Sprintf("folder %s has no line in deps.rules; add one", folder)
	}
	may := r.may[owner]
	if rest, ok := strings.CutPrefix(name, module); ok {
		if within(rest, owner) || slices.Contains(may, "*") {
			return ""
		}
		for _, m := range may {
			if within(rest, m) {
				return ""
			}
		}
		return fmt.Sprintf("%s may not import %s (deps.rules, line of %s)", folder, rest, owner)
	}
	if first, _, _ := strings.Cut(name, "/"); !strings.Contains(first, ".") {
		return "" // the standard library
	}
	for mod, rooms := range r.rooms {
		if !within(name, mod) {
			continue
		}
		for _, room := range rooms {
			if within(folder, room) {
				return ""
			}
		}
		return fmt.Sprintf("%s may not import %s; only %s may", folder, name, strings.Join(rooms, ", "))
	}
	return fmt.Sprintf("%s imports %s, which has no room in deps.rules; add one and a record in docs/adr", folder, name)
}

// within tells whether p is dir or below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func longest(may map[string][]string, folder string) string {
	best := ""
	for f := range may {
		if within(folder, f) && len(f) > len(best) {
			best = f
		}
	}
	return best
}

func readRules(t *testing.T) depRules {
	t.Helper()
	f, err := os.Open("deps.rules")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := depRules{map[string][]string{}, map[string][]string{}}
	for sc, n := bufio.NewScanner(f), 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if left, right, ok := strings.Cut(line, "!"); ok {
			r.rooms[strings.TrimSpace(left)] = strings.Fields(right)
		} else if left, right, ok := strings.Cut(line, ":"); ok {
			for _, folder := range strings.Fields(left) {
				r.may[folder] = strings.Fields(right)
			}
		} else {
			t.Fatalf("deps.rules:%d: neither a rule (FOLDER: FOLDER...) nor a room (MODULE ! FOLDER...)", n)
		}
	}
	return r
}
