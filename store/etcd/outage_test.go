// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"postern.dev/postern/store"
)

// member starts an etcd in dir that serves on a unix socket there.
func member(t *testing.T, dir string) (e *embed.Etcd, address string) {
	t.Helper()
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
	<-e.Server.ReadyNotify()
	return e, "unix://" + filepath.Join(dir, "s")
}

func socketFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "etcd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestAnOutageIsAnErrorAndThenOver(t *testing.T) {
	dir := socketFolder(t)
	e, address := member(t, dir)
	t.Cleanup(func() { e.Close() }) // whichever is the last, after the stores
	o := Options{}
	s, other := dial(t, address, o), dial(t, address, o)
	apply(t, s, small("a", "1"))
	events, err := other.Watch(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Apply(ctx, small("a", "2")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Apply without a cluster: %v", err)
	}
	if _, _, err := s.Load(ctx); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Load without a cluster: %v", err)
	}
	e, _ = member(t, dir)
	rev := apply(t, s, small("a", "3"))
	// The change in doubt may have happened; the watcher sees all in order.
	for want := int64(2); want <= rev; want++ {
		if e := <-events; e.Revision != want || e.Reset {
			t.Fatalf("event %d (reset %v), want %d", e.Revision, e.Reset, want)
		}
	}
}

func TestARestoredBackupResetsWatchers(t *testing.T) {
	address := startCluster(t)
	s, reader := dial(t, address, Options{}), dial(t, address, Options{})
	apply(t, s, small("a", "1"))
	apply(t, s, small("a", "2"))
	backup, err := s.client.Get(t.Context(), s.keys.prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	apply(t, s, small("a", "3"))
	apply(t, s, small("b", "4"))
	events, err := reader.Watch(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for want := int64(1); want <= 4; want++ {
		if e := <-events; e.Revision != want {
			t.Fatalf("event %d, want %d", e.Revision, want)
		}
	}
	ops := []clientv3.Op{clientv3.OpDelete(s.keys.log(3)), clientv3.OpDelete(s.keys.log(4))}
	for _, kv := range backup.Kvs {
		ops = append(ops, clientv3.OpPut(string(kv.Key), string(kv.Value)))
	}
	if _, err := s.client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
		t.Fatal(err)
	}
	if e := <-events; !e.Reset || e.Revision != 2 || len(e.Puts) != 1 || string(e.Puts[0].Data) != "2" {
		t.Fatalf("event %+v, want a reset to revision 2", e)
	}
	// The old reader writes on from the restored state.
	if rev := apply(t, reader, small("a", "3 again")); rev != 3 {
		t.Errorf("revision %d, want 3", rev)
	}
	if docs, rev, err := s.Load(t.Context()); err != nil || rev != 3 || len(docs) != 1 || string(docs[0].Data) != "3 again" {
		t.Errorf("Load = %v at %d, %v", docs, rev, err)
	}
}

func TestABackupRestoredAndWrittenOnIsNoticed(t *testing.T) {
	address := startCluster(t)
	s, reader := dial(t, address, Options{}), dial(t, address, Options{})
	for i := range 3 {
		apply(t, s, small("a", fmt.Sprint(i)))
	}
	if _, rev, err := reader.Load(t.Context()); err != nil || rev != 3 {
		t.Fatal(rev, err)
	}
	if err := reader.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Behind the reader's back, history from revision 2 on becomes another.
	two, err := s.client.Get(t.Context(), s.keys.log(2))
	if err != nil {
		t.Fatal(err)
	}
	e, err := decodeEntry(two.Kvs[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.client.Txn(t.Context()).Then(clientv3.OpDelete(s.keys.log(3)),
		clientv3.OpPut(s.keys.head(), headJSON(s.id, 2, e.id))).Commit()
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{"other 3", "other 4"} {
		apply(t, s, small("b", data))
	}
	reader.unlock()
	docs, rev, err := reader.Load(t.Context())
	if err != nil || rev != 4 || len(docs) != 2 || string(docs[0].Data) != "1" || string(docs[1].Data) != "other 4" {
		t.Errorf("Load = %v at %d, %v", docs, rev, err)
	}
}

func TestReadingStartsOverWhenHistoryIsCompacted(t *testing.T) {
	address := startCluster(t)
	s, reader := dial(t, address, Options{}), dial(t, address, Options{})
	if err := reader.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, s, small("a", "1"))
	apply(t, s, small("a", "2"))
	var at int64
	inTurn(t, s, func() { at = s.head.mod - 1 })
	if _, err := s.client.Compact(t.Context(), at+1); err != nil {
		t.Fatal(err)
	}
	err := reader.readLog(t.Context(), reader.head, 1, at, func(position, payload, int) {})
	if !gone(err) {
		t.Errorf("reading compacted history: %v", err)
	}
	reader.unlock()
	if _, rev, err := reader.Load(t.Context()); err != nil || rev != 2 {
		t.Errorf("Load = %d, %v", rev, err)
	}
}

func TestCloseLetsAChangeUnderWayEnd(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"), Options{})
	result := make(chan error, 1)
	if err := s.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := s.Apply(t.Context(), small("a", "1"))
		result <- err
	}()
	// It is counted before it waits for its turn, which is taken.
	eventually(t, "the change is under way", func() bool { return s.underWay.Load() == 1 })
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	eventually(t, "Close has begun", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.closed
	})
	s.unlock()
	if err := <-result; err != nil {
		t.Errorf("Apply: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
}
