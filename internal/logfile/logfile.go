// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package logfile is a file that lines are appended to and that is opened again
// when it has been moved away, as logrotate does.
package logfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Mode is that of a file that is made: its group may read it.
const Mode = 0o640

// File is an open log.
type File struct {
	path string

	mu  sync.Mutex
	f   *os.File  // nil for another's stream
	out io.Writer // f, or that stream

	signals chan os.Signal
	done    sync.WaitGroup
}

// Open opens the file at path, or for "-" writes to stream, which stays its
// owner's.
func Open(path string, stream io.Writer) (*File, error) {
	if path == "-" {
		return &File{out: stream}, nil
	}
	f := &File{path: path}
	return f, f.Reopen()
}

// Write appends p.
func (f *File) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.out.Write(p)
}

// Reopen opens the file again, or makes it anew if it is there no longer. If that
// fails the old one stays.
func (f *File) Reopen() error {
	if f.path == "" {
		return nil
	}
	next, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, Mode)
	if err != nil {
		return err // it names the path
	}
	f.mu.Lock()
	old := f.f
	f.f, f.out = next, next
	f.mu.Unlock()
	if old == nil {
		return nil
	}
	if err := old.Close(); err != nil {
		return fmt.Errorf("close the old log: %w", err)
	}
	return nil
}

// OnHangup opens the file again whenever the process gets SIGHUP, after before has
// returned; told hears of failures. It ends with Close.
func (f *File) OnHangup(before func(), told func(error)) {
	f.signals = make(chan os.Signal, 1)
	signal.Notify(f.signals, syscall.SIGHUP)
	f.done.Go(func() {
		for range f.signals {
			before()
			if err := f.Reopen(); err != nil {
				told(err)
			}
		}
	})
}

// Close closes the file.
func (f *File) Close() error {
	if f.signals != nil {
		signal.Stop(f.signals)
		close(f.signals)
		f.done.Wait()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
