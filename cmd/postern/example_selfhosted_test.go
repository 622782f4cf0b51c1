// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stepsOf are the commands of a document, as they stand there.
func stepsOf(text string) string {
	var b strings.Builder
	on := false
	for line := range strings.Lines(text) {
		switch strings.TrimSpace(line) {
		case "```sh":
			on = true
		case "```":
			on = false
		default:
			if on {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

// around goes before the steps of the example: its ports are whichever are free,
// and the functions tell which. What is started ends with the script.
const around = `
set -m
exec >"$OUT" 2>&1
trap 'kill $(jobs -p); wait' EXIT
trap 'exit 1' TERM
management() { sed -n 's|^address: *"*https://\([0-9.:]*\).*|\1|p' postern-data/client.yaml; }
plain() { sed -n 's/.*\[GatewayStartup\].* http: \([0-9.:]*\).*/\1/p' "$OUT" | tail -n 1; }
`

// TestTheExampleOfASelfHostedGateway plays the README of the example with real
// processes. Of its commands the ports are others, and the program is this one.
func TestTheExampleOfASelfHostedGateway(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "sed"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the example is played by %s, which is not installed", tool)
		}
	}
	folder := filepath.Join("..", "..", "examples", "self-hosted")
	text, err := os.ReadFile(filepath.Join(folder, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	steps := around + stepsOf(string(text))
	f := func(of, with string) {
		t.Helper()
		if !strings.Contains(steps, of) {
			t.Errorf("the example lacks %q", of)
		}
		steps = strings.ReplaceAll(steps, of, with)
	}
	f("go build -o bin/postern ./cmd/postern\n", "")
	f("go run ./cmd/postern gateway ", "postern gateway --net.server.http.address 127.0.0.1:0 --net.server.https.address 127.0.0.1:0 ")
	f("postern server ", "postern server --management 127.0.0.1:0 ")
	f("127.0.0.1:3443", "$(management)")
	f("localhost:8080", "$(plain)")
	if strings.Contains(steps, "go run") || strings.Contains(steps, ":808") {
		t.Fatalf("the steps are others than expected:\n%s", steps)
	}

	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := filepath.Abs(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"bin", "examples"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{self: "bin/postern", manifests: "examples/self-hosted"} {
		if err := os.Symlink(from, filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "bash", "-c", steps)
	c.Dir = dir
	c.Env = append(os.Environ(), "OUT="+out, "HOME="+dir, "XDG_CONFIG_HOME="+dir, "POSTERN_CONFIG=", "http_proxy=", "HTTP_PROXY=", "https_proxy=", "HTTPS_PROXY=", "ALL_PROXY=", "all_proxy=")
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 30 * time.Second
	failed := c.Run()
	said, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if failed != nil {
		t.Fatalf("%v:\n%s", failed, said)
	}
	const dog = `{"id":1,"type":"dog","price":249.99}` + "\n"
	for text, n := range map[string]int{dog: 3, `{"message":"Forbidden"}` + "\n": 1, "ready\n": 2} {
		if got := bytes.Count(said, []byte(text)); got != n {
			t.Errorf("%q is answered %d times, want %d", text, got, n)
		}
	}
	for _, text := range []string{"[ConfigConnected], protocol: v2", "[ConfigLoadedFromBackup]", "next: postern config ca > ca.pem; postern gateway --settings gateway.env --config.backup.path backup\n"} {
		if !bytes.Contains(said, []byte(text)) {
			t.Errorf("nothing says %q", text)
		}
	}
	if t.Failed() {
		t.Logf("%s", said)
	}
}
