// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// batch bounds a transaction of housekeeping, well below the 128
	// operations that a stock cluster takes.
	batch = 64
	// idle is how much free space the file of an embedded etcd may have before
	// it is rewritten, given that it is more than half of the file.
	idle = 128 << 20
)

// tend writes checkpoints and keeps etcd small. Whatever fails is tried again
// the next time; nothing else depends on it.
func (s *Store) tend() {
	tick := time.NewTicker(s.o.Upkeep)
	defer tick.Stop()
	// What is older than the last round may go: a reader of that age starts
	// over. An embedded store has no reader but this process.
	var keep int64
	round := func() {
		if err := s.upkeep(&keep); err != nil && s.life.Err() == nil {
			s.o.Logger.Warn("store: housekeeping failed and will be tried again", "error", err)
		}
	}
	if s.server != nil {
		keep = s.first
		round() // frees what earlier processes left
	}
	for {
		select {
		case <-s.life.Done():
			return
		case <-s.due:
			if err := s.checkpoint(); err != nil && s.life.Err() == nil {
				s.o.Logger.Warn("store: a checkpoint failed and will be tried again", "error", err)
				continue
			}
		case <-tick.C:
		}
		round()
	}
}

// checkpoint writes the whole state, so that the log before can go.
func (s *Store) checkpoint() error {
	// Large states take many requests; each is bounded by the client's
	// patience, all together by the lease of the chunks.
	ctx, cancel := context.WithTimeout(s.life, s.o.StagingTTL)
	defer cancel()
	base, e, err := s.draft(ctx)
	if err != nil || e.revision == 0 {
		return err
	}
	cmp := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(s.keys.base()), "=", base.mod)}
	var ops []clientv3.Op
	if len(e.inline) > inlineSize {
		if e, err = s.stage(ctx, e); err != nil {
			return err
		}
		cmp = append(cmp, clientv3.Compare(clientv3.CreateRevision(s.keys.body(e.id)), ">", 0))
		ops = append(ops, clientv3.OpPut(s.keys.body(e.id), fmt.Sprintf("base %d", e.revision)))
	}
	value := s.o.Codec.Seal(sealContext(s.id, "base", ""), e.encode())
	ops = append(ops, clientv3.OpPut(s.keys.base(), string(value)))
	resp, err := s.client.Txn(ctx).If(cmp...).Then(ops...).Commit()
	if err != nil {
		// It may have happened. Then the mark protects the chunks, and the
		// next round finds the new base.
		return wrap(caused(ctx, err), "commit a checkpoint")
	}
	if !resp.Succeeded {
		if e.chunks > 0 {
			s.discard(ctx, e)
		}
		return nil // another process wrote one
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	s.base, s.older = position{e.revision, e.prev, resp.Header.Revision}, e.older
	s.changes = int(s.head.revision - e.revision)
	s.logBytes = 0
	return nil
}

// draft prepares a checkpoint record of the state as it is. It is empty when
// another process has just written one.
func (s *Store) draft(ctx context.Context) (base position, e entry, err error) {
	if err := s.lock(ctx); err != nil {
		return base, e, err
	}
	defer s.unlock()
	if err := s.rebase(ctx); err != nil {
		return base, e, err
	}
	if s.changes < s.o.CheckpointChanges && s.logBytes < max(s.o.CheckpointBytes, s.state.Size()) {
		return s.base, e, nil
	}
	docs, rev := s.state.Documents()
	return s.base, entry{
		id: newID(), prev: s.head.id, revision: rev, older: s.base.revision,
		inline: payload{docs: docs}.encode(),
	}, nil
}

// rebase learns of checkpoints that other processes wrote.
func (s *Store) rebase(ctx context.Context) error {
	resp, err := s.client.Get(ctx, s.keys.base())
	if err != nil {
		return wrap(caused(ctx, err), "read the checkpoint")
	}
	if len(resp.Kvs) == 0 || resp.Kvs[0].ModRevision == s.base.mod {
		return nil
	}
	kv := resp.Kvs[0]
	plain, err := s.o.Codec.Open(sealContext(s.id, "base", ""), kv.Value)
	if err != nil {
		return corrupt("the checkpoint", err)
	}
	e, err := decodeEntry(plain)
	if err != nil {
		return corrupt("the checkpoint", err)
	}
	s.base, s.older = position{e.revision, e.prev, kv.ModRevision}, e.older
	s.changes, s.logBytes = int(max(0, s.head.revision-e.revision)), 0
	return nil
}

// upkeep removes what nothing needs: the log that two checkpoints cover,
// chunks without a mark, etcd's history, free space in the file.
func (s *Store) upkeep(keep *int64) error {
	ctx, cancel := context.WithTimeout(s.life, s.o.Upkeep)
	defer cancel()
	if err := s.lock(ctx); err != nil {
		return err
	}
	err := s.rebase(ctx)
	until := s.older
	s.unlock()
	if err != nil {
		return err
	}
	now, err := s.sweep(ctx, until)
	if err != nil {
		return wrap(caused(ctx, err), "sweep")
	}
	if !s.keepHistory && *keep > 0 {
		if _, err := s.client.Compact(ctx, *keep); err != nil && !gone(err) {
			return wrap(caused(ctx, err), "compact")
		}
	}
	*keep = now
	if s.server == nil {
		return nil
	}
	return wrap(caused(ctx, s.shrink(ctx)), "shrink the file of etcd")
}

// sweep deletes the log up to a revision, the marks and chunks of those
// records and of replaced checkpoints, and chunks without a mark. It returns
// the etcd revision at which it looked.
func (s *Store) sweep(ctx context.Context, until int64) (int64, error) {
	if err := s.trim(ctx, until); err != nil {
		return 0, err
	}
	// Marks are read at the same etcd revision as chunks. A mark is there
	// before the first chunk and never comes back once gone, so a chunk seen
	// without its mark is dead.
	resp, err := s.client.Get(ctx, s.keys.bodies(), clientv3.WithPrefix())
	if err != nil {
		return 0, err
	}
	at := resp.Header.Revision
	marked := make(map[string]bool, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		marked[strings.TrimPrefix(string(kv.Key), s.keys.bodies())] = true
	}
	from, end := s.keys.chunks(), clientv3.GetPrefixRangeEnd(s.keys.chunks())
	for {
		resp, err := s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithKeysOnly(),
			clientv3.WithLimit(keyPage), clientv3.WithRev(at))
		if err != nil {
			return 0, err
		}
		var dead []clientv3.Op
		for _, kv := range resp.Kvs {
			id, _, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), s.keys.chunks()), "/")
			if !marked[id] {
				dead = append(dead, clientv3.OpDelete(string(kv.Key)))
			}
		}
		if err := s.delete(ctx, dead); err != nil {
			return 0, err
		}
		if !resp.More {
			return at, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// trim deletes the log up to a revision and the marks that nothing refers to
// any more.
func (s *Store) trim(ctx context.Context, until int64) error {
	for from, end := s.keys.log(0), s.keys.log(until+1); ; {
		resp, err := s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(keyPage))
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 {
			break
		}
		last := string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
		if _, err := s.client.Delete(ctx, from, clientv3.WithRange(last)); err != nil {
			return err
		}
		from = last
	}
	// Base and marks in one transaction: a checkpoint of another process
	// changes both in one.
	resp, err := s.client.Txn(ctx).Then(
		clientv3.OpGet(s.keys.base()), clientv3.OpGet(s.keys.bodies(), clientv3.WithPrefix())).Commit()
	if err != nil {
		return err
	}
	var current recordID
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		plain, err := s.o.Codec.Open(sealContext(s.id, "base", ""), kvs[0].Value)
		if err != nil {
			return corrupt("the checkpoint", err)
		}
		e, err := decodeEntry(plain)
		if err != nil {
			return corrupt("the checkpoint", err)
		}
		current = e.id
	}
	var dead []clientv3.Op
	for _, kv := range resp.Responses[1].GetResponseRange().Kvs {
		use, number, _ := strings.Cut(string(kv.Value), " ")
		rev, err := strconv.ParseInt(number, 10, 64)
		if err != nil && use != "staged" {
			return corrupt("mark "+string(kv.Key), err)
		}
		if use == "log" && rev <= until || use == "base" && string(kv.Key) != s.keys.body(current) {
			dead = append(dead, clientv3.OpDelete(string(kv.Key)))
		}
	}
	return s.delete(ctx, dead)
}

// dropStaged deletes the marks of writers of an earlier process.
func (s *Store) dropStaged(ctx context.Context) error {
	resp, err := s.client.Get(ctx, s.keys.bodies(), clientv3.WithPrefix())
	if err != nil {
		return wrap(caused(ctx, err), "look for unfinished changes")
	}
	var dead []clientv3.Op
	for _, kv := range resp.Kvs {
		if string(kv.Value) == "staged" {
			dead = append(dead, clientv3.OpDelete(string(kv.Key)))
		}
	}
	return wrap(caused(ctx, s.delete(ctx, dead)), "drop unfinished changes")
}

func (s *Store) delete(ctx context.Context, ops []clientv3.Op) error {
	for len(ops) > 0 {
		n := min(batch, len(ops))
		if _, err := s.client.Txn(ctx).Then(ops[:n]...).Commit(); err != nil {
			return err
		}
		ops = ops[n:]
	}
	return nil
}

// shrink rewrites the file of an embedded etcd when most of it is free, and
// lifts the alarm of a full one once there is room again.
func (s *Store) shrink(ctx context.Context) error {
	st, err := s.client.Status(ctx, "")
	if err != nil {
		return err
	}
	alarms, err := s.client.AlarmList(ctx)
	if err != nil {
		return err
	}
	free := st.DbSize - st.DbSizeInUse
	if free < idle || free < st.DbSizeInUse {
		if len(alarms.Alarms) == 0 {
			return nil
		}
	}
	if _, err := s.client.Defragment(ctx, ""); err != nil {
		return err
	}
	for _, a := range alarms.Alarms {
		_, e := s.client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(a))
		err = errors.Join(err, e)
	}
	return err
}
