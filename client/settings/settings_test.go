// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.dev/postern/model"
)

var some = Settings{
	Address: "https://127.0.0.1:3443",
	CA:      "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
	Token:   model.NewSecret("postern_0011223344556677_hush"),
}

func write(t *testing.T, path string, s Settings) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, s); err != nil {
		t.Fatal(err)
	}
}

func TestSettingsAreReadAsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	for range 2 { // the second replaces
		write(t, path, some)
	}
	got, err := Load(path)
	if err != nil || got != some {
		t.Errorf("%+v, %v", got, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".client-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if shown := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(shown, "hush") {
		t.Errorf("the token shows: %s", shown)
	}
}

func TestSettingsAreLookedForInOrder(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "user"))
	t.Setenv(Variable, "")
	at := func(path, explicit string) {
		t.Helper()
		s, from, err := Discover(explicit)
		if err != nil || from != path || s.Address != "https://"+filepath.Base(filepath.Dir(path))+":1" {
			t.Errorf("got %s (%s), %v; want %s", from, s.Address, err, path)
		}
	}
	if _, _, err := Discover(""); err == nil || !strings.Contains(err.Error(), "postern server") {
		t.Errorf("with none: %v", err)
	}
	put := func(path string) string {
		write(t, path, Settings{Address: "https://" + filepath.Base(filepath.Dir(path)) + ":1"})
		return path
	}
	user := put(filepath.Join(dir, "user", "postern", FileName))
	at(user, "")
	here := put(filepath.Join("postern-data", FileName))
	at(here, "")
	env := put(filepath.Join(dir, "env", FileName))
	t.Setenv(Variable, env)
	at(env, "")
	flag := put(filepath.Join(dir, "flag", FileName))
	at(flag, flag)
	// What was named must be there: nothing else is meant.
	if _, _, err := Discover(filepath.Join(dir, "absent")); err == nil {
		t.Error("settings that were named and are absent: others were taken")
	}
}

func TestBrokenSettingsDoNotShowTheirToken(t *testing.T) {
	for _, text := range []string{"token: postern_hush\n\taddress", "token: postern_hush\n", "tokn: postern_hush\n", "[postern_hush"} {
		path := filepath.Join(t.TempDir(), FileName)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
