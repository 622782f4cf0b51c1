// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"

	"postern.dev/postern/store"
)

// files returns the content of every file below dir.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAWrongKeyChangesNothing(t *testing.T) {
	key, other := testKey(t, 1), testKey(t, 2)
	for _, c := range []struct {
		name        string
		made, given Codec
	}{
		{"another key", key, other},
		{"no key", key, nil},
		{"a key for a clear store", nil, key},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "s")
			s := open(t, dir, Options{Codec: c.made})
			apply(t, s, small("a", "1"))
			shut(t, s)
			before := files(t, dir)
			_, err := Open(t.Context(), dir, Options{Codec: c.given})
			var e *store.Error
			if !errors.Is(err, store.ErrWrongKey) || !errors.As(err, &e) || e.Kind != store.Denied {
				t.Fatalf("Open: %v, want a wrong key", err)
			}
			for path, content := range files(t, dir) {
				if before[path] != content {
					t.Errorf("%s was changed", path)
				}
			}
			s = open(t, dir, Options{Codec: c.made})
			if docs, _, err := s.Load(t.Context()); err != nil || len(docs) != 1 {
				t.Errorf("Load with the right key: %d documents, %v", len(docs), err)
			}
		})
	}
	t.Run("in a cluster", func(t *testing.T) {
		address := startCluster(t)
		s := dial(t, address, Options{Codec: key})
		apply(t, s, small("a", "1"))
		revision := func() int64 {
			r, err := s.client.Get(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			return r.Header.Revision
		}
		before := revision()
		for _, codec := range []Codec{other, nil} {
			_, err := Dial(t.Context(), Cluster{Addresses: []string{address}}, Options{Codec: codec})
			if !errors.Is(err, store.ErrWrongKey) {
				t.Errorf("Dial: %v, want a wrong key", err)
			}
		}
		if after := revision(); after != before {
			t.Errorf("etcd moved from revision %d to %d", before, after)
		}
	})
}

func TestAForeignFolderIsRefusedUntouched(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, store.ErrForeign) {
		t.Errorf("Open: %v, want foreign", err)
	}
	if n := files(t, dir); len(n) != 1 {
		t.Errorf("the folder now holds %d files", len(n))
	}
}

func TestAForeignPrefixIsRefusedUntouched(t *testing.T) {
	address := startCluster(t)
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	put, err := c.Put(t.Context(), "/postern/something", "else")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), Cluster{Addresses: []string{address}}, Options{}); !errors.Is(err, store.ErrForeign) {
		t.Errorf("Dial: %v, want foreign", err)
	}
	get, err := c.Get(t.Context(), "/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if get.Header.Revision != put.Header.Revision {
		t.Error("the cluster was written to")
	}
	dial(t, address, Options{Prefix: "/elsewhere/"})
}

func TestMissingFilesAreAnErrorNotAnEmptyStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s := open(t, dir, Options{})
	apply(t, s, small("a", "1"))
	shut(t, s)
	if err := os.RemoveAll(filepath.Join(dir, "etcd", "member")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Open: %v, want corrupt", err)
	}
}

func TestAnotherStoresFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"one", "two"} {
		shut(t, open(t, filepath.Join(dir, n), Options{}))
	}
	one, two := filepath.Join(dir, "one", "etcd"), filepath.Join(dir, "two", "etcd")
	if err := errors.Join(os.RemoveAll(one), os.Rename(two, one)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), filepath.Join(dir, "one"), Options{}); !errors.Is(err, store.ErrForeign) {
		t.Errorf("Open: %v, want foreign", err)
	}
}

func TestOneProcessHoldsTheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s := open(t, dir, Options{})
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("second Open: %v, want in use", err)
	}
	apply(t, s, small("a", "1"))
	shut(t, s)
	open(t, dir, Options{})
}

func TestADamagedFileIsAnErrorNotAPanic(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s := open(t, dir, Options{})
	for i := range 20 {
		apply(t, s, small(fmt.Sprint(i), "1"))
	}
	shut(t, s)
	logs, err := filepath.Glob(filepath.Join(dir, "etcd", "member", "wal", "*.wal"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no write-ahead log: %v", err)
	}
	b, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	copy(b[400:], bytes.Repeat([]byte{0xa5}, 400))
	if err := os.WriteFile(logs[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, Options{}); err == nil {
		t.Error("a damaged write-ahead log was opened")
	} else {
		t.Log(err)
	}
}

func TestADamagedDatabaseIsAnErrorNotAPanic(t *testing.T) {
	// etcd is left waiting for a goroutine that gave up, so this has a process
	// of its own.
	dir := filepath.Join(t.TempDir(), "s")
	s := open(t, dir, Options{})
	apply(t, s, small("a", "1"))
	shut(t, s)
	db := filepath.Join(dir, "etcd", "member", "snap", "db")
	b, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	copy(b, bytes.Repeat([]byte{0xa5}, 2*os.Getpagesize()))
	if err := os.WriteFile(db, b, 0o600); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), openEnv+"="+dir)
	out, err := cmd.CombinedOutput()
	if text := string(out); err == nil || !strings.Contains(text, "store corrupt") || strings.Contains(text, "goroutine ") {
		t.Errorf("%v, it says:\n%s", err, text)
	}
}

const openEnv = "POSTERN_STORE_OPEN"

func init() {
	children[openEnv] = func(dir string) error {
		s, err := Open(context.Background(), dir, Options{})
		if err != nil {
			return err
		}
		return s.Close()
	}
}

// TestAFirstStartThatWasKilledIsMadeAgain leaves what a process leaves that
// dies when etcd has made its log and written nothing into it: it would never
// elect a leader.
func TestAFirstStartThatWasKilledIsMadeAgain(t *testing.T) {
	dir := t.TempDir()
	if err := writeMarker(dir, marker{Format: format, Codec: clear{}.ID()}); err != nil {
		t.Fatal(err)
	}
	member := filepath.Join(dir, etcdDir, "member")
	if err := os.MkdirAll(filepath.Join(member, "snap"), 0o700); err != nil {
		t.Fatal(err)
	}
	ids := []byte{1 << 3, 1, 2 << 3, 1} // etcdserverpb.Metadata: of node and cluster
	w, err := wal.Create(zap.NewNop(), filepath.Join(member, "wal"), ids)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	apply(t, open(t, dir, Options{}), small("a", "1"))
}

func TestOnlyCiphertextReachesTheDisk(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		dir := filepath.Join(t.TempDir(), "s")
		o := Options{CheckpointChanges: 3}
		if sealed {
			o.Codec = testKey(t, 9)
		}
		s := open(t, dir, o)
		const name, secret = "name-of-a-document", "the-text-of-a-document"
		for i := range 10 {
			apply(t, s, small(name, fmt.Sprint(secret, i)))
		}
		apply(t, s, small(name, strings.Repeat(secret, 100_000)))
		shut(t, s)
		seen := 0
		for path, content := range files(t, dir) {
			for _, text := range []string{name, secret} {
				if n := strings.Count(content, text); n > 0 {
					seen++
					if sealed {
						t.Errorf("%s shows %q %d times", path, text, n)
					}
				}
			}
		}
		if !sealed && seen == 0 {
			t.Error("a clear store does not show its text: the search is blind")
		}
	}
}

func TestAMovedRecordDoesNotOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	o := Options{Codec: testKey(t, 4)}
	s := open(t, dir, o)
	apply(t, s, small("a", "1"))
	apply(t, s, small("a", "2"))
	first, err := s.client.Get(t.Context(), s.keys.log(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.Put(t.Context(), s.keys.log(2), string(first.Kvs[0].Value)); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	if _, err := Open(t.Context(), dir, o); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Open: %v, want corrupt", err)
	}
}

// TestNothingListens looks at the sockets of this very process.
func TestNothingListens(t *testing.T) {
	listening := func() int {
		n := 0
		for _, f := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Skipf("SKIPPED: needs %s: %v", f, err)
			}
			inodes := map[string]bool{}
			for line := range strings.Lines(string(b)) {
				if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" {
					inodes["socket:["+f[9]+"]"] = true
				}
			}
			fds, err := os.ReadDir("/proc/self/fd")
			if err != nil {
				t.Fatal(err)
			}
			for _, fd := range fds {
				if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && inodes[to] {
					n++
				}
			}
		}
		return n
	}
	before := listening()
	s := open(t, filepath.Join(t.TempDir(), "s"), Options{})
	apply(t, s, small("a", "1"))
	if after := listening(); after != before {
		t.Errorf("the process listens on %d TCP sockets with an open store, on %d without", after, before)
	}
}
