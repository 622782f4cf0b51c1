// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package gateway

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestTheTimeOfAProcessIsRead(t *testing.T) {
	s, err := parseStat([]byte("42 (odd) name) S 7 42 42 0 -1 4194304 1 2 3 4 150 25 6 7 20 0 1 0 99 0 0"))
	if err != nil || s.parent != 7 || s.cpu != 1750*time.Millisecond {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := parseStat([]byte("42 (cut) S 7")); err == nil {
		t.Error("half a line is read as a whole one")
	}
}

func TestTheMemoryOfAProcessIsRead(t *testing.T) {
	n, err := parseRollup([]byte("00400000-7ff ---p 00000000 00:00 0 [rollup]\nRss:  900 kB\nPss:   500 kB\nPss_Dirty:  1 kB\n"))
	if err != nil || n != 500<<10 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestATreeHoldsTheChildren(t *testing.T) {
	p, err := start(t.TempDir(), "sh", "/bin/sh", "-c", "cat /dev/zero >/dev/null & wait")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = p.Await(t.Context(), func() error {
		u, err := p.Use()
		if err == nil && (u.CPU == 0 || u.Memory == 0) {
			err = os.ErrNotExist
		}
		return err
	})
	if err != nil {
		t.Error("the time of a child is not counted:", err)
	}
}

func TestEveryConfigurationIsWrittenForEveryTask(t *testing.T) {
	for _, name := range []string{"nginx.conf", "haproxy.cfg", "Caddyfile", "postern.yaml"} {
		for _, task := range []Task{{APIs: 1}, {APIs: 3, Keys: 2, Rate: 100}, {APIs: 1, TLS: true, HTTP2: true}} {
			task.Dir, task.Backend, task.Conns = t.TempDir(), "127.0.0.1:9", 100
			v, err := task.fill()
			if err != nil {
				t.Fatal(err)
			}
			file, err := task.configure(name, v)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), "9") || strings.Contains(string(text), "<no value>") {
				t.Errorf("%s for %+v:\n%s", name, task, text)
			}
			if task.Keys > 0 && len(v.Keys) != task.Keys+1 {
				t.Errorf("%d keys for %d and one to see the limit by", len(v.Keys), task.Keys)
			}
		}
	}
}
