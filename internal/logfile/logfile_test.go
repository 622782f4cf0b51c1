// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package logfile

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAFileThatWasMovedAwayIsMadeAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	f, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	write := func(s string) {
		t.Helper()
		if _, err := f.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	write("a")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write("b")
	if err := f.Reopen(); err != nil {
		t.Fatal(err)
	}
	write("c")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if old, now := content(t, path+".1"), content(t, path); old != "ab" || now != "c" {
		t.Errorf("%q in the old file, %q in the new one", old, now)
	}
	i, err := os.Stat(path)
	if err != nil || i.Mode().Perm()&^Mode != 0 {
		t.Errorf("%v, mode %v", err, i.Mode())
	}
	if f, err = Open(path, nil); err != nil {
		t.Fatal(err)
	}
	write("d")
	if err := f.Close(); err != nil || content(t, path) != "cd" {
		t.Errorf("%v, %q after a restart", err, content(t, path))
	}
}

func TestAFileThatCannotBeMadeLeavesTheOldOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "access.log")
	f, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Rename(dir, dir+"-moved"); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(); err == nil {
		t.Error("a file was made in a folder that is not there")
	}
	if _, err := f.Write([]byte("a")); err != nil {
		t.Errorf("the old file cannot be written: %v", err)
	}
}

func TestADashIsTheStream(t *testing.T) {
	var b bytes.Buffer
	f, err := Open("-", &b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil || b.String() != "a" {
		t.Errorf("%v, %q", err, b.String())
	}
}
