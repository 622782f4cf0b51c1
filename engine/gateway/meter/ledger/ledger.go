// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ledger keeps what quotas have counted in a file, so that a process that
// is started again counts on. The file is written every Interval if something was
// counted, and when the Ledger is closed: a process that is killed forgets what
// came after it was last written, and nothing else.
package ledger

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"postern.dev/postern/decide/limit"
)

// Interval is how often the file is written at most.
const Interval = 5 * time.Second

const (
	version = 1
	// maxFile bounds what is read; that is some 400,000 keys.
	maxFile  = 32 << 20
	underway = ".tmp"
)

// Counter is what is kept.
type Counter interface {
	// Restore has limits by these names begin with what they counted before.
	Restore(map[string]limit.Count)
	// Used returns what was counted here of each limit that has counted
	// something, and false before the first configuration.
	Used() (map[string]limit.Count, bool)
}

// Options is what a Ledger is made of.
type Options struct {
	Path    string
	Counter Counter
	// Every asks for the file to be written; nil does every Interval.
	Every <-chan time.Time
	// Failed is told when the file cannot be written, and, with nil, when it can
	// again.
	Failed func(error)
}

// Ledger writes a file until it is closed.
type Ledger struct {
	o       Options
	id      string
	written map[string]limit.Count
	failed  bool
	stop    chan struct{}
	done    sync.WaitGroup
	once    sync.Once
}

// file is what the file holds.
type file struct {
	Version int `json:"version"`
	// ID is whose counts they are, wherever they are told.
	ID   string                 `json:"id"`
	Used map[string]limit.Count `json:"used"`
}

// Open has the Counter count on from what the file holds, and keeps it from then
// on. A file that cannot be used is an error beside a Ledger that counts anew.
func Open(o Options) (*Ledger, error) {
	l := &Ledger{o: o, stop: make(chan struct{})}
	f, err := read(o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if l.id = f.ID; l.id == "" {
		l.id = rand.Text()
	}
	l.written = f.Used
	o.Counter.Restore(f.Used)
	l.done.Go(l.keep)
	return l, err
}

// ID tells the file from others, for as long as it is there.
func (l *Ledger) ID() string { return l.id }

// Close writes the file once more. Nothing is to be counted any longer. To close
// it again does nothing.
func (l *Ledger) Close() error {
	if l == nil {
		return nil
	}
	var err error
	l.once.Do(func() {
		close(l.stop)
		l.done.Wait()
		err = l.save()
	})
	return err
}

func (l *Ledger) keep() {
	every := l.o.Every
	if every == nil {
		t := time.NewTicker(Interval)
		defer t.Stop()
		every = t.C
	}
	for {
		select {
		case <-l.stop:
			return
		case <-every:
		}
		err := l.save()
		if l.o.Failed != nil && (err != nil) != l.failed {
			l.o.Failed(err)
		}
		l.failed = err != nil
	}
}

func (l *Ledger) save() error {
	used, ok := l.o.Counter.Used()
	if !ok || maps.Equal(used, l.written) {
		return nil
	}
	data, err := json.Marshal(&file{version, l.id, used})
	if err == nil {
		err = write(l.o.Path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keep what quotas have counted in %s: %w", l.o.Path, err)
	}
	l.written = used
	return nil
}

func read(path string) (file, error) {
	f, err := os.Open(path)
	if err != nil {
		return file{}, fmt.Errorf("read what quotas have counted: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	err = errors.Join(err, f.Close())
	if err == nil && len(data) > maxFile {
		err = errors.New("it is larger than what is written")
	}
	var out file
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err == nil && out.Version != version {
		err = fmt.Errorf("it is of version %d, this build reads %d", out.Version, version)
	}
	if err != nil {
		return file{}, fmt.Errorf("read what quotas have counted in %s: %w; all begin anew", path, err)
	}
	return out, nil
}

// write puts a file in place, whole or not at all.
func write(path string, data []byte) error {
	// A name that is always the same leaves one file behind at most. Nobody else
	// writes it: the path is this process's own.
	f, err := os.OpenFile(path+underway, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+underway, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrInvalid) {
		err = nil // not every system can
	}
	return errors.Join(err, d.Close())
}
