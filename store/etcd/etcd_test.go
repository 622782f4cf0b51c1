// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"postern.dev/postern/store"
	"postern.dev/postern/store/sealed"
	"postern.dev/postern/store/storetest"
)

func testKey(t testing.TB, fill byte) *sealed.Key {
	t.Helper()
	k, err := sealed.NewKey(bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { shut(t, s) })
	return s
}

func shut(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestConformanceEmbedded(t *testing.T) {
	for name, codec := range map[string]Codec{"clear": nil, "sealed": testKey(t, 1)} {
		t.Run(name, func(t *testing.T) {
			dirs := map[store.Store]string{}
			var opts Options
			storetest.Run(t, storetest.Harness{
				Open: func(t *testing.T, l store.Limits) store.Store {
					// Checkpoints come often, so that the suite meets them.
					opts = Options{Codec: codec, Limits: l, CheckpointChanges: 25}
					dir := filepath.Join(t.TempDir(), "store")
					s := open(t, dir, opts)
					dirs[s] = dir
					return s
				},
				Again: func(t *testing.T, first store.Store) store.Store {
					if err := first.Close(); err != nil {
						t.Fatal(err)
					}
					return open(t, dirs[first], opts)
				},
			})
		})
	}
}

// startCluster runs an etcd with stock limits that serves on a unix socket.
func startCluster(t testing.TB) (address string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "etcd") // short: a socket path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := embed.NewConfig()
	c.Dir = filepath.Join(dir, "data")
	c.TickMs, c.ElectionMs = 10, 100
	u := url.URL{Scheme: "unix", Host: filepath.Join(dir, "s")}
	c.ListenPeerUrls = nil
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{u}, []url.URL{u}
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	return "unix://" + filepath.Join(dir, "s")
}

func dial(t testing.TB, address string, o Options) *Store {
	t.Helper()
	s, err := Dial(t.Context(), Cluster{Addresses: []string{address}}, o)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	t.Cleanup(func() { shut(t, s) })
	return s
}

func TestConformanceCluster(t *testing.T) {
	address := startCluster(t)
	var mu sync.Mutex
	n := 0
	opts := map[store.Store]Options{}
	storetest.Run(t, storetest.Harness{
		Shared: true,
		Open: func(t *testing.T, l store.Limits) store.Store {
			mu.Lock()
			defer mu.Unlock()
			n++
			o := Options{Codec: testKey(t, 2), Limits: l, Prefix: fmt.Sprintf("/t%d/", n), CheckpointChanges: 25}
			s := dial(t, address, o)
			opts[s] = o
			return s
		},
		Again: func(t *testing.T, first store.Store) store.Store {
			mu.Lock()
			defer mu.Unlock()
			return dial(t, address, opts[first])
		},
	})
}

func small(name, data string) store.Change {
	return store.Change{IfRevision: store.Any, Puts: []store.Put{
		{Key: store.Key{Kind: "K", Name: name}, IfRevision: store.Any, Data: []byte(data)},
	}}
}

func apply(t testing.TB, s *Store, c store.Change) int64 {
	t.Helper()
	rev, err := s.Apply(t.Context(), c)
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return rev
}

// inTurn does something that the store's own goroutines must not see half.
func inTurn(t testing.TB, s *Store, do func()) {
	t.Helper()
	if err := s.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.unlock()
	do()
}

// counts returns how many keys etcd holds in each part of the layout.
func counts(t testing.TB, s *Store) map[string]int64 {
	t.Helper()
	n := map[string]int64{}
	for part, prefix := range map[string]string{"log": s.keys.logs(), "body": s.keys.bodies(), "chunk": s.keys.chunks()} {
		resp, err := s.client.Get(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		n[part] = resp.Count
	}
	return n
}

// eventually asks until ok, for what happens in the background.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(storetest.Patience); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("it did not happen that %s", what)
		}
	}
}

func TestCheckpointsBoundWhatEtcdHolds(t *testing.T) {
	dir := t.TempDir()
	o := Options{CheckpointChanges: 10}
	s := open(t, filepath.Join(dir, "s"), o)
	big := string(make([]byte, 1<<20))
	for i := range 100 {
		c := small(fmt.Sprint(i%5), fmt.Sprint(i))
		if i%10 == 3 {
			c = small("big", big+fmt.Sprint(i))
		}
		apply(t, s, c)
	}
	eventually(t, "old log and chunks are removed", func() bool {
		n := counts(t, s)
		// A checkpoint of 3 chunks and at most the log of three rounds.
		return n["log"] <= 30 && n["chunk"] <= 4*3+3 && n["body"] <= 4
	})
	want, rev, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	s = open(t, filepath.Join(dir, "s"), o)
	got, again, err := s.Load(t.Context())
	if err != nil || again != rev || len(got) != len(want) {
		t.Fatalf("after a restart: %d documents at %d (%v), want %d at %d", len(got), again, err, len(want), rev)
	}
	for i := range got {
		if got[i].Key != want[i].Key || got[i].Revision != want[i].Revision || got[i].Created != want[i].Created || !bytes.Equal(got[i].Data, want[i].Data) {
			t.Errorf("%s differs after a restart", got[i].Key)
		}
	}
}

func TestOrphansOfACrashedWriterAreSwept(t *testing.T) {
	address := startCluster(t)
	o := Options{Codec: testKey(t, 3), StagingTTL: 2 * time.Second}
	s, other := dial(t, address, o), dial(t, address, o)
	payload := encodeChange(small("big", string(make([]byte, 2<<20))))
	dead, err := s.stage(t.Context(), entry{id: newID(), inline: payload})
	if err != nil {
		t.Fatal(err)
	}
	// While its lease lasts a writer may be alive: nobody touches its chunks.
	if _, err := other.sweep(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if n := counts(t, s); n["chunk"] != int64(dead.chunks) {
		t.Fatalf("%d chunks of a live writer are left, want %d", n["chunk"], dead.chunks)
	}
	eventually(t, "the chunks of a dead writer are swept", func() bool {
		if _, err := other.sweep(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		n := counts(t, s)
		return n["chunk"] == 0 && n["body"] == 0
	})
	// Should the writer wake up after all, it cannot commit what is gone.
	_, err = s.commit(t.Context(), small("big", ""), dead)
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("commit of swept chunks: %v", err)
	}
	if _, rev, err := other.Load(t.Context()); err != nil || rev != 0 {
		t.Errorf("Load = %d, %v; want revision 0", rev, err)
	}
	apply(t, s, small("big", string(make([]byte, 2<<20))))
}

func TestAReaderThatMissedTheLogRelists(t *testing.T) {
	address := startCluster(t)
	o := Options{CheckpointChanges: 1 << 20}
	s, lazy := dial(t, address, o), dial(t, address, o)
	events, err := lazy.Watch(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	// The lazy one cannot catch up while its turn is taken.
	if err := lazy.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		apply(t, s, small(fmt.Sprint(i%4), fmt.Sprint(i)))
	}
	var keep int64
	for range 2 {
		inTurn(t, s, func() { s.o.CheckpointChanges = 1 })
		if err := s.checkpoint(); err != nil {
			t.Fatal(err)
		}
		apply(t, s, small("after", "x"))
	}
	inTurn(t, s, func() { keep = s.head.mod })
	if err := s.upkeep(&keep); err != nil {
		t.Fatal(err)
	}
	lazy.unlock()
	docs, rev, err := lazy.Load(t.Context())
	if err != nil || rev != 32 || len(docs) != 5 {
		t.Fatalf("Load = %d documents at %d, %v", len(docs), rev, err)
	}
	if e := <-events; !e.Reset || e.Revision != 32 || len(e.Puts) != 5 {
		t.Errorf("event %d with %d puts, reset %v; want a reset at 32", e.Revision, len(e.Puts), e.Reset)
	}
}

func TestALostAnswerIsResolved(t *testing.T) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{startCluster(t)}})
	if err != nil {
		t.Fatal(err)
	}
	answers := &forgetful{KV: client.KV}
	client.KV = answers
	s, err := start(t.Context(), client, nil, Options{}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	s.run()
	t.Cleanup(func() { shut(t, s) })
	apply(t, s, small("a", "1"))
	for _, c := range []struct {
		name string
		lose int64 // answers lost before one arrives
		size int
	}{{"once", 1, 10}, {"three times", 3, 10}, {"of a large change", 2, 1 << 20}} {
		t.Run(c.name, func(t *testing.T) {
			before := s.state.Revision()
			answers.lose.Store(c.lose)
			if rev := apply(t, s, small("a", strings.Repeat("x", c.size))); rev != before+1 {
				t.Errorf("revision %d, want %d", rev, before+1)
			}
			if rev := apply(t, s, small("a", "next")); rev != before+2 {
				t.Errorf("next revision %d, want %d: the change was applied twice", rev, before+2)
			}
		})
	}
	t.Run("for good", func(t *testing.T) {
		answers.lose.Store(1 << 30)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := s.Apply(ctx, small("a", "lost"))
		answers.lose.Store(0)
		var e *store.Error
		if !errors.As(err, &e) || !e.Unknown || e.Kind != store.Unavailable {
			t.Errorf("error %v, want an unknown outcome", err)
		}
		docs, _, err := s.Load(t.Context())
		if err != nil || len(docs) != 1 || string(docs[0].Data) != "lost" {
			t.Errorf("Load after the doubt: %v, %v", docs, err)
		}
	})
}

// forgetful commits, and loses the answers.
type forgetful struct {
	clientv3.KV
	lose atomic.Int64
}

func (f *forgetful) Txn(ctx context.Context) clientv3.Txn { return &forgetfulTxn{f.KV.Txn(ctx), f} }

type forgetfulTxn struct {
	clientv3.Txn
	f *forgetful
}

func (t *forgetfulTxn) If(c ...clientv3.Cmp) clientv3.Txn  { t.Txn = t.Txn.If(c...); return t }
func (t *forgetfulTxn) Then(o ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Then(o...); return t }
func (t *forgetfulTxn) Else(o ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Else(o...); return t }

func (t *forgetfulTxn) Commit() (*clientv3.TxnResponse, error) {
	r, err := t.Txn.Commit()
	if err == nil && t.f.lose.Add(-1) >= 0 {
		return nil, errors.New("the answer was lost")
	}
	return r, err
}

func TestClosingIsSilent(t *testing.T) {
	var log syncBuffer
	s := open(t, filepath.Join(t.TempDir(), "s"), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	apply(t, s, small("a", "1"))
	shut(t, s)
	if text := log.String(); text != "" {
		t.Errorf("a store that was opened, used and closed logged:\n%s", text)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
