// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// models is the walk-through that has a Gateway of every networking model.
const models = "5-networking-models"

// unpack writes the files of a walk-through into a folder.
func unpack(t *testing.T, name string) string {
	t.Helper()
	scripts, err := Scripts()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(scripts, func(s Script) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("there is no walk-through %s", name)
	}
	dir := t.TempDir()
	for _, f := range scripts[i].Files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// modelled starts a Postern for the files of the walk-through of the networking
// models, and returns what applies some of them, and what approves Endpoints.
func modelled(t *testing.T) (s *Stage, file, approve func(names ...string)) {
	t.Helper()
	dir := unpack(t, models)
	s = stage(t)
	file = func(names ...string) {
		t.Helper()
		paths := make([]string, len(names))
		for i, n := range names {
			paths[i] = filepath.Join(dir, n)
		}
		apply(t, s, paths...)
	}
	approve = func(names ...string) {
		t.Helper()
		for _, n := range names {
			if _, err := s.API().ApproveEndpoint(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s, file, approve
}

// Every component of Gateways of all networking models is really called from
// everywhere, and each call ends as postern get matrix says.
func TestMatrixIsWhatConnectionsFind(t *testing.T) {
	s, file, approve := modelled(t)
	file("networks.yaml", "groups.yaml", "gateways.yaml", "apis.yaml")

	// kinds counts, by networking model, what the cells of each were seen as.
	kinds := map[string]map[string]int{}
	total := 0
	compare := func(model, gateway string) {
		t.Helper()
		m, err := s.Matrix(t.Context(), gateway)
		if err != nil {
			t.Fatalf("%s: %v", model, err)
		}
		differ, compared := m.Differences()
		for _, err := range differ {
			t.Errorf("%s: %v", model, err)
		}
		if want := expected(t, s, m); compared != want {
			t.Errorf("%s: %d cells were compared, not %d", model, compared, want)
		}
		total += compared
		seen := map[string]int{}
		for _, row := range m.Seen {
			for i := range row {
				seen[short(row[i].Seen)]++
			}
		}
		kinds[model] = seen
	}

	compare("none", "none")
	compare("external", "external")
	file("external-no-internet.yaml")
	compare("external, closed to the internet", "external")
	file("external-no-management.yaml")
	compare("external, closed to the management plane", "external")
	compare("internal", "internal")
	file("branch-names.yaml")
	compare("internal, with names at a peer", "internal")
	file("internal-management.yaml")
	compare("internal, management open to one address", "internal")
	compare("outbound integration", "outbound")
	compare("private endpoint, none yet", "endpoint")
	file("door.yaml")
	compare("private endpoint, pending", "endpoint")
	approve("door")
	compare("private endpoint, public access on", "endpoint")
	file("partner-door.yaml")
	approve("partner-door")
	file("public-off.yaml")
	compare("private endpoint, public access off", "endpoint")
	if _, err := s.API().RejectEndpoint(t.Context(), "partner-door"); err != nil {
		t.Fatal(err)
	}
	compare("private endpoint, one rejected", "endpoint")
	file("inner-door.yaml")
	compare("private endpoint at an injected Gateway", "internal")

	// A test in which nothing is refused, or nothing answers, would agree with
	// anything.
	all := map[string]int{}
	for _, seen := range kinds {
		for k, n := range seen {
			all[k] += n
		}
	}
	for _, kind := range []string{"200", "403", string(answer.Timeout), string(answer.Refused), string(answer.NXDomain)} {
		if all[kind] == 0 {
			t.Errorf("no cell was seen as %s", kind)
		}
	}
	const models, rows, sources = 14, 7, 7
	if total < models*rows*sources {
		t.Errorf("%d cells were compared, fewer than %d", total, models*rows*sources)
	}
	for _, m := range slices.Sorted(maps.Keys(kinds)) {
		t.Logf("%s: %v", m, kinds[m])
	}
}

// expected counts the cells that a matrix has to have, by what is declared and
// not by what was answered: each component at each of its ports, from each Host,
// each Link, the internet and the management plane.
func expected(t *testing.T, s *Stage, m *Matrix) int {
	t.Helper()
	want := map[string]bool{
		"gateway 443": true, "management 443": true, "management 3443": true,
		"configuration 443": true, "configuration 3443": true, "portal 443": true, "scm 443": true,
	}
	for _, r := range m.Rows {
		delete(want, rowName(&r))
	}
	if len(want) > 0 {
		t.Errorf("the matrix of %s lacks %v", m.Gateway, slices.Sorted(maps.Keys(want)))
	}
	set := s.Instance().Resources()
	sources := []string{"internet", "internet/198.18.0.1"}
	for _, h := range model.All[*model.Host](set) {
		sources = append(sources, "host/"+h.Metadata.Name)
	}
	for _, l := range model.All[*model.Link](set) {
		sources = append(sources, "link/"+l.Metadata.Name)
	}
	for _, source := range sources {
		if !slices.Contains(m.Sources, source) {
			t.Errorf("the matrix of %s does not ask from %s but from %s", m.Gateway, source, strings.Join(m.Sources, ", "))
		}
	}
	return len(m.Rows) * len(sources)
}

// Names lead a caller to one address of a Gateway. Whoever knows the others finds
// at each of them, and at each port, what is explained.
func TestEveryAddressOfAGatewayIsAsExplained(t *testing.T) {
	s, file, approve := modelled(t)
	file("networks.yaml", "groups.yaml", "gateways.yaml", "apis.yaml", "door.yaml", "partner-door.yaml", "inner-door.yaml")
	approve("door")

	set := s.Instance().Resources()
	var addresses []string
	for _, g := range model.All[*model.Gateway](set) {
		addresses = append(addresses, g.Spec.PublicAddress, g.Status.ConfigurationAddress)
		addresses = append(addresses, g.Status.Addresses...)
		if g.Status.OutboundAddress != "" {
			addresses = append(addresses, g.Status.OutboundAddress)
		}
	}
	for _, e := range model.All[*model.Endpoint](set) {
		addresses = append(addresses, e.Status.Addresses...)
	}
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	if want := 5*2 + 2 + 1 + 3; len(addresses) != want {
		t.Fatalf("%d addresses, not %d: %v", len(addresses), want, addresses)
	}
	sources := []string{"internet/203.0.113.7", "internet/198.18.0.1", "host/desk", "host/branch", "host/partner", "link/office/192.168.50.10"}
	ports := []string{"80", "443", "3443", "8443"}
	for _, source := range sources {
		s.callers.ready(t.Context(), source)
	}
	var wait sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	seen := map[answer.SymptomKind]int{}
	var mu sync.Mutex
	for _, source := range sources {
		for _, a := range addresses {
			for _, port := range ports {
				slots <- struct{}{}
				wait.Go(func() {
					defer func() { <-slots }()
					q := answer.Question{From: source, URL: "tcp://" + a + ":" + port}
					told, err := s.API().Explain(t.Context(), q)
					if err != nil {
						t.Error(err)
						return
					}
					o, err := s.send(t.Context(), q, told)
					if err == nil {
						err = o.Agrees()
					}
					if err != nil {
						t.Errorf("%s to %s: %v", source, q.URL, err)
					}
					mu.Lock()
					defer mu.Unlock()
					seen[o.Seen.Kind]++
				})
			}
		}
	}
	wait.Wait()
	t.Log(seen)
	for _, kind := range []answer.SymptomKind{answer.Connected, answer.Refused, answer.Timeout} {
		if seen[kind] < 10 {
			t.Errorf("%s was seen %d times", kind, seen[kind])
		}
	}
}
