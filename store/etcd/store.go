// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"postern.dev/postern/store"
	"postern.dev/postern/store/internal/state"
)

// closeGrace is how long Close lets operations under way end by themselves.
const closeGrace = 5 * time.Second

// Store is a store.Store in etcd. Open and Dial return one.
type Store struct {
	o      Options
	keys   layout
	client *clientv3.Client
	server *server // nil for a cluster
	state  *state.State
	id     string // of the store, from meta

	keepHistory bool

	// life ends when the store closes or its server dies; the cause says why.
	life context.Context
	end  context.CancelCauseFunc

	// turn is a lock that waiting can be given up on. Who holds it may move
	// the fields below and the state, and commits: so the writers of one
	// process do not make each other's transactions fail.
	turn  chan struct{}
	head  position
	base  position
	older int64 // the checkpoint before base
	// What the log holds since base, to know when to write the next one.
	changes  int
	logBytes int64
	first    int64 // etcd revision of the head when the store was opened

	due   chan struct{} // asks tend for a checkpoint
	loops sync.WaitGroup

	mu       sync.Mutex // guards closed, and ops.Add against ops.Wait
	closed   bool
	ops      sync.WaitGroup
	underWay atomic.Int64  // operations counted by ops
	done     chan struct{} // Close has returned
	err      error         // of Close
}

// position is a revision, the record that made it, and the etcd revision of
// the key that says so, for comparison.
type position struct {
	revision int64
	id       recordID
	mod      int64
}

// Dial returns the store kept in a cluster.
func Dial(ctx context.Context, c Cluster, o Options) (*Store, error) {
	o = o.withDefaults()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: c.Addresses, TLS: c.TLS, Username: c.Username, Password: c.Password,
		DialTimeout: o.Timeout, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
		// gRPC alone would wait up to two minutes after a long outage.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		})},
		Context: context.WithoutCancel(ctx), Logger: zap.New(newCore(o.Logger, nil)),
	})
	if err != nil {
		return nil, wrap(err, "connect to the etcd cluster")
	}
	s, err := start(ctx, client, nil, o)
	if err != nil {
		return nil, errors.Join(err, closeClient(client))
	}
	s.keepHistory = c.KeepHistory
	s.run()
	return s, nil
}

// start reads the store behind the client, or founds it when there is none.
func start(ctx context.Context, client *clientv3.Client, srv *server, o Options) (*Store, error) {
	s := &Store{
		o: o, keys: layout{o.Prefix}, client: client, server: srv,
		state: state.New(o.Limits),
		turn:  make(chan struct{}, 1), due: make(chan struct{}, 1), done: make(chan struct{}),
	}
	s.life, s.end = context.WithCancelCause(context.Background())
	if srv != nil {
		context.AfterFunc(srv.failed, func() { s.end(context.Cause(srv.failed)) })
	}
	// A whole store takes longer to read than one request.
	ctx, cancel := s.scopeFor(ctx, 4*o.Timeout)
	defer cancel()
	if err := s.found(ctx); err != nil {
		return nil, err
	}
	if srv != nil {
		// Nobody else can be at work here: what is staged is from the dead.
		if err := s.dropStaged(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	s.first = s.head.mod
	return s, nil
}

func (s *Store) run() {
	s.loops.Go(s.follow)
	s.loops.Go(s.tend)
}

// Load implements store.Store.
func (s *Store) Load(ctx context.Context) ([]store.Document, int64, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer leave()
	if err := s.lock(ctx); err != nil {
		return nil, 0, err
	}
	defer s.unlock()
	if err := s.catchUp(ctx); err != nil {
		return nil, 0, err
	}
	docs, rev := s.state.Documents()
	return docs, rev, nil
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, after int64) (<-chan store.Event, error) {
	if after > s.state.Revision() {
		// Another process told the caller of a revision that this one has not
		// heard of yet.
		ctx, leave, err := s.enter(ctx)
		if err != nil {
			return nil, err
		}
		defer leave()
		if err := s.lock(ctx); err != nil {
			return nil, err
		}
		err = s.catchUp(ctx)
		s.unlock()
		if err != nil {
			return nil, err
		}
	}
	return s.state.Watch(ctx, after)
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if !first {
		<-s.done
		return s.err
	}
	defer close(s.done)
	// A change under way should get its answer rather than a doubt.
	patience := time.AfterFunc(closeGrace, func() { s.end(store.NewError(store.ErrClosed, "", nil)) })
	s.ops.Wait()
	patience.Stop()
	s.end(store.NewError(store.ErrClosed, "", nil))
	s.err = s.stop()
	if s.server != nil {
		s.err = errors.Join(s.err, s.server.close())
	}
	return s.err
}

// stop ends the loops and the client. Where an embedded etcd gave up, a call
// into it may never return; then it is waited for no longer than for etcd.
func (s *Store) stop() error {
	stopped := make(chan error, 1)
	go func() {
		s.loops.Wait()
		s.state.Close()
		stopped <- closeClient(s.client)
	}()
	if s.server == nil {
		return <-stopped
	}
	select {
	case err := <-stopped:
		return err
	case <-s.server.failed.Done():
	}
	select {
	case err := <-stopped:
		return err
	case <-time.After(stopGrace):
		return store.NewError(store.ErrUnavailable, "etcd does not answer after its failure; restart the process", context.Cause(s.server.failed))
	}
}

func closeClient(c *clientv3.Client) error {
	// A client without a connection of its own reports its cancelled context.
	if err := c.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return wrap(err, "close the etcd client")
	}
	return nil
}

// enter counts an operation, so that Close waits for it.
func (s *Store) enter(ctx context.Context) (context.Context, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, store.NewError(store.ErrClosed, "", nil)
	}
	if s.life.Err() != nil {
		return nil, nil, context.Cause(s.life)
	}
	s.ops.Add(1)
	s.underWay.Add(1)
	ctx, cancel := s.scope(ctx)
	return ctx, func() {
		cancel()
		s.underWay.Add(-1)
		s.ops.Done()
	}, nil
}

// scope bounds ctx by the life of the store and the time a request may take.
func (s *Store) scope(ctx context.Context) (context.Context, func()) {
	return s.scopeFor(ctx, s.o.Timeout)
}

func (s *Store) scopeFor(ctx context.Context, d time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, d)
	ctx, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { end(context.Cause(s.life)) })
	return ctx, func() { stop(); end(nil); cancel() }
}

func (s *Store) lock(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return wrap(context.Cause(ctx), "wait for the operation under way")
	}
}

func (s *Store) unlock() { <-s.turn }
