// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package backup keeps the last configuration of a self-hosted gateway on disk,
// sealed, so that it can start while its management plane is away. Whenever the
// process or the machine stops, a whole one is left: the newest or the one
// before it.
package backup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"postern.dev/postern/configuration"
)

// The files in the folder of a backup.
const (
	newest   = "configuration.backup"
	previous = "configuration.backup.previous"
	keyFile  = "backup.key"
	// Files under way end so. Instances may share the folder: each file has a
	// name of its own.
	underway = ".tmp"
)

// Backup is one folder with what was kept. Several processes may share it.
type Backup struct {
	dir string
	key *key
	// check judges a document, beyond that it is whole.
	check func(*configuration.Document) error
	// follow judges whether a document may take another's place.
	follow func(held, next *configuration.Document) (configuration.Step, error)
	// lockWait is how long another may take to save.
	lockWait time.Duration
	// step is called between the steps of Save: tests stop there.
	step func(string) error

	mu   sync.Mutex // guards the files against other Saves of this process
	kept string     // hash and time of what Save wrote last
}

// Options say where a backup is and what it may hold.
type Options struct {
	// Dir is made if it is missing.
	Dir string
	// Key is a file; if empty it is backup.key in Dir, made if it is missing.
	Key string
	// Check refuses documents that are not this gateway's, or not signed.
	Check func(*configuration.Document) error
	// Follow judges whether next may take the place of held; by default as
	// documents of the same authority.
	Follow func(held, next *configuration.Document) (configuration.Step, error)
}

// Open prepares a folder.
func Open(o Options) (*Backup, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("backup: %w; name a folder that can be written with config.backup.path, or none", err)
	}
	var k *key
	var err error
	if o.Key != "" {
		k, err = loadKey(o.Key)
	} else {
		k, err = loadOrMakeKey(filepath.Join(o.Dir, keyFile))
	}
	if err != nil {
		return nil, err
	}
	b := &Backup{dir: o.Dir, key: k, check: o.Check, follow: o.Follow, lockWait: lockWait, step: func(string) error { return nil }}
	if b.check == nil {
		b.check = func(*configuration.Document) error { return nil }
	}
	if b.follow == nil {
		b.follow = func(held, next *configuration.Document) (configuration.Step, error) {
			return configuration.Follow(held, next, true, time.Now())
		}
	}
	return b, nil
}

// ErrNone says that there is no backup that can be used.
var ErrNone = errors.New("backup: there is none that can be used")

// Load returns the newest document that can be used. Problems says what was
// wrong with files that were passed over, also when a document is returned.
func (b *Backup) Load() (doc *configuration.Document, problems []error, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.load()
}

func (b *Backup) load() (doc *configuration.Document, problems []error, err error) {
	for _, name := range []string{newest, previous} {
		d, err := b.read(name)
		if err == nil {
			return d, problems, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, err)
		}
	}
	return nil, problems, ErrNone
}

// read reads and judges one file.
func (b *Backup) read(name string) (*configuration.Document, error) {
	path := filepath.Join(b.dir, name)
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	plain, err := b.key.open(data)
	if err != nil {
		return nil, fmt.Errorf("backup: %s: %w", path, err)
	}
	doc, err := configuration.DecodeDocument(plain)
	if err == nil {
		err = b.check(doc)
	}
	if err != nil {
		return nil, fmt.Errorf("backup: %s: %w", path, err)
	}
	return doc, nil
}

// Save keeps a document. What was the newest becomes the previous, unless it
// cannot be used: then the previous stays. A document that is older than what
// another instance has kept meanwhile is refused with configuration.ErrOlder.
func (b *Backup) Save(doc *configuration.Document) (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := identity(doc)
	if id == b.kept {
		return nil
	}
	plain, err := doc.Encode()
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	sealed, err := b.key.seal(plain)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	release, err := b.lock()
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() { err = errors.Join(err, release()) }()
	if held, _, none := b.load(); none == nil {
		switch step, err := b.follow(held, doc); {
		case err != nil:
			return fmt.Errorf("backup: %s: %w", b.dir, err)
		case step == configuration.Keep, identity(held) == id:
			b.kept = id // another instance has kept it
			return nil
		}
	}
	b.sweep()
	name, err := b.write(sealed)
	if err != nil {
		return fmt.Errorf("backup: write %s: %w", b.dir, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("backup: %s: %w", b.dir, errors.Join(err, discard(name)))
		}
	}()
	if _, usable := b.read(newest); usable == nil {
		if err := b.keepPrevious(); err != nil {
			return err
		}
	}
	if err := b.step("kept the previous"); err != nil {
		return err
	}
	if err := os.Rename(name, filepath.Join(b.dir, newest)); err != nil {
		return err
	}
	if err := b.step("renamed"); err != nil {
		return err
	}
	if err := syncDir(b.dir); err != nil {
		return err
	}
	b.kept = id
	return nil
}

// identity tells documents apart.
func identity(d *configuration.Document) string {
	at := time.Time{}
	if d.Signature != nil {
		at = d.Signature.Time
	}
	return fmt.Sprintf("%s %d %d", d.Hash(), d.Revision, at.Unix())
}

// write writes a file of its own, down to the disk.
func (b *Backup) write(data []byte) (name string, err error) {
	f, err := os.CreateTemp(b.dir, newest+".*"+underway) // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = b.step("written")
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = b.step("synced")
	}
	if err != nil {
		return "", errors.Join(err, discard(f.Name()))
	}
	return f.Name(), nil
}

// keepPrevious gives the newest file its second name. It is under both until
// another takes the first, so that there is a newest at every moment; where a
// file system has no second names, it is moved.
func (b *Backup) keepPrevious() error {
	const tries = 4
	var err error
	for range tries {
		// The second name is as old as the file, and another instance may take it
		// for one that was left.
		if err = b.linkPrevious(); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

func (b *Backup) linkPrevious() error {
	from, to := filepath.Join(b.dir, newest), filepath.Join(b.dir, previous)
	second, err := os.CreateTemp(b.dir, previous+".*"+underway)
	if err != nil {
		return err
	}
	// A name that nobody else has; the link takes its place.
	if err := errors.Join(second.Close(), os.Remove(second.Name())); err != nil {
		return err
	}
	if err := os.Link(from, second.Name()); err != nil {
		return os.Rename(from, to)
	}
	if err := b.step("linked"); err != nil {
		return errors.Join(err, discard(second.Name()))
	}
	// Renaming one name of a file to another of its names does nothing.
	return errors.Join(os.Rename(second.Name(), to), discard(second.Name()))
}

// stale is how old a file under way is whose writer was stopped.
const stale = time.Minute

// sweep removes what writers that were stopped have left. It is not needed for
// what follows, so that failing changes nothing.
func (b *Backup) sweep() {
	list, err := os.ReadDir(b.dir)
	if err != nil {
		return
	}
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), newest) || !strings.HasSuffix(e.Name(), underway) {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > stale {
			_ = os.Remove(filepath.Join(b.dir, e.Name()))
		}
	}
}

// discard removes a file that may be gone.
func discard(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// maxFile bounds what is read.
const maxFile = configuration.MaxFrame + 4096

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("backup: %s: %w", path, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("backup: %s is larger than any configuration", path)
	}
	return data, nil
}

// syncDir brings names down to the disk, where the system can.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrInvalid) {
		err = nil
	}
	return errors.Join(err, d.Close())
}
