// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern.dev/postern/control/pki"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/store"
	"postern.dev/postern/store/mem"
)

// world is a registry with the parts around it that a test looks at.
type world struct {
	*Registry
	store    store.Store
	compiles atomic.Int64
	served   atomic.Pointer[snapshot.Snapshot]
	panics   atomic.Bool
}

// open opens a registry on s that admits everything and compiles only names.
func open(t *testing.T, s store.Store, ports Ports) *world {
	t.Helper()
	w := &world{store: s}
	r, err := Open(t.Context(), Options{
		Store: s,
		Ports: ports,
		Compile: func(in Input) Output {
			w.compiles.Add(1)
			if w.panics.Load() {
				panic("broken")
			}
			out := &snapshot.Snapshot{Revision: in.Revision, Networks: map[string]*snapshot.Network{}, APIs: map[string]*snapshot.API{}}
			for _, n := range model.All[*model.Network](in.Set) {
				out.Networks[n.Metadata.Name] = &snapshot.Network{Name: n.Metadata.Name, Hub: in.Hub(n.Metadata.Name)}
			}
			for _, a := range model.All[*model.API](in.Set) {
				out.APIs[a.Metadata.Name] = &snapshot.API{Name: a.Metadata.Name}
			}
			return Output{Snapshot: out}
		},
		Publish: func(s *snapshot.Snapshot) { w.served.Store(s) },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Registry = r
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func newStore(t *testing.T) store.Store {
	s := mem.New(store.Limits{})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(objects ...model.Object) func(*Head) (*Edit, error) {
	return func(*Head) (*Edit, error) { return &Edit{Change: model.Change{Puts: objects}}, nil }
}

func network(name string) *model.Network {
	return &model.Network{Head: model.Head{Metadata: model.Metadata{Name: name}}, Spec: model.NetworkSpec{CIDRs: []string{"10.0.0.0/16"}}}
}

func backend(name string) *model.Backend {
	return &model.Backend{Head: model.Head{Metadata: model.Metadata{Name: name}}, Spec: model.BackendSpec{Targets: []model.Target{{Host: "10.0.0.9", Port: 80}}}}
}

func TestUpdateIsServedWhenItReturns(t *testing.T) {
	w := open(t, newStore(t), Ports{})
	for i := range 20 {
		name := fmt.Sprintf("n%d", i)
		res, err := w.Update(t.Context(), false, put(network(name)))
		if err != nil {
			t.Fatal(err)
		}
		if w.served.Load().Networks[name] == nil {
			t.Fatalf("%s is not served at revision %d", name, res.Revision)
		}
		if len(res.Changes) != 1 || res.Changes[0].Before != nil {
			t.Fatalf("changes: %+v", res.Changes)
		}
	}
}

func TestUpdateThatChangesNothingWritesNothing(t *testing.T) {
	w := open(t, newStore(t), Ports{})
	if _, err := w.Update(t.Context(), false, put(backend("a"))); err != nil {
		t.Fatal(err)
	}
	was := w.Head().Revision
	res, err := w.Update(t.Context(), false, put(backend("a")))
	if err != nil {
		t.Fatal(err)
	}
	if res.Revision != was || len(res.Changes) != 0 {
		t.Errorf("revision %d after %d, changes %v", res.Revision, was, res.Changes)
	}
}

func TestDryRunTellsAndWritesNothing(t *testing.T) {
	w := open(t, newStore(t), Ports{})
	res, err := w.Update(t.Context(), true, put(backend("a")))
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Changes) != 1 {
		t.Errorf("changes: %v", res.Changes)
	}
	if _, rev, _ := w.store.Load(t.Context()); rev != 0 {
		t.Errorf("the store is at revision %d", rev)
	}
}

// TestConcurrentWritersLoseNothing has two processes' registries on one store.
func TestConcurrentWritersLoseNothing(t *testing.T) {
	s := newStore(t)
	worlds := []*world{open(t, s, Ports{Low: 51820, High: 51899}), open(t, s, Ports{Low: 51820, High: 51899})}
	var wg sync.WaitGroup
	const each = 8
	for i, w := range worlds {
		for n := range each {
			wg.Go(func() {
				if _, err := w.Update(t.Context(), false, put(network(fmt.Sprintf("n%d-%d", i, n)))); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for i, w := range worlds {
		// A change of nothing waits for what is known; both see all at the end.
		_, rev, err := s.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.await(t.Context(), func() bool { return w.Published().Revision >= rev }); err != nil {
			t.Fatal(err)
		}
		if got := w.Head().Set.Len(); got != 2*each {
			t.Errorf("registry %d has %d Networks, want %d", i, got, 2*each)
		}
		ports := map[int]string{}
		for name, n := range w.served.Load().Networks {
			if other, twice := ports[n.Hub.Port]; twice || n.Hub.Port == 0 {
				t.Errorf("%s and %s share UDP port %d", name, other, n.Hub.Port)
			}
			ports[n.Hub.Port] = name
		}
	}
}

func TestHubKeepsItsKeyAndLeavesWithItsNetwork(t *testing.T) {
	s := newStore(t)
	w := open(t, s, Ports{Low: 51820, High: 51820})
	if _, err := w.Update(t.Context(), false, put(network("a"))); err != nil {
		t.Fatal(err)
	}
	hub := w.served.Load().Networks["a"].Hub
	n, _ := model.Get[*model.Network](w.Head().Set, "a")
	if n.Status.PublicKey != hub.PublicKey || hub.PublicKey == "" || n.Status.Port != 51820 {
		t.Errorf("status %+v does not show the hub", n.Status)
	}
	if _, err := w.Update(t.Context(), false, put(network("b"))); kindOf(err) != model.Limited {
		t.Errorf("a second Network in a range of one port: %v", err)
	}
	again := open(t, s, Ports{Low: 60000, High: 60000})
	moved := again.served.Load().Networks["a"].Hub
	if moved.PublicKey != hub.PublicKey || moved.Port != 60000 {
		t.Errorf("after a start with another range: port %d, same key %v", moved.Port, moved.PublicKey == hub.PublicKey)
	}
	if _, err := again.Update(t.Context(), false, func(*Head) (*Edit, error) {
		return &Edit{Change: model.Change{Deletes: []model.Ref{{Kind: model.KindNetwork, Name: "a"}}}}, nil
	}); err != nil {
		t.Fatal(err)
	}
	if left := again.Head().Documents(KindHub); len(left) != 0 {
		t.Errorf("%d hubs are left", len(left))
	}
}

func kindOf(err error) model.ErrorKind {
	if e, ok := errors.AsType[*model.Error](err); ok {
		return e.Kind
	}
	return ""
}

func TestDocumentThatIsNoResourceIsNotCompiled(t *testing.T) {
	w := open(t, newStore(t), Ports{})
	before := w.compiles.Load()
	if _, err := w.Update(t.Context(), false, func(*Head) (*Edit, error) {
		return &Edit{Puts: []store.Put{{Key: store.Key{Kind: KindToken, Name: "x"}, Data: []byte("{}")}}}, nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := w.compiles.Load(); got != before {
		t.Errorf("%d compilations for a token", got-before)
	}
	if _, ok := w.Head().Document(KindToken, "x"); !ok {
		t.Error("the document is not there")
	}
}

func TestStoreThatIsAwayRefusesChangesAndServesOn(t *testing.T) {
	s := newStore(t)
	w := open(t, s, Ports{})
	if _, err := w.Update(t.Context(), false, put(network("a"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := w.Update(t.Context(), false, put(network("b")))
	if kindOf(err) != model.Unavailable || !strings.Contains(err.Error(), "still served") {
		t.Errorf("got %v, want unavailable and what goes on", err)
	}
	if w.Trouble() == nil {
		t.Error("the trouble is not noted")
	}
	if w.served.Load().Networks["a"] == nil || w.Head().Set.Len() != 1 {
		t.Error("what was there is gone")
	}
}

func TestCompilePanicKeepsTheLastSnapshot(t *testing.T) {
	w := open(t, newStore(t), Ports{})
	if _, err := w.Update(t.Context(), false, put(network("a"))); err != nil {
		t.Fatal(err)
	}
	served := w.served.Load()
	w.panics.Store(true)
	if _, err := w.Update(t.Context(), false, put(network("b"))); kindOf(err) != model.Internal {
		t.Errorf("got %v, want internal", err)
	}
	if w.served.Load() != served || w.Published().Snapshot != served {
		t.Error("another snapshot is served")
	}
	w.panics.Store(false)
	if _, err := w.Update(t.Context(), false, put(network("c"))); err != nil {
		t.Fatal(err)
	}
	if got := len(w.served.Load().Networks); got != 3 {
		t.Errorf("%d Networks served after it recovered, want 3", got)
	}
}

func TestWhatIsNotServedIsToldSinceItIsStored(t *testing.T) {
	s := newStore(t)
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var now atomic.Int64
	var panics atomic.Bool
	hold, entered := make(chan struct{}), make(chan struct{})
	r, err := Open(t.Context(), Options{
		Store: s,
		Now:   func() time.Time { return noon.Add(time.Duration(now.Load())) },
		Compile: func(in Input) Output {
			if in.Revision > 0 {
				entered <- struct{}{}
				<-hold
			}
			if panics.Load() {
				panic("broken")
			}
			return Output{Snapshot: &snapshot.Snapshot{Revision: in.Revision}}
		},
		Publish: func(*snapshot.Snapshot) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	behind := func(want time.Time) {
		t.Helper()
		if got := r.Behind(); !got.Equal(want) {
			t.Errorf("behind since %v, want %v", got, want)
		}
	}
	// update stores something; the compilation of it is under way when it returns.
	update := func(name string) (done chan error) {
		done = make(chan error, 1)
		go func() {
			_, err := r.Update(t.Context(), false, put(backend(name)))
			done <- err
		}()
		<-entered
		return done
	}
	behind(time.Time{})
	now.Store(int64(time.Hour)) // nothing was changed for long
	done := update("a")
	now.Store(int64(time.Hour + time.Minute))
	behind(noon.Add(time.Hour))
	hold <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	behind(time.Time{})
	panics.Store(true)
	done = update("b")
	hold <- struct{}{}
	if err := <-done; err == nil {
		t.Fatal("what cannot be compiled is served")
	}
	now.Store(int64(2 * time.Hour))
	behind(noon.Add(time.Hour + time.Minute))
	panics.Store(false)
	done = update("c")
	behind(noon.Add(time.Hour + time.Minute))
	hold <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	behind(time.Time{})
}

func TestChangesGatherWhileACompilationRuns(t *testing.T) {
	s := newStore(t)
	hold, entered := make(chan struct{}), make(chan struct{}, 100)
	var blocked atomic.Bool
	r, err := Open(t.Context(), Options{
		Store: s,
		Compile: func(in Input) Output {
			entered <- struct{}{}
			if blocked.Load() {
				<-hold
			}
			return Output{Snapshot: &snapshot.Snapshot{Revision: in.Revision}}
		},
		Publish: func(*snapshot.Snapshot) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	<-entered
	blocked.Store(true)
	var wg sync.WaitGroup
	const writers = 10
	for i := range writers {
		wg.Go(func() {
			if _, err := r.Update(t.Context(), false, put(backend(fmt.Sprintf("b%d", i)))); err != nil {
				t.Error(err)
			}
		})
	}
	// Writers are not held up by the compilation: all are stored while the
	// first is still being compiled.
	if err := r.await(t.Context(), func() bool { return r.Head().Set.Len() == writers }); err != nil {
		t.Fatal(err)
	}
	blocked.Store(false)
	close(hold)
	wg.Wait()
	if n := len(entered); n > 2 {
		t.Errorf("%d compilations for %d changes that came while one ran, want 2 at most", n, writers)
	}
}

func TestUpdateEndsWithItsContext(t *testing.T) {
	w := open(t, newStore(t), Ports{})
	w.write <- struct{}{} // another change is being made
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := w.Update(ctx, false, put(network("a"))); kindOf(err) != model.Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
	<-w.write
}

func TestSecretsAreKeptInTheStoreAndNowhereElse(t *testing.T) {
	w := open(t, newStore(t), Ports{})
	cert, key := givenCertificate(t)
	const secret = "PRIVATE KEY"
	d := named(&model.Domain{}, "a.example.com")
	d.Spec = model.DomainSpec{Type: model.Edge, Mappings: []model.Mapping{{API: "pets", Stage: "prod"}}, TLS: &model.DomainTLS{Certificate: cert, Key: key}}
	g := named(&model.Gateway{}, "gw")
	g.Spec.Region = "eu-1"
	a := named(&model.API{}, "pets")
	a.Spec = model.APISpec{Gateway: "gw", Type: model.Edge, OpenAPI: []byte(`"example:petstore"`)}
	if _, err := w.Update(t.Context(), false, put(g, a, named(&model.Stage{}, "pets.prod"), d)); err != nil {
		t.Fatal(err)
	}
	docs, _, err := w.store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var stored bool
	for _, d := range docs {
		stored = stored || strings.Contains(string(d.Data), secret)
	}
	if !stored {
		t.Error("the store lost the secret")
	}
	held, _ := model.Get[*model.Domain](w.Head().Set, "a.example.com")
	shown, err := model.Encode(held)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(shown), secret) {
		t.Error("the secret shows")
	}
	// What was shown can be written back.
	back, err := model.Decode(shown)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Update(t.Context(), false, put(back)); err != nil {
		t.Fatal(err)
	}
	held, _ = model.Get[*model.Domain](w.Head().Set, "a.example.com")
	if got := held.Spec.TLS.Key.Reveal(); got != key.Reveal() {
		t.Error("what was written back is not what was read")
	}
}

func TestResourceThatCannotBeReadIsLeftOut(t *testing.T) {
	s := newStore(t)
	if _, err := s.Apply(t.Context(), store.Change{IfRevision: store.Any, Puts: []store.Put{
		{Key: store.Key{Kind: "Network", Name: "a"}, Data: []byte("not JSON")},
		{Key: store.Key{Kind: "Unheard", Name: "b"}, Data: []byte("{}")},
	}}); err != nil {
		t.Fatal(err)
	}
	w := open(t, s, Ports{})
	if w.Head().Set.Len() != 0 {
		t.Error("something was read")
	}
	// Applying it again mends it.
	if _, err := w.Update(t.Context(), false, put(network("a"))); err != nil {
		t.Fatal(err)
	}
	if w.served.Load().Networks["a"] == nil {
		t.Error("it is not served after it was applied again")
	}
}

func named[T model.Object](o T, name string) T {
	o.Base().Metadata.Name = name
	return o
}

// givenCertificate is a certificate with its key, as somebody may give one.
func givenCertificate(t *testing.T) (string, model.Secret) {
	t.Helper()
	a, err := pki.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	cert := string(a.RootPEM())
	return cert, model.NewSecret(strings.TrimPrefix(text.Reveal(), cert))
}
