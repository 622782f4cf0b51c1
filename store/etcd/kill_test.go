// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.dev/postern/store"
	"postern.dev/postern/store/sealed"
	"postern.dev/postern/store/storetest"
)

const childEnv = "POSTERN_STORE_CHILD"

// children are what the test binary does instead of testing when one of these
// environment variables names a folder.
var children = map[string]func(dir string) error{childEnv: writeUntilKilled}

func TestMain(m *testing.M) {
	for env, run := range children {
		if dir := os.Getenv(env); dir != "" {
			if err := run(dir); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	goleak.VerifyTestMain(m)
}

func killOptions(dir string) (Options, error) {
	k, err := sealed.LoadOrCreateKey(filepath.Join(dir, "key"))
	return Options{Codec: k, CheckpointChanges: 15, CheckpointBytes: 1 << 20}, err
}

// members are the documents of the kill test that always tell the same number.
const members = 4

// step is change number n: all members tell n, one document is created that
// the next change deletes, and now and then it takes several requests.
func step(n int64) store.Change {
	c := store.Change{IfRevision: n - 1}
	tell := func(name string, pad int) {
		c.Puts = append(c.Puts, store.Put{
			Key: store.Key{Kind: "Member", Name: name}, IfRevision: store.Any,
			Data: fmt.Appendf(nil, `{"n":%d,"pad":"%s"}`, n, strings.Repeat(string(rune('a'+n%26)), pad)),
		})
	}
	for i := range members {
		pad := int(n * 37 % 3000)
		if n%7 == 0 && i == 1 {
			pad = 2 << 20
		}
		tell(fmt.Sprint(i), pad)
	}
	c.Puts = append(c.Puts, store.Put{Key: passing(n), IfRevision: store.Absent, Data: []byte("{}")})
	if n > 1 {
		c.Deletes = []store.Delete{{Key: passing(n - 1), IfRevision: n - 1}}
	}
	return c
}

func passing(n int64) store.Key { return store.Key{Kind: "Passing", Name: fmt.Sprint(n)} }

func writeUntilKilled(dir string) error {
	o, err := killOptions(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := Open(ctx, filepath.Join(dir, "store"), o)
	if err != nil {
		return err
	}
	_, n, err := s.Load(ctx)
	if err != nil {
		return err
	}
	for {
		n++
		if _, err := fmt.Printf("try %d\n", n); err != nil {
			return err
		}
		rev, err := s.Apply(ctx, step(n))
		if err != nil {
			return err
		}
		if rev != n {
			return fmt.Errorf("change %d became revision %d", n, rev)
		}
		if _, err := fmt.Printf("ack %d\n", n); err != nil {
			return err
		}
	}
}

func TestNothingAcknowledgedIsLostByAKill(t *testing.T) {
	kills := 5
	if v := os.Getenv("POSTERN_KILLS"); v != "" {
		var err error
		if kills, err = strconv.Atoi(v); err != nil {
			t.Fatalf("POSTERN_KILLS: %v", err)
		}
	}
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	var slowest time.Duration
	var last int64
	for i := range kills {
		tried, acked := killOne(t, dir, time.Duration(rnd.Int64N(int64(400*time.Millisecond))), last)
		o, err := killOptions(dir)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		s, err := Open(t.Context(), filepath.Join(dir, "store"), o)
		if err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		slowest = max(slowest, time.Since(began))
		last = checkWhole(t, s, tried, acked)
		shut(t, s)
		if t.Failed() {
			t.Fatalf("after kill %d, changes tried to %d, acknowledged to %d", i, tried, acked)
		}
	}
	t.Logf("%d kills, %d changes, slowest open %v", kills, last, slowest)
}

// killOne runs a writer and kills it some time after its first change. It
// returns the last change tried and the last acknowledged.
func killOne(t *testing.T, dir string, after time.Duration, last int64) (tried, acked int64) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hang := time.AfterFunc(storetest.Patience, func() { cmd.Process.Kill() })
	defer hang.Stop()
	tried, acked = last, last
	lines := bufio.NewReader(out)
	for armed := false; ; {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break // killed; a last line without an end tells nothing
		}
		if err != nil {
			t.Fatal(err)
		}
		word, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			t.Fatalf("the writer said %q", line)
		}
		switch word {
		case "try":
			tried = n
		case "ack":
			acked = n
		}
		if !armed {
			armed = true
			kill := time.AfterFunc(after, func() { cmd.Process.Kill() })
			defer kill.Stop()
		}
	}
	if err := cmd.Wait(); cmd.ProcessState.Exited() {
		t.Fatalf("the writer ended by itself: %v\n%s", err, complaints.String())
	}
	return tried, acked
}

// checkWhole checks that the store shows one change, whole, and none older
// than the last acknowledged. It returns which.
func checkWhole(t *testing.T, s *Store, tried, acked int64) int64 {
	t.Helper()
	docs, rev, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if rev < acked || rev > tried {
		t.Errorf("the store is at change %d, acknowledged was %d and tried %d", rev, acked, tried)
	}
	if rev == 0 {
		if len(docs) != 0 {
			t.Errorf("%d documents at revision 0", len(docs))
		}
		return 0
	}
	want := map[store.Key]string{}
	for _, p := range step(rev).Puts {
		want[p.Key] = string(p.Data)
	}
	if len(docs) != len(want) {
		t.Errorf("%d documents, want %d", len(docs), len(want))
	}
	for _, d := range docs {
		if w, ok := want[d.Key]; !ok || w != string(d.Data) || d.Revision != rev {
			var told struct{ N int64 }
			err := json.Unmarshal(d.Data, &told)
			t.Errorf("%s has revision %d and tells %d (%v), the store is at %d", d.Key, d.Revision, told.N, err, rev)
		}
	}
	return rev
}
