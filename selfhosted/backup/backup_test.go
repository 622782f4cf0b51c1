// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/configuration"
)

// document is one that fills a few hundred bytes.
func document(revision int64) *configuration.Document {
	return &configuration.Document{Revision: revision, For: "edge-1", Gateway: "corp", Base: "postern.internal", Resources: []configuration.Resource{
		{Kind: "Gateway", Name: "corp", Data: []byte(`{"kind":"Gateway","spec":{"note":"the word that nobody reads on disk"}}`)},
	}}
}

var errOther = errors.New("it is of another gateway")

// mine takes documents for edge-1.
func mine(d *configuration.Document) error {
	if d.For != "edge-1" {
		return fmt.Errorf("%w: %s", errOther, d.For)
	}
	return nil
}

func open(t testing.TB, dir string) *Backup {
	t.Helper()
	b, err := Open(Options{Dir: dir, Check: mine})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func save(t testing.TB, b *Backup, revisions ...int64) {
	t.Helper()
	for _, r := range revisions {
		if err := b.Save(document(r)); err != nil {
			t.Fatal(err)
		}
	}
}

// loads fails unless the folder gives the revision, with as many problems.
func loads(t testing.TB, dir string, revision int64, problems int) []error {
	t.Helper()
	doc, ps, err := open(t, dir).Load()
	if err != nil {
		t.Fatalf("nothing is loaded: %v; %v", err, ps)
	}
	if doc.Revision != revision || len(ps) != problems {
		t.Fatalf("revision %d is loaded with %d problems %v, want %d with %d", doc.Revision, len(ps), ps, revision, problems)
	}
	return ps
}

func TestWhatWasSavedIsLoaded(t *testing.T) {
	dir := t.TempDir()
	if _, ps, err := open(t, dir).Load(); !errors.Is(err, ErrNone) || len(ps) != 0 {
		t.Errorf("an empty folder gives %v, %v", ps, err)
	}
	b := open(t, dir)
	save(t, b, 1, 2, 3)
	loads(t, dir, 3, 0)
	if err := os.Remove(filepath.Join(dir, newest)); err != nil {
		t.Fatal(err)
	}
	loads(t, dir, 2, 0)
}

func TestNothingIsReadableOnDisk(t *testing.T) {
	dir := t.TempDir()
	save(t, open(t, dir), 1, 2)
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 4 { // newest, previous, key, lock
		t.Errorf("the folder holds %v", list)
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", e.Name(), info.Mode().Perm())
		}
		if data := get(t, filepath.Join(dir, e.Name())); bytes.Contains(data, []byte("nobody")) {
			t.Errorf("%s can be read", e.Name())
		}
	}
}

func TestACutAnywhereLeavesThePrevious(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	save(t, b, 1, 2)
	path := filepath.Join(dir, newest)
	whole := get(t, path)
	for n := range whole {
		put(t, path, whole[:n])
		loads(t, dir, 1, 1)
	}
	put(t, path, append(bytes.Clone(whole), 0))
	loads(t, dir, 1, 1)
	put(t, path, whole)
	loads(t, dir, 2, 0)
}

func TestABitFlippedAnywhereLeavesThePrevious(t *testing.T) {
	dir := t.TempDir()
	save(t, open(t, dir), 1, 2)
	path := filepath.Join(dir, newest)
	whole := get(t, path)
	for n := range whole {
		for _, bit := range []byte{0x01, 0x80} {
			bad := bytes.Clone(whole)
			bad[n] ^= bit
			put(t, path, bad)
			loads(t, dir, 1, 1)
		}
	}
}

func TestStoppedAtAnyStepAWholeOneIsLeft(t *testing.T) {
	for _, at := range []string{"written", "synced", "linked", "kept the previous", "renamed"} {
		dir := t.TempDir()
		b := open(t, dir)
		save(t, b, 1, 2)
		stopped := false
		b.step = func(s string) error {
			if s != at {
				return nil
			}
			stopped = true
			// As a kill would leave it.
			doc, problems, err := open(t, dir).Load()
			want := int64(2)
			if at == "renamed" {
				want = 3
			}
			if err != nil || len(problems) > 0 || doc.Revision != want {
				t.Errorf("%s: %+v, %v, %v", at, doc, problems, err)
			}
			return errors.New("stopped")
		}
		if err := b.Save(document(3)); err == nil || !strings.Contains(err.Error(), "stopped") {
			t.Errorf("%s: Save returns %v", at, err)
		}
		if !stopped {
			t.Errorf("Save has no step %q", at)
		}
		b.step = func(string) error { return nil }
		save(t, b, 4)
		loads(t, dir, 4, 0)
		if left, err := filepath.Glob(filepath.Join(dir, "*"+underway)); err != nil || len(left) > 0 {
			t.Errorf("%s: left are %v", at, left)
		}
	}
}

func TestADamagedOneDoesNotReplaceThePrevious(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	save(t, b, 1, 2)
	put(t, filepath.Join(dir, newest), []byte("rubbish"))
	save(t, b, 3)
	put(t, filepath.Join(dir, newest), nil)
	loads(t, dir, 1, 1)
}

func TestWhatCannotBeUsedIsNamed(t *testing.T) {
	f := func(name string, want error, change func(b *Backup, dir, path string)) {
		t.Helper()
		dir := t.TempDir()
		b := open(t, dir)
		save(t, b, 1, 2)
		path := filepath.Join(dir, newest)
		change(b, dir, path)
		ps := loads(t, dir, 1, 1)
		if !errors.Is(ps[0], want) || !strings.Contains(ps[0].Error(), path) {
			t.Errorf("%s: the problem is %v, want %v", name, ps[0], want)
		}
	}
	f("foreign", ErrForeign, func(_ *Backup, _, path string) { put(t, path, bytes.Repeat([]byte("snapshot"), 100)) })
	f("cut", ErrCut, func(_ *Backup, _, path string) { put(t, path, get(t, path)[:100]) })
	f("damaged", ErrChecksum, func(_ *Backup, _, path string) {
		d := get(t, path)
		d[headSize] ^= 1
		put(t, path, d)
	})
	f("newer", ErrVersion, func(_ *Backup, _, path string) {
		d := get(t, path)
		binary.BigEndian.PutUint16(d[len(magic):], 2)
		put(t, path, d)
	})
	f("other key", ErrKey, func(_ *Backup, _, path string) {
		other := t.TempDir()
		save(t, open(t, other), 7)
		put(t, path, get(t, filepath.Join(other, newest)))
	})
	f("other gateway", errOther, func(b *Backup, _, path string) {
		d := document(9)
		d.For = "edge-2"
		plain, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := b.key.seal(plain)
		if err != nil {
			t.Fatal(err)
		}
		put(t, path, sealed)
	})
}

func TestTamperingByOneWithoutTheKeyIsSeen(t *testing.T) {
	k := must(t)(newKey(bytes.Repeat([]byte{1}, keySize)))
	sealed, err := k.seal([]byte("document"))
	if err != nil {
		t.Fatal(err)
	}
	// The checksum is anybody's to make.
	twin := &key{aead: must(t)(newKey(bytes.Repeat([]byte{2}, keySize))).aead, id: k.id}
	forged, err := twin.seal([]byte("document"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.open(forged); !errors.Is(err, ErrTampered) {
		t.Errorf("a forged file: %v", err)
	}
	if plain, err := k.open(sealed); err != nil || string(plain) != "document" {
		t.Errorf("the file itself: %q, %v", plain, err)
	}
}

func TestManyAtOnceTakeOneKey(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			if b, err := Open(Options{Dir: dir}); err == nil {
				ids[i] = b.key.String()
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("the keys are %v", ids)
		}
	}
}

// TestInstancesShareAFolder has four save what they receive, each at its own
// pace: nobody's older document is left in the end, nor at any time in between.
func TestInstancesShareAFolder(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 4 {
		b := open(t, dir)
		wg.Go(func() {
			least := int64(0)
			for r := range int64(10) {
				revision := 1 + r*4 + int64(i)
				if err := b.Save(document(revision)); err != nil && !errors.Is(err, configuration.ErrOlder) {
					t.Error(err)
				}
				least = max(least, revision)
				doc, ps, err := b.Load()
				if err != nil || len(ps) > 0 {
					t.Errorf("in between: %v, %v", ps, err)
					return
				}
				if doc.Revision < least {
					t.Errorf("revision %d is there after %d was", doc.Revision, least)
				}
				least = doc.Revision
			}
		})
	}
	wg.Wait()
	loads(t, dir, 40, 0)
}

func TestAnInstanceThatLagsReplacesNothingNewer(t *testing.T) {
	dir := t.TempDir()
	at := time.Now().Add(-2 * time.Hour)
	signed := func(revision int64, after time.Duration) *configuration.Document {
		d := document(revision)
		d.Base = fmt.Sprintf("base-%d.example", revision)
		d.Signature = &configuration.Signature{Time: at.Add(after).Truncate(time.Second)}
		return d
	}
	ahead, lags := open(t, dir), open(t, dir)
	for _, d := range []*configuration.Document{signed(6, 0), signed(7, time.Minute)} {
		if err := ahead.Save(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := lags.Save(signed(5, -time.Minute)); !errors.Is(err, configuration.ErrOlder) || !strings.Contains(err.Error(), "revision 5") {
		t.Errorf("an older document is saved: %v", err)
	}
	loads(t, dir, 7, 0)
	if d, err := lags.read(previous); err != nil || d.Revision != 6 {
		t.Errorf("the previous is %v, %v", d, err)
	}
	// The newest is damaged: what counts is what would be loaded.
	put(t, filepath.Join(dir, newest), []byte("rubbish"))
	if err := lags.Save(signed(5, -time.Minute)); !errors.Is(err, configuration.ErrOlder) {
		t.Errorf("an older document than the previous is saved: %v", err)
	}
	// It has caught up; and a store that was put back counts on from before.
	for _, d := range []*configuration.Document{signed(7, time.Minute), signed(3, time.Hour)} {
		if err := lags.Save(d); err != nil {
			t.Fatal(err)
		}
		loads(t, dir, d.Revision, 0)
	}
	if err := ahead.Save(signed(8, 2*time.Minute)); !errors.Is(err, configuration.ErrOlder) {
		t.Errorf("a document from before the store was put back is saved: %v", err)
	}
	if err := ahead.Save(signed(3, time.Hour)); err != nil {
		t.Error(err)
	}
}

// TestWhoSavesIsAlone has a second instance save while the first is about to.
func TestWhoSavesIsAlone(t *testing.T) {
	dir := t.TempDir()
	first, second := open(t, dir), open(t, dir)
	second.lockWait = 0
	tried := false
	first.step = func(s string) error {
		if s == "synced" && !tried {
			tried = true
			if err := second.Save(document(9)); !errors.Is(err, errTaken) {
				t.Errorf("it saves in between: %v", err)
			}
		}
		return nil
	}
	save(t, first, 1)
	if !tried {
		t.Fatal("Save has no such step")
	}
	save(t, second, 9)
	loads(t, dir, 9, 0)
}

// TestAnInstanceThatSweepsTakesNothingFromAnother has it sweep while the other
// saves: the second name of an old file looks as if it had been left.
func TestAnInstanceThatSweepsTakesNothingFromAnother(t *testing.T) {
	dir := t.TempDir()
	b, other := open(t, dir), open(t, dir)
	save(t, b, 1)
	old := time.Now().Add(-2 * stale)
	if err := os.Chtimes(filepath.Join(dir, newest), old, old); err != nil {
		t.Fatal(err)
	}
	swept := 0
	b.step = func(s string) error {
		if s == "linked" && swept == 0 {
			other.sweep()
			swept++
		}
		return nil
	}
	save(t, b, 2)
	if swept == 0 {
		t.Fatal("nothing was swept")
	}
	loads(t, dir, 2, 0)
	if d, err := b.read(previous); err != nil || d.Revision != 1 {
		t.Errorf("the previous is %v, %v", d, err)
	}
}

// TestAKeyThatIsGoneIsNotMadeAnew fails where what was kept is lost for a key that
// somebody could have put back.
func TestAKeyThatIsGoneIsNotMadeAnew(t *testing.T) {
	for _, left := range []string{newest, previous} {
		dir := t.TempDir()
		save(t, open(t, dir), 1, 2)
		for _, name := range []string{newest, previous} {
			if name != left {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		path := filepath.Join(dir, keyFile)
		secret := get(t, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Options{Dir: dir, Check: mine})
		if !errors.Is(err, ErrKeyGone) || !strings.Contains(err.Error(), filepath.Join(dir, left)) || !strings.Contains(err.Error(), "put it back") {
			t.Errorf("%s left: %v", left, err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a key is made: %v", err)
		}
		if err := os.WriteFile(path, secret, 0o600); err != nil {
			t.Fatal(err)
		}
		if doc, _, err := open(t, dir).Load(); err != nil || doc == nil {
			t.Errorf("with the key put back: %v", err)
		}
		if err := errors.Join(os.Remove(path), os.Remove(filepath.Join(dir, left))); err != nil {
			t.Fatal(err)
		}
		save(t, open(t, dir), 3) // nothing is left to lose
	}
}

func TestAKeyIsGivenOrRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "k")
	for _, good := range []string{strings.Repeat("ab", 32) + "\n", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"} {
		put(t, file, []byte(good))
		if _, err := Open(Options{Dir: filepath.Join(dir, "b"), Key: file}); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "secret", strings.Repeat("ab", 31), "AAEC"} {
		put(t, file, []byte(bad))
		_, err := Open(Options{Dir: filepath.Join(dir, "b"), Key: file})
		if err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q as a key: %v", bad, err)
		}
	}
	if _, err := Open(Options{Dir: dir, Key: filepath.Join(dir, "missing")}); err == nil {
		t.Error("a key that was named and is missing is made")
	}
}

func FuzzOpen(f *testing.F) {
	k := must(f)(newKey(bytes.Repeat([]byte{1}, keySize)))
	sealed, err := k.seal([]byte("document"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, data []byte) {
		// Each fuzzing process seals anew, so that the seed of another opens too.
		if plain, err := k.open(data); err == nil && string(plain) != "document" {
			t.Errorf("%x opens as %q", data, plain)
		}
	})
}

func must(t testing.TB) func(*key, error) *key {
	return func(k *key, err error) *key {
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
}

func get(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
