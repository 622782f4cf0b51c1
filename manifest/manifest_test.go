// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
)

func TestDecodeReportsEverythingThatIsWrongAtItsPlace(t *testing.T) {
	const head = "apiVersion: postern/v1\nkind: Network\nmetadata: {name: n}\n"
	for _, tt := range []struct{ name, in, want string }{
		{"unknown fields", head + "spec:\n  cidr: [10.0.0.0/16]\n  internetGatway: true\nextra: 1\n", `
f.yaml:5:3: Network/n: spec.cidr: unknown field; did you mean "cidrs"?
f.yaml:6:3: Network/n: spec.internetGatway: unknown field; did you mean "internetGateway"?
f.yaml:7:1: Network/n: extra: unknown field; there is apiVersion, kind, metadata, spec, status`},
		{"wrong types", head + "spec:\n  cidrs: 10.0.0.0/16\n  internetGateway: \"yes\"\n  dns: [1]\n", `
f.yaml:5:10: Network/n: spec.cidrs: want a list, got text; write ["10.0.0.0/16"]
f.yaml:6:20: Network/n: spec.internetGateway: want a boolean, got the text "yes"
f.yaml:7:8: Network/n: spec.dns: want an object, got a list`},
		{"a number for text", "apiVersion: postern/v1\nkind: SecurityGroup\nmetadata: {name: n}\nspec:\n  network: n\n  rules:\n  - {direction: inbound, ports: [443], priority: 1.5}\n", `
f.yaml:7:34: SecurityGroup/n: spec.rules[0].ports[0]: want text, got a number; write "443" with quotes
f.yaml:7:50: SecurityGroup/n: spec.rules[0].priority: want a whole number, got 1.5`},
		{"a number for a length of time", "apiVersion: postern/v1\nkind: Backend\nmetadata: {name: n}\nspec:\n  targets: [{host: a.example, port: 80}]\n  timeout: 10\n  health: {interval: 5, timeout: 0.5}\n", `
f.yaml:6:12: Backend/n: spec.timeout: want a length of time, got a number; write it with its unit, such as 10s
f.yaml:7:22: Backend/n: spec.health.interval: want a length of time, got a number; write it with its unit, such as 5s
f.yaml:7:34: Backend/n: spec.health.timeout: want a length of time, got a number; write it with its unit, such as 0.5s`},
		{"duplicate keys", head + "spec:\n  cidrs: [10.0.0.0/16]\n  cidrs: [10.1.0.0/16]\n", `
f.yaml:6:3: spec.cidrs: the key "cidrs" stands twice, first on line 5; keep one`},
		{"unknown kind and version", "apiVersion: v1\nkind: Netwrk\nmetadata: {name: n}\n---\nkind: network\n", `
f.yaml:1:13: apiVersion: unknown version "v1"; write postern/v1
f.yaml:2:7: kind: unknown kind "Netwrk"; did you mean "Network"?
f.yaml:5:1: apiVersion: is missing; write apiVersion: postern/v1
f.yaml:5:7: kind: unknown kind "network"; did you mean "Network"?`},
		{"no name", "apiVersion: postern/v1\nkind: Network\nmetadata: {labels: {a: b}}\nspec: {}\n---\napiVersion: postern/v1\nkind: Host\n---\njust text\n", `
f.yaml:3:11: metadata.name: is missing; give the Network a name
f.yaml:6:1: metadata.name: is missing; give the Host a name
f.yaml:9:1: want a resource, an object with apiVersion, kind, metadata and spec, got text`},
		{"the same twice", head + "---\n" + head, `
f.yaml:7:18: Network/n: metadata.name: stands twice, first at f.yaml:3:18; keep one`},
		{"syntax", head + "spec: {cidrs: [10.0.0.0/16}\n", `
f.yaml:4:27: ',' or ']' must be specified`},
		{"an unknown anchor and tag", head + "spec:\n  cidrs: *nets\n  dns: !custom {}\n", `
f.yaml:5:10: spec.cidrs: there is no anchor &nets before this
f.yaml:6:8: spec.dns: the tag !custom is not understood; remove it`},
		{"nothing", " \n", `
f.yaml: is empty`},
		{"json", "{\"apiVersion\":\"postern/v1\",\n \"kind\":\"Network\",\"metadata\":{\"name\":\"n\"},\n \"spec\":{\"cidrs\":[\"10.0.0.0/16\"],\"cidrs\":[],\n  \"x\":1}}", `
f.yaml:3:34: spec.cidrs: the key "cidrs" stands twice, first on line 3; keep one
f.yaml:4:3: Network/n: spec.x: unknown field; there is cidrs, dns, internetGateway`},
		{"a file outside", "apiVersion: postern/v1\nkind: API\nmetadata: {name: n}\nspec:\n  openapi: {$file: ../x.yaml}\n  policy: {$file: none.json}\n  plugins: {$file: 1, a: 2}\n", `
f.yaml:5:20: spec.openapi: $file "../x.yaml" lies outside the manifest's folder; move it below .
f.yaml:6:19: spec.policy: $file "none.json" is not there; its path is relative to .
f.yaml:7:20: spec.plugins: $file wants the path of a file`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := manifest.Decode("f.yaml", []byte(tt.in))
			if err == nil {
				t.Fatal("no error")
			}
			if d := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), err.Error()); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestDecodeReadsYAML12(t *testing.T) {
	objects, err := manifest.Decode("f.yaml", []byte(`
%YAML 1.2
---
# a comment
apiVersion: postern/v1
kind: Stage
metadata: {name: a.b, labels: {one: "1", "dotted.key/x": y}}
spec:
  deployment: 010
  variables: &v {a: "yes", b: no, c: 1_000, d: !!str 12}
status: {id: x, unknown: {a: 1}, host: mine, addresses: [10.0.0.4], port: no number}
revision: 17
---
apiVersion: postern/v1
kind: Stage
metadata:
  name: a.c
spec:
  deployment: latest
  variables:
    e: >-
      folded
      text
    <<: {e: over, f: merged}
...
`))
	if err != nil {
		t.Fatal(err)
	}
	a, b := objects[0].(*model.Stage), objects[1].(*model.Stage)
	if d := cmp.Diff(map[string]string{"a": "yes", "b": "no", "c": "1_000", "d": "12"}, a.Spec.Variables); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(model.Status{ID: "x", Addresses: []string{"10.0.0.4"}}, a.Status); d != "" {
		t.Error("status:", d)
	}
	if a.Spec.Deployment != "10" || b.Spec.Deployment != model.Latest {
		t.Errorf("deployments %q, %q", a.Spec.Deployment, b.Spec.Deployment)
	}
	if d := cmp.Diff(map[string]string{"e": "folded text", "f": "merged"}, b.Spec.Variables); d != "" {
		t.Error(d)
	}
	if got := b.Locate("spec.variables.e").String(); got != "f.yaml:21:8" {
		t.Error("e is at", got)
	}
}

func TestTabsAreCalledByTheirName(t *testing.T) {
	for _, in := range []string{"\tfoo: bar\n", "spec:\n\tfoo: bar\n", "spec:\n  a: 1\n\tfoo: bar\n"} {
		if _, err := manifest.Decode("f.yaml", []byte(in)); err == nil || !strings.Contains(err.Error(), "not indented with tabs; write spaces") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestAliasesAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := '1'; i <= '9'; i++ {
		p := string(i - 1)
		b.WriteString("a" + string(i) + ": &a" + string(i) + " [" + strings.Repeat("*a"+p+", ", 9) + "*a" + p + "]\n")
	}
	_, err := manifest.Decode("f.yaml", []byte(b.String()))
	if err == nil || !strings.Contains(err.Error(), "more than 500000 values") {
		t.Fatal(err)
	}
}

func TestNestingIsBounded(t *testing.T) {
	for _, s := range []string{"[", "{a: ", "- ", "? ", "!!seq ", "&a "} {
		in := strings.Repeat(s, 100_000)
		if _, err := manifest.Decode("f.yaml", []byte(in)); err == nil {
			t.Errorf("%q nested without end is read", s)
		}
	}
	if _, err := manifest.Decode("f.json", []byte(strings.Repeat("[", 100_000))); err == nil || !strings.Contains(err.Error(), "deeper than 100") {
		t.Error(err)
	}
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const api = "apiVersion: postern/v1\nkind: API\nmetadata: {name: %}\nspec: {gateway: g, type: edge, openapi: {$file: $}}\n"

func apiManifest(name, file string) string {
	return strings.NewReplacer("%", name, "$f", "$f", "$}", file+"}").Replace(api)
}

func TestLoadTakesAFolderWithoutWhatIsIncluded(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"b.yaml":          apiManifest("b", "docs/b.yaml"),
		"a.yml":           apiManifest("a", "open.yaml"),
		"open.yaml":       "openapi: 3.0.3\n",
		"docs/b.yaml":     "openapi: 3.1.0\n",
		".hidden.yaml":    "nonsense",
		"readme.txt":      "nonsense",
		"deeper/x.yaml":   "nonsense",
		"policy/any.json": "{}",
	})
	objects, err := manifest.Load(nil, dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objects {
		got = append(got, model.RefOf(o).String()+" "+string(o.(*model.API).Spec.OpenAPI))
	}
	want := []string{`API/a "openapi: 3.0.3\n"`, `API/b "openapi: 3.1.0\n"`}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestIncludesCannotLeaveTheFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"secret": "x", "in/a.yaml": apiManifest("a", "link"), "in/b.yaml": apiManifest("b", "docs/../../secret"), "in/c.yaml": apiManifest("c", filepath.Join(dir, "secret")), "in/d.yaml": apiManifest("d", "docs")})
	if err := os.Symlink("../secret", filepath.Join(dir, "in", "link")); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "in", "docs"), 0o755); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"a.yaml": "through a link", "b.yaml": "lies outside", "c.yaml": "lies outside", "d.yaml": "no regular file",
	} {
		_, err := manifest.Load(nil, filepath.Join(dir, "in", file))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", file, err, want)
		}
	}
}

func TestLoadSaysWhatCannotBeRead(t *testing.T) {
	_, err := manifest.Load(strings.NewReader("x: ["), "nowhere", t.TempDir(), "-")
	for _, want := range []string{"nowhere: cannot be read: no such file or directory", "holds no .yaml, .yml or .json file", "stdin:1:4: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}

func TestLoadBoundsTheSizeOfAFile(t *testing.T) {
	_, err := manifest.Load(bytes.NewReader(make([]byte, manifest.MaxFile+1)), "-")
	if err == nil || !strings.Contains(err.Error(), "larger than 16 MiB") {
		t.Error(err)
	}
}

func TestLocateFindsThePlaceOfAServersError(t *testing.T) {
	objects, err := manifest.Decode("f.yaml", []byte("apiVersion: postern/v1\nkind: Network\nmetadata: {name: n}\nspec:\n  cidrs:\n  - 10.0.0.0/16\n  - 10.1.0.0/16\n"))
	if err != nil {
		t.Fatal(err)
	}
	errs := manifest.Locate(model.Errors{
		{Ref: model.Ref{Kind: "Network", Name: "n"}, Field: "spec.cidrs[1]", Msg: "second"},
		{Ref: model.Ref{Kind: "Network", Name: "n"}, Field: "spec.dns.forward[0]", Msg: "not written"},
		{Ref: model.Ref{Kind: "Network", Name: "m"}, Field: "spec", Msg: "elsewhere"},
	}, objects)
	want := "Network/m: spec: elsewhere\nf.yaml:4:1: Network/n: spec.dns.forward[0]: not written\nf.yaml:7:5: Network/n: spec.cidrs[1]: second"
	if d := cmp.Diff(want, errs.Error()); d != "" {
		t.Error(d)
	}
}

func TestYAMLIsReadBackAsItWas(t *testing.T) {
	in := &model.API{
		Head: model.Head{Metadata: model.Metadata{Name: "a", Labels: map[string]string{"x": "", "no": "true", "d": "1e3", "e": " lead", "m": "two\nlines\n", "k": "a: b", "c": "#x", "u": "ü\u2028"}}},
		Spec: model.APISpec{Gateway: "g", Type: "edge", OpenAPI: []byte(`{"openapi":"3.0.3","list":[[1,[]],{"a":[{"b":null}]},"- x"],"empty":{},"t":"a\n\n b\n\n","n":1.50}`), Policy: []byte(`"{\n \"a\": 1}"`)},
	}
	text, err := manifest.MarshalYAML(in, &model.Network{Head: model.Head{Metadata: model.Metadata{Name: "n"}}, Spec: model.NetworkSpec{CIDRs: []string{"10.0.0.0/16"}}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := manifest.Decode("f.yaml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if !model.Equal(in, out[0]) {
		t.Errorf("%s\n%s", text, cmp.Diff(in.Spec, out[0].(*model.API).Spec))
	}
	if !strings.Contains(string(text), "cidrs: [10.0.0.0/16]\n") {
		t.Errorf("an unexpected form:\n%s", text)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("apiVersion: postern/v1\nkind: Network\nmetadata: {name: n}\nspec: {cidrs: [10.0.0.0/16]}\n"), false)
	f.Add([]byte(`{"apiVersion":"postern/v1","kind":"Stage","metadata":{"name":"a.b"},"spec":{"deployment":1,"canary":{"a":[1,"x"]}}}`), true)
	f.Add([]byte("apiVersion: postern/v1\nkind: Stage\nmetadata: {name: n}\nspec:\n  variables: &a {b: |\n   x\n}\n  canary: *a\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, asJSON bool) {
		if len(data) > 64<<10 {
			return
		}
		name := "f.yaml"
		if asJSON {
			name = "f.json"
		}
		objects, err := manifest.Decode(filepath.Join(t.TempDir(), name), data)
		if err != nil {
			return
		}
		for _, o := range objects {
			wire, err := model.Encode(o)
			if err != nil {
				t.Fatal(err)
			}
			back, err := model.Decode(wire)
			if err != nil {
				t.Fatalf("%s is not read back: %v", wire, err)
			}
			again, err := model.Encode(back)
			if err != nil || !bytes.Equal(wire, again) {
				t.Fatalf("%s becomes %s (%v)", wire, again, err)
			}
			text, err := manifest.MarshalYAML(back)
			if err != nil {
				t.Fatal(err)
			}
			fromYAML, err := manifest.Decode("x.yaml", text)
			if err != nil || len(fromYAML) != 1 {
				t.Fatalf("%q is not read back from\n%s: %v", wire, text, err)
			}
			if third, _ := model.Encode(fromYAML[0]); !bytes.Equal(wire, third) {
				t.Fatalf("%s becomes %s through\n%s", wire, third, text)
			}
		}
	})
}
