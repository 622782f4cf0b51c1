// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"postern.dev/postern/store"
)

const (
	markerFile = "store.json"
	lockFile   = "lock"
	etcdDir    = "etcd"
	// quota leaves room for two checkpoints and the log of the largest store.
	quota = 4 << 30
	// stopGrace is how long a server that failed may take to stop.
	stopGrace = 5 * time.Second
)

// Small segments of etcd's write-ahead log are removed sooner, which is what
// opening waits for: it reads all that are left.
func init() { wal.SegmentSizeBytes = 16 << 20 }

// marker lies beside etcd's files and says whose they are, so that a folder of
// something else, or one sealed with another key, is refused before anything
// in it is touched.
type marker struct {
	Format int    `json:"format"`
	Codec  string `json:"codec"`
	// Store is the id, empty until the store was founded.
	Store string `json:"store"`
}

// server is an etcd of one member in this process. Nothing listens: the client
// calls it directly.
type server struct {
	etcd    *embed.Etcd
	release func() error // of the folder's lock
	closing atomic.Bool
	// failed ends, with a cause, when etcd gives up, as on a full disk.
	failed context.Context
	fail   context.CancelCauseFunc
}

// Open returns the store kept in a folder, which is created if it does not
// exist. Only one process can have it open. When the disk fails or is full,
// the store fails with ErrUnavailable for good: close it and open it again or,
// where Close says that etcd does not stop, restart the process.
func Open(ctx context.Context, dir string, o Options) (s *Store, err error) {
	o = o.withDefaults()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, store.NewError(store.ErrUnavailable, "create the store's folder", err)
	}
	// Once before the lock, which leaves a file, and once under it.
	if _, _, err := inspect(dir, o.Codec.ID()); err != nil {
		return nil, err
	}
	release, err := lockFolder(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	srv := &server{release: release}
	srv.failed, srv.fail = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, srv.close())
		}
	}()
	known, m, err := inspect(dir, o.Codec.ID())
	if err != nil {
		return nil, err
	}
	if !known {
		if err := writeMarker(dir, m); err != nil {
			return nil, err
		}
	}
	if m.Store == "" {
		// A process died before it had founded the store: nothing was ever
		// acknowledged here. etcd does not get up from every such state; a log
		// without its first entries knows no member that could lead.
		if err := os.RemoveAll(filepath.Join(dir, etcdDir)); err != nil {
			return nil, store.NewError(store.ErrUnavailable, "clear the remains of a first start", err)
		}
	}
	if err := srv.start(ctx, dir, o); err != nil {
		return nil, err
	}
	client := v3client.New(srv.etcd.Server)
	if s, err = start(ctx, client, srv, o); err != nil {
		return nil, errors.Join(err, closeClient(client))
	}
	if m.Store != s.id {
		if m.Store != "" {
			return nil, errors.Join(store.NewError(store.ErrForeign, "the files of etcd in "+dir+" belong to another store", nil), closeClient(client))
		}
		m.Store = s.id
		if err := writeMarker(dir, m); err != nil {
			return nil, errors.Join(err, closeClient(client))
		}
	}
	s.run()
	return s, nil
}

// Exists tells whether a folder holds a store, of whatever key.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, markerFile))
	return err == nil
}

// inspect looks at a folder without changing it.
func inspect(dir, codec string) (known bool, m marker, err error) {
	b, err := os.ReadFile(filepath.Join(dir, markerFile))
	if errors.Is(err, fs.ErrNotExist) {
		names, err := os.ReadDir(dir)
		if err != nil {
			return false, m, store.NewError(store.ErrUnavailable, "read the store's folder", err)
		}
		for _, n := range names {
			if !strings.HasPrefix(n.Name(), lockFile) {
				return false, m, store.NewError(store.ErrForeign, fmt.Sprintf("%s holds %s but no %s; give an empty folder", dir, n.Name(), markerFile), nil)
			}
		}
		return false, marker{Format: format, Codec: codec}, nil
	}
	if err != nil {
		return false, m, store.NewError(store.ErrUnavailable, "read the store's folder", err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return false, m, store.NewError(store.ErrForeign, filepath.Join(dir, markerFile)+" is not readable", err)
	}
	if m.Format != format {
		return false, m, store.NewError(store.ErrForeign, fmt.Sprintf("the store has format %d, this program reads %d", m.Format, format), nil)
	}
	if err := matchCodec(m.Codec, codec); err != nil {
		return false, m, err
	}
	if m.Store != "" {
		if _, err := os.Stat(filepath.Join(dir, etcdDir, "member")); err != nil {
			return false, m, corrupt("the files of store "+m.Store+" are missing; restore a backup, or give an empty folder", err)
		}
	}
	return true, m, nil
}

func writeMarker(dir string, m marker) error {
	b, err := json.Marshal(m)
	if err == nil {
		err = replaceFile(dir, markerFile, append(b, '\n'))
	}
	if err != nil {
		return store.NewError(store.ErrUnavailable, "write "+markerFile, err)
	}
	return nil
}

// replaceFile makes the new content durable, whole or not at all.
func replaceFile(dir, name string, data []byte) error {
	f, err := os.CreateTemp(dir, lockFile+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (v *server) start(ctx context.Context, dir string, o Options) error {
	c := embed.NewConfig()
	c.Name = "postern"
	c.Dir = filepath.Join(dir, etcdDir)
	// The URLs are names in the membership only.
	c.ListenPeerUrls, c.ListenClientUrls, c.ListenClientHttpUrls, c.ListenMetricsUrls = nil, nil, nil, nil
	c.InitialCluster = c.Name + "=" + c.AdvertisePeerUrls[0].String()
	// A member alone elects itself as soon as the ticks allow.
	c.TickMs, c.ElectionMs = 10, 100
	c.QuotaBackendBytes = quota
	// The raft log lies in memory until a snapshot, and is read at each start.
	// Its entries may have 512 KiB.
	c.SnapshotCount, c.SnapshotCatchUpEntries = 100, 10
	c.MaxSnapFiles, c.MaxWalFiles = 2, 1
	c.BootstrapDefragThresholdMegabytes = 256
	c.EnableGRPCGateway = false
	lg := zap.New(newCore(o.Logger, &v.closing),
		zap.WithFatalHook(giveUp{v, store.ErrUnavailable}), zap.WithPanicHook(giveUp{v, store.ErrCorrupt}))
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(lg)

	// In a goroutine of its own: on an unreadable disk etcd ends the goroutine
	// (giveUp) or panics.
	type outcome struct {
		etcd *embed.Etcd
		err  error
	}
	started := make(chan outcome, 1)
	go func() {
		failed := store.NewError(store.ErrUnavailable, "etcd did not start; if its files in "+c.Dir+" are damaged, restore a backup into an empty folder", nil)
		defer func() {
			if failed == nil {
				return
			}
			if r := recover(); r != nil {
				failed.Err = fmt.Errorf("%v", r)
			} else if cause := context.Cause(v.failed); cause != nil {
				failed.Err = cause
			}
			started <- outcome{err: failed}
		}()
		e, err := embed.StartEtcd(c)
		if err != nil {
			failed.Err = err
			return
		}
		failed = nil
		started <- outcome{etcd: e}
	}()
	// Starting cannot be interrupted, and what it opens must be closed.
	var out outcome
	select {
	case out = <-started:
	case <-v.failed.Done():
		// The goroutine that gave up may be another, for which etcd waits for
		// ever.
		select {
		case out = <-started:
		case <-time.After(time.Second):
			return context.Cause(v.failed)
		}
	}
	if out.err != nil {
		return out.err
	}
	v.etcd = out.etcd
	select {
	case <-v.etcd.Server.ReadyNotify():
		return nil
	case <-v.etcd.Server.StopNotify():
		return store.NewError(store.ErrUnavailable, "etcd stopped while starting", context.Cause(v.failed))
	case <-v.failed.Done():
		return context.Cause(v.failed)
	case <-ctx.Done():
		return store.NewError(store.ErrUnavailable, "etcd did not become ready", ctx.Err())
	}
}

func (v *server) close() error {
	v.closing.Store(true)
	if v.etcd != nil {
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			v.etcd.Close()
		}()
		select {
		case <-stopped:
		case <-v.failed.Done(): // before, or on the way
			select {
			case <-stopped:
			case <-time.After(stopGrace):
				// A goroutine of etcd that gave up has left a lock behind. The
				// folder stays locked: etcd still holds its files.
				return store.NewError(store.ErrUnavailable, "etcd does not stop after its failure; restart the process", context.Cause(v.failed))
			}
		}
	}
	v.fail(store.NewError(store.ErrClosed, "", nil))
	return v.release()
}

// giveUp is what happens instead of the end of the process when etcd finds no
// way to go on: the goroutine ends, nothing more is acknowledged, and the
// store reports why.
type giveUp struct {
	v      *server
	reason error
}

func (g giveUp) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(m)
	}
	detail := "etcd gave up: " + e.Message
	if why, ok := m.Fields["error"]; ok {
		detail += fmt.Sprintf(": %v", why)
	}
	if g.reason == store.ErrCorrupt {
		detail += "; restore a backup into an empty folder"
	}
	g.v.fail(store.NewError(g.reason, detail, nil))
	runtime.Goexit()
}
