// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package postern_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// files lists the files of this repository whose names end in ext, by slash
// paths. What is generated, downloaded or hidden is passed over.
func files(t *testing.T, ext string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != "." && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata" || name == "postern-data" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, ext) {
			out = append(out, filepath.ToSlash(p))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatalf("no %s file found: the test looks in the wrong place", ext)
	}
	return out
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func parse(t *testing.T, name string) (*ast.File, *token.FileSet) {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f, set
}

const licence = "// Copyright The Postern Authors.\n// SPDX-License-Identifier: Apache-2.0\n\n"

func TestEveryGoFileHasTheLicence(t *testing.T) {
	for _, name := range files(t, ".go") {
		if !strings.HasPrefix(read(t, name), licence) {
			t.Errorf("%s does not begin with the two licence lines and an empty one", name)
		}
	}
}

func TestEveryPackageIsDescribedOnce(t *testing.T) {
	where := map[string][]string{} // folder -> files with a package comment
	for _, name := range files(t, ".go") {
		f, _ := parse(t, name)
		dir := path.Dir(name)
		tests := strings.HasSuffix(name, "_test.go")
		if _, ok := where[dir]; !ok && !tests {
			where[dir] = nil
		}
		if f.Doc == nil {
			continue
		}
		if !strings.HasSuffix(f.Name.Name, "_test") {
			where[dir] = append(where[dir], name)
		}
		want := "Package " + f.Name.Name + " "
		if f.Name.Name == "main" {
			want = "Command " + path.Base(dir) + " "
		}
		if text := f.Doc.Text(); !strings.HasPrefix(text, want) {
			t.Errorf("%s: the package comment does not begin with %q", name, want)
		}
	}
	for dir, docs := range where {
		if len(docs) != 1 {
			t.Errorf("%s has its package comment in %d files %v; have it in one", dir, len(docs), docs)
		}
	}
}

// Tests wait for what they wait for. Within a bubble of testing/synctest a
// sleep takes no time and is how the clock is moved.
func TestNoTestSleeps(t *testing.T) {
	for _, name := range files(t, "_test.go") {
		f, set := parse(t, name)
		if imports(f, "testing/synctest") {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Sleep" && isIdent(s.X, "time") {
				t.Errorf("%s: a test sleeps; wait for a channel or a deadline, or use testing/synctest", set.Position(s.Pos()))
			}
			return true
		})
	}
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func imports(f *ast.File, name string) bool {
	return slices.ContainsFunc(f.Imports, func(s *ast.ImportSpec) bool {
		p, err := strconv.Unquote(s.Path.Value)
		return err == nil && p == name
	})
}

// Split, so that this file may be searched as well.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)

func TestNothingIsLeftForLater(t *testing.T) {
	for _, name := range files(t, ".go") {
		for i, line := range strings.Split(read(t, name), "\n") {
			if m := unfinished.FindString(line); m != "" {
				t.Errorf("%s:%d: %s; finish it, or open an issue and say in the documents what is not there", name, i+1, m)
			}
		}
	}
}

// forbidden lists what code that ships does not import, and why.
var forbidden = map[string]string{
	"testing":               "tests stay in _test.go files and in test suites",
	"log":                   "log/slog is handed in by the caller",
	"math/rand":             "use math/rand/v2, or crypto/rand for what must not be guessed",
	"io/ioutil":             "os and io have it all",
	"net/http/pprof":        "it registers itself on the default mux",
	"expvar":                "it registers itself on the default mux",
	"github.com/pkg/errors": "fmt.Errorf wraps",
}

// suites are packages that only tests import.
var suites = []string{"store/storetest", "test"}

func TestShippedCodeImportsNothingForbidden(t *testing.T) {
	for _, imp := range importsOf(t) {
		if slices.ContainsFunc(suites, func(s string) bool { return within(imp.folder, s) }) {
			continue
		}
		if why, ok := forbidden[imp.path]; ok {
			t.Errorf("%s imports %s: %s", imp.file, imp.path, why)
		}
	}
}

// globals are package-level defaults that anybody in the process can change.
var globals = map[string][]string{
	"http": {"DefaultClient", "DefaultTransport", "DefaultServeMux", "Get", "Post", "Head", "Handle", "HandleFunc", "ListenAndServe"},
	"slog": {"Default", "SetDefault", "Info", "Warn", "Error", "Debug"},
	"fmt":  {"Print", "Println", "Printf"},
}

func TestShippedCodeUsesNoGlobals(t *testing.T) {
	for _, name := range files(t, ".go") {
		if strings.HasSuffix(name, "_test.go") || slices.ContainsFunc(suites, func(s string) bool { return within(name, s) }) {
			continue
		}
		f, set := parse(t, name)
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			for pkg, names := range globals {
				if isIdent(s.X, pkg) && slices.Contains(names, s.Sel.Name) {
					t.Errorf("%s: %s.%s is one for the whole process; hand in a client, logger or writer", set.Position(s.Pos()), pkg, s.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestTheModuleReplacesNothing(t *testing.T) {
	for _, line := range strings.Split(read(t, "go.mod"), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "replace") {
			t.Errorf("go.mod: %q; a replaced module is not what go install builds", line)
		}
	}
}

var requirement = regexp.MustCompile(`^\t(\S+) v\S+$`) // not // indirect

func TestEveryDependencyHasARecord(t *testing.T) {
	var records strings.Builder
	for _, name := range files(t, ".md") {
		if within(name, "docs/adr") {
			records.WriteString(read(t, name))
		}
	}
	direct := 0
	for _, line := range strings.Split(read(t, "go.mod"), "\n") {
		m := requirement.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		direct++
		if !strings.Contains(records.String(), "`"+m[1]+"`") {
			t.Errorf("%s has no record in docs/adr: why, weight, licence, runner-up", m[1])
		}
	}
	if direct == 0 {
		t.Error("go.mod requires nothing: the test reads it wrongly")
	}
}
