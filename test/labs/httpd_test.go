// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package labs

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"
)

// million is how long the file large of a backend is.
const million = 1 << 20

// count tells who called and how much it was sent.
const count = `#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n%s sent %s bytes\n' "$REMOTE_ADDR" "$(wc -c)"
`

// httpd is Debian's busybox httpd: a backend that knows nothing of Postern. It
// has the files index.html and large, and counts what is sent to cgi-bin/count.
type httpd struct {
	*process
}

// httpd runs one at an address of the machine, and waits until it listens.
func (m *machine) httpd(at string) *httpd {
	m.t.Helper()
	root := filepath.Join(m.dir, "www")
	if err := os.MkdirAll(filepath.Join(root, "cgi-bin"), 0o755); err != nil {
		m.t.Fatal(err)
	}
	for name, text := range map[string]string{
		"index.html":    "the backend " + m.name + "\n",
		"large":         string(make([]byte, million)),
		"cgi-bin/count": count,
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			m.t.Fatal(err)
		}
	}
	cmd := m.command(context.Background(), "busybox", "httpd", "-f", "-v", "-p", at, "-h", root)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it forks for each call
	h := &httpd{m.start(cmd)}
	if !eventually(func() bool { return slices.Contains(m.sockets(), "tcp "+at) }) {
		m.t.Fatalf("httpd does not listen at %s: %s", at, h.stderr())
	}
	return h
}

var served = regexp.MustCompile(`(?m)^\[?([0-9a-f.:]+)\]?:[0-9]+: response:200$`)

// callers are the addresses that it answered, in order and each once.
func (h *httpd) callers(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, line := range served.FindAllStringSubmatch(h.stderr(), -1) {
		if !slices.Contains(out, line[1]) {
			out = append(out, line[1])
		}
	}
	return out
}
