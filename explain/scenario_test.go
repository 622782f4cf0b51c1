// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/explain/render"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

var update = flag.Bool("update", false, "write the golden parts of testdata/scenarios")

// now is the time of every question.
var now = time.Unix(1_700_000_000, 0)

// scenario is one file of testdata/scenarios. Its head is a title and then
// lines of:
//
//	use: FILE              begin with testdata/worlds/FILE
//	deploy: API STAGE      as postern deploy does
//	state: ENDPOINT STATE  what the Gateway's owner decided
//	down: LINK             that the engine sees no tunnel for
//	server                 Stages serve what is deployed, not what is written
//	probe: CODE REASON     what a connection to a backend comes to
//	lookup: ADDRESSES      what the server's resolver answers for any name; none
//	                       of it, or nothing in time: none, late
//	health: TARGET REASON  a target that health probes have taken out
//	limited: CODE KIND     the request has happened, and a limit of KIND refused it
//	revoke: GROUP AUTHORIZATION PORTS  what was granted and is so no more
//
// Its files are world.yaml (more resources, or others of the same names),
// change.yaml (put after the deployments), question.json, and the golden
// answer.json and tree.txt.
type scenario struct {
	file     string
	archive  *txtar.Archive
	world    *explain.World
	question answer.Question
	down     map[string]bool
}

func scenarios(t testing.TB) []*scenario {
	t.Helper()
	files, err := filepath.Glob("testdata/scenarios/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	out := make([]*scenario, len(files))
	for i, f := range files {
		out[i] = &scenario{file: f}
	}
	return out
}

func (s *scenario) part(name string) []byte {
	for _, f := range s.archive.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func (s *scenario) set(name string, data []byte) {
	for i := range s.archive.Files {
		if s.archive.Files[i].Name == name {
			s.archive.Files[i].Data = data
			return
		}
	}
	s.archive.Files = append(s.archive.Files, txtar.File{Name: name, Data: data})
}

func (s *scenario) load(t testing.TB) {
	t.Helper()
	file := s.file
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s.archive, s.down = a, map[string]bool{}
	d := json.NewDecoder(bytes.NewReader(s.part("question.json")))
	d.DisallowUnknownFields()
	if err := d.Decode(&s.question); err != nil {
		t.Fatalf("%s: question.json: %v", file, err)
	}
	docs := documents{}
	server := false
	var limited *explain.Limited
	var probe func(context.Context, *snapshot.Gateway, *request.Destination, netip.AddrPort) (string, string, *request.Response)
	var health func(string, string, string) (bool, bool, string)
	var lookup func(context.Context, *snapshot.Gateway, *request.Destination) ([]netip.Addr, string, string)
	lines := strings.Split(string(a.Comment), "\n")
	for _, l := range lines {
		if use, ok := strings.CutPrefix(l, "use: "); ok {
			data, err := os.ReadFile("testdata/worlds/" + use)
			if err != nil {
				t.Fatal(err)
			}
			docs.read(t, use, data)
		}
	}
	docs.read(t, file, s.part("world.yaml"))
	for _, l := range lines {
		verb, rest, _ := strings.Cut(l, ": ")
		args := strings.Fields(rest)
		switch verb {
		case "deploy":
			docs.deploy(t, args[0], args[1])
		case "down":
			s.down[args[0]] = true
		case "probe":
			code, reason, _ := strings.Cut(rest, " ")
			probe = func(context.Context, *snapshot.Gateway, *request.Destination, netip.AddrPort) (string, string, *request.Response) {
				return code, reason, nil
			}
		case "lookup":
			lookup = resolver(args)
		case "health":
			target, reason, _ := strings.Cut(rest, " ")
			health = func(_, _, at string) (bool, bool, string) { return at != target, true, reason }
		case "revoke":
			docs[model.Ref{Kind: model.KindAuthorization, Name: args[1]}] = map[string]any{
				"apiVersion": model.Version, "kind": string(model.KindAuthorization), "metadata": map[string]any{"name": args[1]},
				"spec":   map[string]any{"gateway": "main", "securityGroup": args[0], "ports": []any{args[2]}},
				"status": map[string]any{"grantedPorts": []any{args[2]}},
			}
		case "limited":
			limited = &explain.Limited{Code: args[0], Kind: model.Kind(args[1])}
		case "server":
			server = true
		}
	}
	docs.read(t, file, s.part("change.yaml"))
	for _, l := range lines {
		if args := strings.Fields(l); len(args) == 3 && args[0] == "state:" {
			docs[model.Ref{Kind: model.KindEndpoint, Name: args[1]}]["status"] = map[string]any{"connection": args[2]}
		}
	}
	s.world = docs.world(t, server, s.down)
	s.world.Limited = limited
	s.world.Probe, s.world.Health, s.world.Lookup = probe, health, lookup
}

// resolver is a Lookup that answers the same for every name.
func resolver(with []string) func(context.Context, *snapshot.Gateway, *request.Destination) ([]netip.Addr, string, string) {
	return func(_ context.Context, _ *snapshot.Gateway, d *request.Destination) (addrs []netip.Addr, code, reason string) {
		switch with[0] {
		case "late":
			return nil, "", ""
		case "none":
			return nil, request.CodeNoName, "The server's own resolver finds no address of " + d.Host
		}
		for _, a := range with {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		return addrs, "dns/answered", "The server's own resolver answers for " + d.Host
	}
}

func ask(t testing.TB, w *explain.World, q answer.Question) *answer.Answer {
	t.Helper()
	a, err := explain.Explain(t.Context(), w, q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestScenarios compares every answer with its golden file.
func TestScenarios(t *testing.T) {
	codes := map[string]bool{}
	for _, s := range scenarios(t) {
		t.Run(filepath.Base(s.file), func(t *testing.T) {
			s.load(t)
			a := ask(t, s.world, s.question)
			judgeShape(t, a)
			for _, h := range a.Hops {
				codes[h.Code] = true
			}
			body, err := json.MarshalIndent(a, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			var tree strings.Builder
			if err := render.Tree(&tree, a, render.Options{}); err != nil {
				t.Fatal(err)
			}
			golden := map[string]string{
				"answer.json": string(body) + "\n", "tree.txt": tree.String(), "brief.txt": render.Brief(a),
			}
			for _, name := range []string{"answer.json", "tree.txt", "brief.txt"} {
				if *update {
					s.set(name, []byte(golden[name]))
				} else if d := cmp.Diff(string(s.part(name)), golden[name]); d != "" {
					t.Errorf("%s differs; look, then run with -update:\n%s", name, d)
				}
			}
			if *update {
				if err := os.WriteFile(s.file, txtar.Format(s.archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	var missing []string
	for _, c := range produced {
		if !codes[c] {
			missing = append(missing, c)
		}
	}
	if len(missing) > 0 {
		t.Errorf("no scenario shows %s", strings.Join(missing, ", "))
	}
}

// produced are the codes of CONTRACT that this version gives.
var produced = []string{
	"dns/answered", "dns/nxdomain", "dns/private-shadows-public", "dns/resolves-public",
	"route/local", "route/link", "route/peering", "route/internet", "route/none", "route/link-down", "route/overlap",
	"sg/allowed", "sg/no-inbound-rule", "sg/no-outbound-rule", "sg/inbound-deny", "sg/outbound-deny",
	"listen/accepted", "listen/refused", "listen/public-access-off",
	"endpoint/accepted", "endpoint/pending", "endpoint/rejected", "endpoint/policy-deny", "endpoint/policy-no-allow",
	"tls/ok", "tls/unknown-name", "tls/client-cert",
	"host/unknown", "api/found", "api/id-missing", "api/id-unknown", "api/not-private",
	"stage/found", "stage/missing", "stage/not-deployed", "stage/stale",
	"method/found", "method/unknown",
	"policy/allow", "policy/explicit-deny", "policy/no-allow", "policy/absent",
	"auth/key-missing", "auth/key-unknown",
	"backend/ok", "backend/none", "backend/refused", "backend/timeout", "backend/tls", "backend/unhealthy",
}

// judgeShape checks what holds of every answer.
func judgeShape(t testing.TB, a *answer.Answer) {
	t.Helper()
	var stops []int
	for i, h := range a.Hops {
		if h.Outcome == answer.Stop {
			stops = append(stops, i)
		}
		if h.Layer == "" || h.Component == "" || h.Code == "" || !strings.HasSuffix(h.Reason, ".") || h.Evidence == "" {
			t.Errorf("hop %d is not complete: %+v", i, h)
		}
	}
	switch {
	case (a.Verdict == answer.Deny) != (len(a.Blockers) > 0), len(stops) != len(a.Blockers):
		t.Errorf("%s with %d blockers and %d stops", a.Verdict, len(a.Blockers), len(stops))
	case len(stops) > 0 && a.DecidedBy != stops[0]:
		t.Errorf("decided by hop %d, but the first stop is hop %d", a.DecidedBy, stops[0])
	case a.Code != a.Hops[a.DecidedBy].Code:
		t.Errorf("code %s is not that of the hop that decides, %s", a.Code, a.Hops[a.DecidedBy].Code)
	case a.Verdict == answer.Allow && len(a.Fixes) > 0:
		t.Errorf("%s with fixes", a.Verdict)
	case a.Verdict != answer.Unknown && a.Symptom.Kind == "":
		t.Error("no symptom")
	}
	for i, b := range a.Blockers {
		if h := a.Hops[stops[i]]; h.Code != b.Code || h.Component != b.Component {
			t.Errorf("blocker %d is %+v, the hop %+v", i, b, h)
		}
	}
	for _, f := range a.Fixes {
		if f.Summary == "" || strings.Contains(f.Summary, "\n") || !f.Verified ||
			!slices.ContainsFunc(a.Blockers, func(b answer.Blocker) bool { return b.Code == f.For }) &&
				!slices.ContainsFunc(a.Findings, func(x answer.Finding) bool { return a.Verdict == answer.Unknown && x.Code == f.For }) {
			t.Errorf("fix %+v", f)
		}
	}
}

// TestEveryFixHelps does by hand what each fix says, JSON Patch and commands,
// and asks again.
func TestEveryFixHelps(t *testing.T) {
	total := 0
	for _, s := range scenarios(t) {
		s.load(t)
		a := ask(t, s.world, s.question)
		for i := range a.Fixes {
			total++
			t.Run(fmt.Sprintf("%s/%d", filepath.Base(s.file), i), func(t *testing.T) {
				w, q := follow(t, s, &a.Fixes[i], s.world, s.question)
				for range 6 {
					next := ask(t, w, q)
					if next.Verdict == answer.Allow {
						return
					}
					if len(next.Fixes) == 0 {
						break
					}
					w, q = follow(t, s, &next.Fixes[0], w, q)
				}
				last := ask(t, w, q)
				t.Errorf("%q leads to %s %s: %s", a.Fixes[i].Summary, last.Verdict, last.Code, render.Brief(last))
			})
		}
	}
	if total < 40 {
		t.Errorf("only %d fixes were tried", total)
	}
}

// follow does what a fix says.
func follow(t *testing.T, s *scenario, f *answer.Fix, w *explain.World, q answer.Question) (*explain.World, answer.Question) {
	t.Helper()
	docs := documents{}
	for _, o := range w.Set.Objects() {
		docs.put(t, o)
	}
	server := !w.AsWritten
	for _, p := range f.Patch {
		kind, name, _ := strings.Cut(p.Resource, "/")
		ref := model.Ref{Kind: model.Kind(kind), Name: name}
		var doc any
		if d := docs[ref]; d != nil {
			doc = d
		}
		for _, op := range p.Ops {
			var err error
			if doc, err = patch(doc, op.Op, op.Path, clone(t, op.Value)); err != nil {
				t.Fatalf("%s: %v", p.Resource, err)
			}
		}
		docs[ref] = doc.(map[string]any)
	}
	for _, p := range f.Patch {
		api, ok := strings.CutPrefix(p.Resource, "API/")
		for ref, doc := range docs {
			spec, _ := doc["spec"].(map[string]any)
			if of, stage, _ := strings.Cut(ref.Name, "."); ok && server && ref.Kind == model.KindStage && of == api && spec["autoDeploy"] == true {
				docs.deploy(t, api, stage) // as a server does by itself
				break
			}
		}
	}
	down := map[string]bool{}
	for l := range s.down {
		down[l] = w.LinkUp != nil
	}
	var allowed []netip.Prefix
	for _, c := range f.Commands {
		word := strings.Fields(c)
		switch word[1] {
		case "deploy":
			docs.deploy(t, word[2], word[4])
		case "endpoint":
			docs[model.Ref{Kind: model.KindEndpoint, Name: word[3]}]["status"].(map[string]any)["connection"] = model.Approved
		case "config":
			delete(down, strings.TrimPrefix(word[3], "link/"))
		case "server":
			allowed = append(allowed, netip.MustParsePrefix(word[3]))
		case "apply", "get", "describe", "key":
		default:
			t.Fatalf("%q: no such command", c)
		}
	}
	if r := f.Request; r != nil {
		if r.Method != "" {
			q.Method = r.Method
		}
		q.URL = r.URL
		if r.KeyOf != "" {
			q.KeyOf = r.KeyOf
		}
		q.Headers = slices.DeleteFunc(slices.Clone(q.Headers), func(h answer.Header) bool {
			_, set := r.Headers[strings.ToLower(h.Name)]
			return set || slices.Contains(r.Without, strings.ToLower(h.Name))
		})
		for k, v := range r.Headers {
			q.Headers = append(q.Headers, answer.Header{Name: k, Value: v})
		}
	}
	next := docs.world(t, server, nil)
	next.Lookup = w.Lookup
	next.Result.Snapshot.Internet.Egress = append(w.Snapshot().Internet.Egress, allowed...)
	if len(down) > 0 && slices.Contains(slices.Collect(mapsValues(down)), true) {
		next.LinkUp = func(l *snapshot.Link) bool { return !down[l.Name] }
	}
	return next, q
}

func mapsValues(m map[string]bool) func(func(bool) bool) {
	return func(yield func(bool) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}
