// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package postern_test

import (
	"encoding/json"
	"go/ast"
	"go/token"
	"net/url"
	"os"
	"path"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

var (
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)|(?:src|srcset|href)="([^"]+)"`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```[^\n]*$")
	code    = regexp.MustCompile("`[^`\n]*`")
)

func TestEveryLinkInTheDocumentsResolves(t *testing.T) {
	links := 0
	for _, name := range files(t, ".md") {
		text := code.ReplaceAllString(fence.ReplaceAllString(read(t, name), ""), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target := m[1] + m[2]
			u, err := url.Parse(target)
			if err != nil {
				t.Errorf("%s: %q is no link: %v", name, target, err)
				continue
			}
			if u.Scheme != "" {
				continue // somebody else's
			}
			links++
			to := name
			if u.Path != "" {
				to = path.Join(path.Dir(name), u.Path)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: the link %s leads nowhere", name, target)
				continue
			}
			if u.Fragment != "" && !anchors(t, to)[u.Fragment] {
				t.Errorf("%s: %s has no heading #%s", name, to, u.Fragment)
			}
		}
	}
	if links == 0 {
		t.Error("no link found: the test looks in the wrong place")
	}
}

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)

// anchors are the headings of a Markdown file as links name them.
func anchors(t *testing.T, name string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(read(t, name), ""), -1) {
		a := notInAnchor.ReplaceAllString(strings.ToLower(m[1]), "")
		out[strings.ReplaceAll(a, " ", "-")] = true
	}
	return out
}

// section is what stands below a heading of level 2, up to the next one.
func section(text, title string) string {
	_, rest, ok := strings.Cut("\n"+text, "\n## "+title+"\n")
	if !ok {
		return ""
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

func TestManifestsAreDocumentedFieldByField(t *testing.T) {
	const page = "docs/manifests.md"
	text := read(t, page)
	for _, k := range model.Kinds {
		s := section(text, string(k))
		if s == "" {
			t.Errorf("%s has no section ## %s", page, k)
			continue
		}
		spec, ok := reflect.TypeOf(model.New(k)).Elem().FieldByName("Spec")
		if !ok {
			t.Fatalf("%s has no Spec", k)
		}
		if k == model.KindDeployment {
			continue // nobody writes one
		}
		for _, f := range fieldsOf(spec.Type) {
			if !strings.Contains(s, "`"+f+"`") {
				t.Errorf("%s: the section of %s does not say what `%s` is", page, k, f)
			}
		}
	}
}

// fieldsOf lists the names that may be written in a manifest, with dots and []
// between an object, a list and what is within.
func fieldsOf(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out = append(out, name)
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Slice && ft != reflect.TypeFor[json.RawMessage]() {
			name, ft = name+"[]", ft.Elem()
		}
		if ft.Kind() == reflect.Struct && ft != reflect.TypeFor[model.Secret]() {
			for _, sub := range fieldsOf(ft) {
				out = append(out, name+"."+sub)
			}
		}
	}
	return out
}

var answerCode = regexp.MustCompile(`^(dns|route|sg|listen|endpoint|tls|host|api|stage|method|policy|auth|limit|waf|backend)/[a-z-]*[a-z]$`)

func TestEveryCodeAndLayerIsDocumented(t *testing.T) {
	const page = "docs/explain.md"
	text := read(t, page)
	found := 0
	for _, dir := range []string{"decide", "explain", "engine/gateway"} {
		for _, name := range files(t, ".go") {
			if !within(name, dir) || strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, _ := parse(t, name)
			ast.Inspect(f, func(n ast.Node) bool {
				l, ok := n.(*ast.BasicLit)
				if !ok || l.Kind != token.STRING {
					return true
				}
				c, err := strconv.Unquote(l.Value)
				if err != nil || !answerCode.MatchString(c) {
					return true
				}
				found++
				if !strings.Contains(text, "`"+c+"`") {
					t.Errorf("%s does not say what `%s` means (%s)", page, c, name)
				}
				return true
			})
		}
	}
	if found == 0 {
		t.Error("no code found: the test looks in the wrong place")
	}
	for _, l := range []answer.Layer{
		answer.LayerDNS, answer.LayerRoute, answer.LayerSGOut, answer.LayerSGIn, answer.LayerListen, answer.LayerEndpoint,
		answer.LayerTLS, answer.LayerHost, answer.LayerAPI, answer.LayerStage, answer.LayerMethod, answer.LayerPolicy,
		answer.LayerAuth, answer.LayerLimit, answer.LayerWAF, answer.LayerBackendDNS, answer.LayerBackendRoute,
		answer.LayerBackendSGOut, answer.LayerBackendSGIn, answer.LayerBackend, answer.LayerReturn,
	} {
		if !strings.Contains(text, "| `"+string(l)+"` |") {
			t.Errorf("%s has no row for the layer %s", page, l)
		}
	}
}

// TestEveryCommandAndFlagIsDocumented reads what cmd/postern declares: the Use
// of each command, and the names that flags are made with.
func TestEveryCommandAndFlagIsDocumented(t *testing.T) {
	const page = "docs/command.md"
	text := read(t, page)
	commands, flags := 0, 0
	for _, name := range files(t, ".go") {
		if !within(name, "cmd/postern") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, set := parse(t, name)
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if use, ok := literal(n.Value); ok && isIdent(n.Key, "Use") {
					commands++
					word, _, _ := strings.Cut(use, " ")
					if word != "postern" && !regexp.MustCompile("postern( [a-z]+)* "+word+`\b`).MatchString(text) {
						t.Errorf("%s does not tell of the command %q (%s)", page, word, set.Position(n.Pos()))
					}
				}
			case *ast.CallExpr:
				flag, ok := flagName(n)
				if !ok {
					break
				}
				flags++
				if !strings.Contains(text, "--"+flag) {
					t.Errorf("%s does not tell of --%s (%s)", page, flag, set.Position(n.Pos()))
				}
			}
			return true
		})
	}
	if commands == 0 || flags == 0 {
		t.Error("no command or flag found: the test looks in the wrong place")
	}
}

var flagFunc = regexp.MustCompile(`^(String|Bool|Int|Uint16|Duration|StringArray|StringSlice|StringToString)?Var(P?)$`)

// flagName reads the name of a flag from a call such as fl.StringVarP(&v, name, ...).
func flagName(c *ast.CallExpr) (string, bool) {
	s, ok := c.Fun.(*ast.SelectorExpr)
	if !ok || !flagFunc.MatchString(s.Sel.Name) || len(c.Args) < 3 {
		return "", false
	}
	return literal(c.Args[1])
}

func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(l.Value)
	return s, err == nil
}

func TestTheMapShowsEveryFolder(t *testing.T) {
	const page = "ARCHITECTURE.md"
	text := read(t, page)
	seen := map[string]bool{}
	for _, name := range files(t, ".go") {
		top, _, below := strings.Cut(name, "/")
		if !below || seen[top] || top == "tools" {
			continue
		}
		seen[top] = true
		if !strings.Contains(text, "["+top+"]") && !strings.Contains(text, "["+top+"/") {
			t.Errorf("%s does not say what %s holds", page, top)
		}
	}
}
