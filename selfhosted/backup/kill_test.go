// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/configuration"
)

// savesIn names the folder in which a child saves until it is killed.
const savesIn = "POSTERN_BACKUP_SAVES"

func TestMain(m *testing.M) {
	if dir := os.Getenv(savesIn); dir != "" {
		if err := saveForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// saveForever saves documents of growing revisions and of many sizes, and
// writes each revision once it is saved.
func saveForever(dir string) error {
	b, err := Open(Options{Dir: dir, Check: mine})
	if err != nil {
		return err
	}
	doc, _, err := b.Load()
	if err != nil {
		doc = document(0)
	}
	for r := doc.Revision + 1; ; r++ {
		d := document(r)
		d.Resources = append(d.Resources, configuration.Resource{Kind: "Stage", Name: "s", Data: []byte(`"` + strings.Repeat("x", int(r%50)*2000) + `"`)})
		if err := b.Save(d); err != nil {
			return err
		}
		fmt.Println(r)
	}
}

// kills is how many there are: few in plain tests, as many as
// POSTERN_BACKUP_KILLS says by make backups.
func kills(t *testing.T) int {
	if s := os.Getenv("POSTERN_BACKUP_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("POSTERN_BACKUP_KILLS=%q is no number of kills", s)
		}
		return n
	}
	return 12
}

// TestKillsLeaveAWholeBackup kills a process with SIGKILL while it saves, and
// fails unless what can be loaded is at least what it said it had saved.
func TestKillsLeaveAWholeBackup(t *testing.T) {
	dir := t.TempDir()
	n, saved, usedPrevious, underWay := kills(t), int64(0), 0, 0
	for range n {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), savesIn+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() { // it is saving
			t.Fatal("the child saved nothing: ", cmd.Wait())
		}
		killed := time.AfterFunc(time.Duration(rand.Int64N(int64(15*time.Millisecond))), func() { _ = cmd.Process.Kill() })
		for ok := true; ok; ok = lines.Scan() {
			if r, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				saved = r
			}
		}
		_ = cmd.Wait() // it was killed, and says so
		killed.Stop()
		doc, problems, err := open(t, dir).Load()
		if err != nil {
			t.Fatalf("after a kill nothing is left: %v, %v", err, problems)
		}
		if doc.Revision < saved {
			t.Fatalf("revision %d is left although %d had been saved; %v", doc.Revision, saved, problems)
		}
		usedPrevious += len(problems)
		left, err := filepath.Glob(filepath.Join(dir, "*"+underway))
		if err != nil {
			t.Fatal(err)
		}
		underWay += len(left)
		for _, name := range left {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d kills, %d saves, %d kills while a file was written, the previous used %d times", n, saved, underWay, usedPrevious)
}
