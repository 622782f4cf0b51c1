// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/store"
	"postern.dev/postern/store/storetest"
)

const fullEnv = "POSTERN_STORE_FILL"

func init() { children[fullEnv] = writeUntilFull }

// writeUntilFull writes until the disk is full, and reports what a program
// that embeds the store would see.
func writeUntilFull(dir string) error {
	ctx := context.Background()
	s, err := Open(ctx, dir, Options{Timeout: 3 * time.Second})
	if err != nil {
		return err
	}
	acked := 0
	for ; acked < 1000; acked++ {
		big := strings.Repeat("x", 300<<10)
		if _, err = s.Apply(ctx, small(fmt.Sprint(acked%10), fmt.Sprint(acked, " ", big))); err != nil {
			break
		}
	}
	var e *store.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("after %d changes: %w", acked, err)
	}
	fmt.Printf("acked %d kind %s\n%v\n", acked, e.Kind, err)
	began := time.Now()
	_, _, err = s.Load(ctx)
	fmt.Printf("load: %v\n", err)
	err = s.Close()
	fmt.Printf("close after %v: %v\n", time.Since(began).Round(time.Millisecond), err)
	return nil
}

func TestAFullDiskIsAnErrorAndLosesNothing(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root to mount a small file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=120m"); err != nil {
		t.Skipf("SKIPPED: needs to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*storetest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), fullEnv+"="+filepath.Join(dir, "s"))
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("the process ended with the disk: %v", err)
	}
	var acked int
	var kind store.Kind
	line, _, err := bufio.NewReader(strings.NewReader(string(out))).ReadLine()
	if _, scan := fmt.Sscanf(string(line), "acked %d kind %s", &acked, &kind); err != nil || scan != nil {
		t.Fatal(err, scan)
	}
	if acked == 1000 || acked == 0 || kind != store.Unavailable && kind != store.Limited {
		t.Fatalf("%d changes were acknowledged, then an error of kind %q", acked, kind)
	}
	// With room again, everything acknowledged is there.
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=400m"); err != nil {
		t.Fatal(err)
	}
	s := open(t, filepath.Join(dir, "s"), Options{})
	docs, rev, err := s.Load(t.Context())
	if err != nil || rev < int64(acked) || rev > int64(acked)+1 {
		t.Fatalf("Load = %d, %v; acknowledged were %d", rev, err, acked)
	}
	for _, d := range docs {
		if n := d.Revision - 1; !strings.HasPrefix(string(d.Data), fmt.Sprint(n, " ")) || d.Name != fmt.Sprint(n%10) {
			t.Errorf("%s of revision %d holds %.10q", d.Key, d.Revision, d.Data)
		}
	}
	apply(t, s, small("after", "x"))
}
