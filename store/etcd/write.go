// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"postern.dev/postern/store"
)

// stagers is how many chunks of one change are under way at once: enough for
// them to share a disk flush, few enough to leave etcd to others.
const stagers = 4

// inlineSize is up to what size a payload is a log value of its own.
const inlineSize = chunkSize - 1024

// Apply implements store.Store.
func (s *Store) Apply(ctx context.Context, c store.Change) (int64, error) {
	if err := c.Validate(s.o.Limits); err != nil {
		return 0, err
	}
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	e := entry{id: newID(), inline: encodeChange(c)}
	if len(e.inline) > inlineSize {
		// Do not write megabytes for a change that cannot win.
		if err := s.precheck(ctx, c); err != nil {
			return 0, err
		}
		if e, err = s.stage(ctx, e); err != nil {
			return 0, err
		}
	}
	rev, err := s.commit(ctx, c, e)
	if err != nil && e.chunks > 0 && !unknown(err) {
		s.discard(ctx, e)
	}
	return rev, err
}

func unknown(err error) bool {
	var e *store.Error
	return errors.As(err, &e) && e.Unknown
}

func (s *Store) precheck(ctx context.Context, c store.Change) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if s.state.Check(c) == nil {
		return nil
	}
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	return s.state.Check(c)
}

// commit makes a change the next revision. The conditions are checked against
// the state, which may be old; the transaction compares the head, so what it
// lets through was checked against the newest.
func (s *Store) commit(ctx context.Context, c store.Change, e entry) (int64, error) {
	if err := s.lock(ctx); err != nil {
		return 0, err
	}
	defer s.unlock()
	for fresh := false; ; fresh = true {
		if err := s.state.Check(c); err != nil {
			if fresh {
				return 0, err
			}
			if err := s.catchUp(ctx); err != nil {
				return 0, err
			}
			continue
		}
		e.prev, e.revision = s.head.id, s.head.revision+1
		value := s.o.Codec.Seal(sealContext(s.id, "log", fmt.Sprint(e.revision)), e.encode())
		mod, err := s.push(ctx, e, value)
		if err != nil {
			return 0, err
		}
		if mod > 0 {
			s.state.Advance(c)
			s.head = position{e.revision, e.id, mod}
			s.grown(len(value) + int(e.size))
			if s.changes >= s.o.CheckpointChanges || s.logBytes >= max(s.o.CheckpointBytes, s.state.Size()) {
				select {
				case s.due <- struct{}{}:
				default: // asked already
				}
			}
			return e.revision, nil
		}
		// Another process was first.
		if err := s.catchUp(ctx); err != nil {
			return 0, err
		}
	}
}

// push moves the head to a record and returns the etcd revision at which that
// happened, or 0 when the head was elsewhere already. When an answer is lost,
// the same transaction is sent again: it can succeed only once, and the id of
// the record that took the place tells whose it was.
func (s *Store) push(ctx context.Context, e entry, value []byte) (int64, error) {
	logKey := s.keys.log(e.revision)
	cmp := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(s.keys.head()), "=", s.head.mod)}
	ops := []clientv3.Op{
		clientv3.OpPut(s.keys.head(), headJSON(s.id, e.revision, e.id)),
		clientv3.OpPut(logKey, string(value)),
	}
	if e.chunks > 0 {
		cmp = append(cmp, clientv3.Compare(clientv3.CreateRevision(s.keys.body(e.id)), ">", 0))
		// A put without a lease takes the key off the lease it had.
		ops = append(ops, clientv3.OpPut(s.keys.body(e.id), fmt.Sprintf("log %d", e.revision)))
	}
	doubt := false
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		resp, err := s.client.Txn(ctx).If(cmp...).Then(ops...).
			Else(clientv3.OpGet(logKey), clientv3.OpGet(s.keys.body(e.id)), clientv3.OpGet(s.keys.head())).Commit()
		switch {
		case err == nil && resp.Succeeded:
			return resp.Header.Revision, nil
		case err == nil:
			return s.lost(e, resp, doubt)
		case refused(err) && !doubt:
			return 0, wrap(err, "commit the change")
		case !refused(err):
			doubt = true
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return 0, doubtful(context.Cause(ctx), err)
		}
	}
}

// doubtful is the error of a commit without an answer.
func doubtful(cause, last error) error {
	out := store.NewError(store.ErrUnavailable, "no answer to a commit", errors.Join(cause, last))
	var own *store.Error
	if errors.As(cause, &own) {
		// It knows better: the store was closed, or its server died.
		e := *own
		out = &e
	}
	out.Unknown = true
	return out
}

// lost tells why a transaction did not succeed.
func (s *Store) lost(e entry, resp *clientv3.TxnResponse, doubt bool) (int64, error) {
	at, body, head := resp.Responses[0].GetResponseRange(), resp.Responses[1].GetResponseRange(), resp.Responses[2].GetResponseRange()
	if doubt {
		if len(at.Kvs) == 0 {
			if h := head.Kvs; len(h) == 1 && h[0].ModRevision == s.head.mod {
				// The head did not move and our mark is gone: it never will.
				return 0, store.NewError(store.ErrUnavailable, "writing the change took longer than StagingTTL; try again", nil)
			}
			out := store.NewError(store.ErrUnavailable, "the answer to a commit was lost, and the log has moved on since", nil)
			out.Unknown = true
			return 0, out
		}
		plain, err := s.o.Codec.Open(sealContext(s.id, "log", fmt.Sprint(e.revision)), at.Kvs[0].Value)
		if err != nil {
			return 0, corrupt("record "+string(at.Kvs[0].Key), err)
		}
		found, err := decodeEntry(plain)
		if err != nil {
			return 0, corrupt("record "+string(at.Kvs[0].Key), err)
		}
		if found.id == e.id {
			return at.Kvs[0].ModRevision, nil
		}
	}
	if e.chunks > 0 && len(body.Kvs) == 0 {
		return 0, store.NewError(store.ErrUnavailable, "writing the change took longer than StagingTTL; try again", nil)
	}
	return 0, nil
}

// stage writes the payload in chunks that nothing refers to yet.
func (s *Store) stage(ctx context.Context, e entry) (entry, error) {
	sealed := s.o.Codec.Seal(sealContext(s.id, "chunks", e.id.String()), e.inline)
	e.inline = nil
	e.size, e.sum = int64(len(sealed)), sha256.Sum256(sealed)
	e.chunks = (len(sealed) + chunkSize - 1) / chunkSize
	lease, err := s.client.Grant(ctx, int64(s.o.StagingTTL/time.Second))
	if err != nil {
		return e, wrap(caused(ctx, err), "start a large change")
	}
	if _, err := s.client.Put(ctx, s.keys.body(e.id), "staged", clientv3.WithLease(lease.ID)); err != nil {
		return e, wrap(caused(ctx, err), "start a large change")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers sync.WaitGroup
	for w := range min(stagers, e.chunks) {
		workers.Go(func() {
			for n := w; n < e.chunks; n += stagers {
				part := sealed[n*chunkSize : min(len(sealed), (n+1)*chunkSize)]
				if _, err := s.client.Put(ctx, s.keys.chunk(e.id, n), string(part)); err != nil {
					cancel(wrap(caused(ctx, err), "write a large change"))
					return
				}
			}
		})
	}
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		s.discard(ctx, e)
		return e, wrap(err, "write a large change")
	}
	return e, nil
}

// discard removes chunks that were not committed. If it fails, the sweep of
// some process will remove them when their lease has run out.
func (s *Store) discard(ctx context.Context, e entry) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	// The mark goes first: from here on the chunks cannot be committed.
	_, err := s.client.Delete(ctx, s.keys.body(e.id))
	if err == nil {
		_, err = s.client.Delete(ctx, s.keys.chunk(e.id, 0), clientv3.WithRange(s.keys.chunk(e.id, e.chunks)))
	}
	if err != nil {
		s.o.Logger.Info("store: an abandoned change is left for the next sweep", "error", err)
	}
}
