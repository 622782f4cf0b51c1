// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"postern.dev/postern/store"
	"postern.dev/postern/store/internal/state"
)

// Pages bound what one read holds in memory: 32 records of up to 512 KiB, 8
// chunks, or many keys without values.
const (
	logPage   = 32
	chunkPage = 8
	keyPage   = 1000
)

// errGap says that the log does not go on from where the state is.
var errGap = errors.New("gap in the log")

// catchUp brings the state to the head, as of some moment after the call. All
// reads are made at one etcd revision; when that is compacted meanwhile, they
// start over. The caller holds the turn.
func (s *Store) catchUp(ctx context.Context) error {
	const tries = 5
	var err error
	for range tries {
		if err = s.catchUpOnce(ctx); !gone(err) {
			break
		}
	}
	return wrap(caused(ctx, err), "read the store")
}

func (s *Store) catchUpOnce(ctx context.Context) error {
	resp, err := s.client.Get(ctx, s.keys.head())
	if err != nil {
		return err
	}
	if len(resp.Kvs) == 0 {
		return store.NewError(store.ErrCorrupt, "the head of the store is missing; restore a backup", nil)
	}
	at := resp.Header.Revision
	h, id, err := decodeHead(resp.Kvs[0].Value)
	if err != nil {
		return corrupt("the head of the store is not readable", err)
	}
	if h.Store != s.id {
		return store.NewError(store.ErrForeign, "another store was put in the place of this one; start again", nil)
	}
	switch {
	case h.Revision == s.head.revision && id == s.head.id:
		s.head.mod = resp.Kvs[0].ModRevision
		return nil
	case h.Revision > s.head.revision && s.head.mod != 0:
		err := s.readLog(ctx, s.head, h.Revision, at, func(next position, p payload, size int) {
			s.state.Advance(p.change())
			s.head = next
			s.grown(size)
		})
		if !errors.Is(err, errGap) {
			return err
		}
	}
	return s.relist(ctx, position{h.Revision, id, resp.Kvs[0].ModRevision}, at)
}

// grown counts what was added to the log.
func (s *Store) grown(size int) {
	s.changes++
	s.logBytes += int64(size)
}

// relist reads the last checkpoint and the log after it.
func (s *Store) relist(ctx context.Context, head position, at int64) error {
	base, older, docs, err := s.readBase(ctx, at)
	if err != nil {
		return err
	}
	scratch := state.New(s.o.Limits)
	scratch.Replace(base.revision, docs)
	changes, logBytes := 0, int64(0)
	from := position{revision: base.revision, id: base.id}
	err = s.readLog(ctx, from, head.revision, at, func(next position, p payload, size int) {
		scratch.Advance(p.change())
		from = next
		changes++
		logBytes += int64(size)
	})
	if errors.Is(err, errGap) || err == nil && from.id != head.id {
		return corrupt(fmt.Sprintf("the log from revision %d to %d is incomplete; restore a backup", base.revision, head.revision), err)
	}
	if err != nil {
		return err
	}
	docs, _ = scratch.Documents()
	s.state.Replace(head.revision, docs)
	s.head, s.base, s.older = head, base, older
	s.changes, s.logBytes = changes, logBytes
	return nil
}

// readBase reads the checkpoint at an etcd revision. Without one, the base is
// the empty store.
func (s *Store) readBase(ctx context.Context, at int64) (base position, older int64, docs []store.Document, err error) {
	resp, err := s.client.Get(ctx, s.keys.base(), clientv3.WithRev(at))
	if err != nil || len(resp.Kvs) == 0 {
		return base, 0, nil, err
	}
	e, p, err := s.open(ctx, resp.Kvs[0], "base", "", at)
	if errors.Is(err, errGap) {
		err = corrupt("the checkpoint has lost chunks; restore a backup", err)
	}
	if err != nil {
		return base, 0, nil, err
	}
	return position{e.revision, e.prev, resp.Kvs[0].ModRevision}, e.older, p.docs, nil
}

// readLog calls take for each record after from, up to revision to.
func (s *Store) readLog(ctx context.Context, from position, to, at int64, take func(position, payload, int)) error {
	for from.revision < to {
		resp, err := s.client.Get(ctx, s.keys.log(from.revision+1), clientv3.WithRange(s.keys.log(to+1)),
			clientv3.WithLimit(logPage), clientv3.WithRev(at))
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 {
			return errGap
		}
		for _, kv := range resp.Kvs {
			rev, err := s.keys.logRevision(string(kv.Key))
			if err != nil {
				return corrupt("a log key is not readable", err)
			}
			if rev != from.revision+1 {
				return errGap
			}
			e, p, err := s.open(ctx, kv, "log", fmt.Sprint(rev), at)
			if err != nil {
				return err
			}
			if e.revision != rev {
				return corrupt("a log record is at the wrong place", nil)
			}
			if e.prev != from.id {
				return errGap
			}
			from = position{rev, e.id, kv.ModRevision}
			take(from, p, len(kv.Value)+int(e.size))
		}
	}
	return nil
}

// open decodes the record at a key, with its chunks.
func (s *Store) open(ctx context.Context, kv *mvccpb.KeyValue, place, name string, at int64) (entry, payload, error) {
	what := "record " + string(kv.Key)
	plain, err := s.o.Codec.Open(sealContext(s.id, place, name), kv.Value)
	if err != nil {
		return entry{}, payload{}, corrupt(what, err)
	}
	e, err := decodeEntry(plain)
	if err != nil {
		return entry{}, payload{}, corrupt(what, err)
	}
	body := e.inline
	if e.chunks > 0 {
		if body, err = s.readBody(ctx, e, at); err != nil {
			return entry{}, payload{}, err
		}
	}
	p, err := decodePayload(body)
	if err != nil {
		return entry{}, payload{}, corrupt(what, err)
	}
	return e, p, nil
}

func (s *Store) readBody(ctx context.Context, e entry, at int64) ([]byte, error) {
	if e.size > int64(e.chunks)*chunkSize || e.size > 4*s.o.Limits.Total+4*s.o.Limits.Change {
		return nil, corrupt("chunks of record "+e.id.String(), fmt.Errorf("%d bytes in %d chunks cannot be", e.size, e.chunks))
	}
	sealed := make([]byte, 0, e.size)
	for n := 0; n < e.chunks; {
		resp, err := s.client.Get(ctx, s.keys.chunk(e.id, n), clientv3.WithRange(s.keys.chunk(e.id, e.chunks)),
			clientv3.WithLimit(chunkPage), clientv3.WithRev(at))
		if err != nil {
			return nil, err
		}
		if len(resp.Kvs) == 0 {
			// Only a record that is being removed loses its chunks.
			return nil, errGap
		}
		for _, kv := range resp.Kvs {
			if string(kv.Key) != s.keys.chunk(e.id, n) {
				return nil, errGap
			}
			sealed = append(sealed, kv.Value...)
			n++
		}
	}
	if int64(len(sealed)) != e.size || sha256.Sum256(sealed) != e.sum {
		return nil, corrupt("chunks of record "+e.id.String(), errors.New("checksum differs"))
	}
	body, err := s.o.Codec.Open(sealContext(s.id, "chunks", e.id.String()), sealed)
	if err != nil {
		return nil, corrupt("chunks of record "+e.id.String(), err)
	}
	return body, nil
}
