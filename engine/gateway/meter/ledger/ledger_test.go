// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/decide/limit"
	"postern.dev/postern/engine/gateway/meter"
	"postern.dev/postern/engine/gateway/meter/ledger"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

var (
	noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ten  = &snapshot.Quota{Limit: 10, Period: model.PeriodMonth}
)

func named(names ...string) *snapshot.Snapshot { return &snapshot.Snapshot{Meters: names} }

// begin opens a ledger whose file is written when asked, and applies names.
func begin(t *testing.T, path string, names ...string) (*meter.Table, *ledger.Ledger, chan<- time.Time) {
	t.Helper()
	table, every := &meter.Table{}, make(chan time.Time)
	l, err := ledger.Open(ledger.Options{Path: path, Counter: table, Every: every, Failed: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	table.Apply(named(names...))
	return table, l, every
}

func use(table *meter.Table, name string, n int) {
	for range n {
		table.Live()[name].Use(ten, noon)
	}
}

func left(table *meter.Table, name string) (n int) {
	for table.Live()[name].Use(ten, noon) {
		n++
	}
	return n
}

func shut(t *testing.T, l *ledger.Ledger) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatWasCountedCountsAfterAStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quotas.json")
	table, l, _ := begin(t, path, "Key/a", "Key/b", "Key/c")
	id := l.ID()
	use(table, "Key/a", 4)
	use(table, "Key/b", 1)
	shut(t, l)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	table, l, _ = begin(t, path, "Key/c", "Key/a")
	if n, m := left(table, "Key/a"), left(table, "Key/c"); n != 6 || m != 10 || l.ID() != id {
		t.Errorf("%d and %d are left", n, m)
	}
	shut(t, l)
	// What the configuration does not name any more is not kept.
	if data, err := os.ReadFile(path); err != nil || bytes.Contains(data, []byte("Key/b")) || !bytes.Contains(data, []byte("Key/a")) {
		t.Errorf("%s, %v", data, err)
	}
}

func TestAProcessThatIsKilledForgetsWhatCameAfterItWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quotas.json")
	table, l, every := begin(t, path, "Key/a")
	use(table, "Key/a", 4)
	every <- noon
	every <- noon // the first is done
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	use(table, "Key/a", 3)
	after := filepath.Join(t.TempDir(), "quotas.json")
	if err := os.WriteFile(after, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	other, killed, _ := begin(t, after, "Key/a")
	if n := left(other, "Key/a"); n != 6 {
		t.Errorf("%d are left", n)
	}
	shut(t, killed)
	shut(t, l)
}

func TestAKillAtAnyByteLeavesAWholeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quotas.json")
	table, l, _ := begin(t, path, "Key/a")
	use(table, "Key/a", 4)
	shut(t, l)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		// The file is written beside and then takes the name.
		if err := os.WriteFile(path+".tmp", whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		table, l, _ = begin(t, path, "Key/a")
		if _, c := table.Live()["Key/a"].State(); limit.Used(ten, c, noon) != 4 {
			t.Fatalf("cut at %d", n)
		}
		shut(t, l)
	}
	// A disk that loses part of a file all the same: that is said, and what is
	// left is not taken for something else.
	for n := range len(whole) - 1 {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		table := &meter.Table{}
		l, err := ledger.Open(ledger.Options{Path: path, Counter: table})
		if err == nil || !strings.Contains(err.Error(), "begin anew") {
			t.Fatalf("cut at %d: %v", n, err)
		}
		table.Apply(named("Key/a"))
		if n := left(table, "Key/a"); n != 10 {
			t.Fatalf("%d are left", n)
		}
		shut(t, l)
	}
}

func TestNothingIsForgottenWithoutAConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quotas.json")
	table, l, _ := begin(t, path, "Key/a")
	use(table, "Key/a", 4)
	shut(t, l)
	table = &meter.Table{}
	table.Apply(&snapshot.Snapshot{}) // as a self-hosted gateway has it that waits for one
	every := make(chan time.Time)
	l, err := ledger.Open(ledger.Options{Path: path, Counter: table, Every: every})
	if err != nil {
		t.Fatal(err)
	}
	every <- noon
	shut(t, l)
	table, l, _ = begin(t, path, "Key/a")
	if n := left(table, "Key/a"); n != 6 {
		t.Errorf("%d are left", n)
	}
	shut(t, l)
}

func TestWhatOthersCountedIsNotKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quotas.json")
	table, l, _ := begin(t, path, "Key/a")
	use(table, "Key/a", 2)
	four, _ := limit.Use(ten, limit.Full(&snapshot.Quota{Limit: 3, Period: ten.Period}, noon), noon)
	table.Live()["Key/a"].Charge(0, four, noon)
	shut(t, l)
	table, l, _ = begin(t, path, "Key/a")
	if n := left(table, "Key/a"); n != 8 {
		t.Errorf("%d are left", n)
	}
	shut(t, l)
}

func TestAFolderThatCannotBeWrittenIsToldOfOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	table, every, told := &meter.Table{}, make(chan time.Time), make(chan error, 9)
	l, err := ledger.Open(ledger.Options{Path: filepath.Join(dir, "quotas.json"), Counter: table, Every: every, Failed: func(err error) { told <- err }})
	if err != nil {
		t.Fatal(err)
	}
	table.Apply(named("Key/a"))
	use(table, "Key/a", 1)
	for range 3 {
		every <- noon
	}
	if err := <-told; err == nil {
		t.Error("it is not told of")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	every <- noon
	if err := <-told; err != nil {
		t.Error(err)
	}
	shut(t, l)
	if len(told) > 0 {
		t.Error("it is told of again")
	}
}
