// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestAnAPIKeyIsPrintedOnce(t *testing.T) {
	keys, err := filepath.Abs("../../examples/keys")
	if err != nil {
		t.Fatal(err)
	}
	sh := newShell(t)
	sh.ok("apply", "-f", keys)
	value := strings.TrimSpace(sh.ok("key", "create", "checkout", "--comment", "ci"))
	if !regexp.MustCompile(`^[A-Za-z0-9]{40}$`).MatchString(value) {
		t.Fatalf("the key is %q", value)
	}
	sh.file("moved", strings.Repeat("abc123", 5)+"\n")
	if out := sh.ok("key", "create", "checkout", "--value-from", "moved"); strings.TrimSpace(out) != strings.Repeat("abc123", 5) {
		t.Errorf("a key of one's own: %q", out)
	}
	sh.fails([]string{"key", "create", "checkout", "--value-from", "moved"}, "issued already")
	sh.fails([]string{"key", "create", "checkout", "--value-from", sh.file("empty", "\n")}, "holds no key")
	sh.fails([]string{"key", "create", "nobody"}, "Subscription/nobody", "does not exist")
	list := sh.ok("key", "list")
	if strings.Count(list, "pets-basic") != 2 || !strings.Contains(list, "the checkout team") || strings.Contains(list, value) {
		t.Errorf("list: %s", list)
	}
	if out := sh.ok("get", "subscriptions"); !regexp.MustCompile(`checkout +.*pets-basic +the checkout team +2`).MatchString(out) {
		t.Errorf("subscriptions: %s", out)
	}
	if out := sh.ok("get", "products"); !regexp.MustCompile(`pets +10/s +10000/day`).MatchString(out) {
		t.Errorf("products: %s", out)
	}
	for _, args := range [][]string{{"get", "all", "-o", "yaml"}, {"describe", "subscription/checkout"}, {"describe", "gateway/main"}} {
		if out := sh.ok(args...); regexp.MustCompile(`[0-9a-f]{64}`).MatchString(out) || strings.Contains(out, value) {
			t.Errorf("%v shows a secret: %s", args, out)
		}
	}
	id := strings.Fields(strings.Split(list, "\n")[1])[0]
	sh.ok("key", "create", "checkout", "--comment", "of\tours,\nnot theirs")
	if two := sh.ok("key", "list"); strings.Count(two, "\n") != strings.Count(list, "\n")+1 || !strings.Contains(two, "of ours, not theirs") {
		t.Errorf("a comment is more than a cell: %s", two)
	}
	sh.ok("key", "revoke", strings.Fields(regexp.MustCompile(`(?m)^.*not theirs`).FindString(sh.ok("key", "list")))[0])
	// Both keys, with what they may; nothing counts here what they do.
	out := sh.ok("describe", "subscription/checkout")
	if n := len(regexp.MustCompile(`(?m)^  key \w+( \(ci\))?: 10000 requests a day, until 2\S+T00:00:00Z; 10 requests a second, 20 at once$`).FindAllString(out, -1)); n != 2 {
		t.Errorf("describe: %s", out)
	}
	if !strings.Contains(list, "10000 requests a day") {
		t.Errorf("list: %s", list)
	}
	sh.ok("key", "revoke", id)
	sh.fails([]string{"key", "revoke", id}, id, "no key")
	if list := sh.ok("key", "list"); strings.Contains(list, id) {
		t.Errorf("list: %s", list)
	}
	if out := sh.ok("__complete", "key", "create", ""); !strings.Contains(out, "checkout") {
		t.Errorf("completion: %s", out)
	}
}

func TestABackupBringsNoKeys(t *testing.T) {
	keys, err := filepath.Abs("../../examples/keys")
	if err != nil {
		t.Fatal(err)
	}
	sh := newShell(t)
	sh.ok("apply", "-f", keys)
	sh.ok("key", "create", "checkout")
	backup := sh.file("backup.yaml", sh.ok("get", "all", "-o", "yaml"))
	if out := sh.ok("apply", "-f", backup); strings.Contains(out, "configured") {
		t.Errorf("a backup changes what it was made of: %s", out)
	}
	if list := sh.ok("key", "list"); !strings.Contains(list, "checkout") {
		t.Errorf("the key is gone: %s", list)
	}
	backup = filepath.Join(sh.folder, backup)
	newShell(t).ok("apply", "-f", backup)
}
