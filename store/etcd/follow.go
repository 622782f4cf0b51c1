// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"postern.dev/postern/store"
)

// found reads what store this is and proves the key, or creates an empty store
// where there is nothing.
func (s *Store) found(ctx context.Context) error {
	resp, err := s.client.Get(ctx, s.keys.meta())
	if err != nil {
		return wrap(caused(ctx, err), "read the store's identity")
	}
	if len(resp.Kvs) == 0 {
		return s.create(ctx)
	}
	var m meta
	if err := json.Unmarshal(resp.Kvs[0].Value, &m); err != nil {
		return store.NewError(store.ErrForeign, "the identity under "+s.keys.meta()+" is not readable", err)
	}
	return s.recognise(m)
}

func (s *Store) recognise(m meta) error {
	if m.Format != format {
		return store.NewError(store.ErrForeign, fmt.Sprintf("the store has format %d, this program reads %d", m.Format, format), nil)
	}
	if err := matchCodec(m.Codec, s.o.Codec.ID()); err != nil {
		return err
	}
	proof, err := s.o.Codec.Open(sealContext(m.Store, "meta", ""), m.Check)
	if err != nil || string(proof) != m.Store {
		return store.NewError(store.ErrWrongKey, "the key does not open the store", err)
	}
	s.id = m.Store
	return nil
}

func matchCodec(stored, given string) error {
	switch {
	case stored == given:
		return nil
	case stored == clear{}.ID():
		return store.NewError(store.ErrWrongKey, "the store is not encrypted, but a key was given", nil)
	case given == clear{}.ID():
		return store.NewError(store.ErrWrongKey, "the store is encrypted, but no key was given", nil)
	}
	return store.NewError(store.ErrWrongKey, fmt.Sprintf("the store needs key %s, given was %s", stored, given), nil)
}

func (s *Store) create(ctx context.Context) error {
	// An embedded server is ours alone; in a cluster only the prefix is.
	from, opt := s.keys.prefix, clientv3.WithPrefix()
	if s.server != nil {
		from, opt = "\x00", clientv3.WithFromKey()
	}
	resp, err := s.client.Get(ctx, from, opt, clientv3.WithCountOnly())
	if err != nil {
		return wrap(caused(ctx, err), "look whether the store is empty")
	}
	id := newID().String()
	m := meta{Format: format, Store: id, Codec: s.o.Codec.ID(), Check: s.o.Codec.Seal(sealContext(id, "meta", ""), []byte(id))}
	value, err := json.Marshal(m)
	if err != nil {
		return corrupt("encode the store's identity", err)
	}
	if resp.Count == 0 {
		_, err = s.client.Txn(ctx).If(
			clientv3.Compare(clientv3.CreateRevision(s.keys.meta()), "=", 0),
			clientv3.Compare(clientv3.CreateRevision(s.keys.head()), "=", 0),
		).Then(
			clientv3.OpPut(s.keys.meta(), string(value)),
			clientv3.OpPut(s.keys.head(), headJSON(id, 0, recordID{})),
		).Commit()
		if err != nil {
			return wrap(caused(ctx, err), "create the store")
		}
	}
	// Another process may have been first; then its store is the one.
	again, err := s.client.Get(ctx, s.keys.meta())
	if err != nil {
		return wrap(caused(ctx, err), "read the store's identity")
	}
	if len(again.Kvs) == 0 {
		return store.NewError(store.ErrForeign, fmt.Sprintf("etcd holds %d other keys under %q; choose another prefix or folder", resp.Count, s.keys.prefix), nil)
	}
	if err := json.Unmarshal(again.Kvs[0].Value, &m); err != nil {
		return store.NewError(store.ErrForeign, "the identity under "+s.keys.meta()+" is not readable", err)
	}
	return s.recognise(m)
}

func headJSON(storeID string, rev int64, id recordID) string {
	b, err := json.Marshal(headValue{Store: storeID, Revision: rev, ID: id.String()})
	if err != nil {
		panic(err) // two strings and a number
	}
	return string(b)
}

// sealContext binds a sealed record to its store and to its place in it.
func sealContext(storeID, place, name string) []byte {
	return []byte("postern store v1\x00" + storeID + "\x00" + place + "\x00" + name)
}

// follow waits for head to move and catches up. What it hears is only a hint:
// catchUp reads what is there, so a lost or repeated hint does no harm.
func (s *Store) follow() {
	const (
		poll    = 30 * time.Second // should a connection be dead without telling
		atFirst = 50 * time.Millisecond
		atMost  = 5 * time.Second
	)
	pause := atFirst
	for s.life.Err() == nil {
		ctx, cancel := context.WithCancel(s.life)
		hints := s.client.Watch(clientv3.WithRequireLeader(ctx), s.keys.head(), clientv3.WithCreatedNotify())
		err := s.heed(hints, poll, func() { pause = atFirst })
		cancel()
		for range hints {
			// Drained, so that the client's goroutine ends before Close.
		}
		if s.life.Err() != nil {
			return
		}
		s.o.Logger.Warn("store: following changes was interrupted", "error", err, "again_in", pause)
		select {
		case <-time.After(pause):
		case <-s.life.Done():
		}
		pause = min(2*pause, atMost)
	}
}

func (s *Store) heed(hints clientv3.WatchChan, poll time.Duration, well func()) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		var seen int64
		select {
		case r, ok := <-hints:
			if !ok {
				return store.NewError(store.ErrUnavailable, "the watch ended", nil)
			}
			if err := r.Err(); err != nil {
				return wrap(err, "watch the head")
			}
			if n := len(r.Events); n > 0 {
				seen = r.Events[n-1].Kv.ModRevision
			}
		case <-tick.C:
		case <-s.life.Done():
			return context.Cause(s.life)
		}
		if err := s.refresh(seen); err != nil {
			return err
		}
		well()
	}
}

// refresh catches up, unless the head seen at an etcd revision is known: most
// hints are about what this process did itself.
func (s *Store) refresh(seen int64) error {
	ctx, cancel := s.scope(s.life)
	defer cancel()
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if seen > 0 && seen <= s.head.mod {
		return nil
	}
	return s.catchUp(ctx)
}
