// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package connect runs the conformance suite of Connect, gRPC and gRPC-Web
// through a Gateway: the suite's client calls the Gateway, and the Gateway the
// suite's server. README.md says how to run it.
package connect

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if program := os.Getenv(referenceEnv); program != "" {
		if err := serve(program); err != nil {
			fmt.Fprintln(os.Stderr, "the gateway under test:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestTheSuitePassesThroughAGateway runs every case there is. Not one is left
// out, and none is known to fail.
func TestTheSuitePassesThroughAGateway(t *testing.T) {
	if os.Getenv("POSTERN_CONNECT") == "" {
		t.Skip("SKIPPED: the Connect conformance suite has to be downloaded. Run it with make connect; nothing was proved about gRPC and Connect through a Gateway.")
	}
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "suite", "-o", dir+string(filepath.Separator),
		"connectrpc.com/conformance/cmd/connectconformance", "connectrpc.com/conformance/cmd/referenceclient", "connectrpc.com/conformance/cmd/referenceserver")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		cases int
		args  []string
	}{
		// The suite's two programs, with the features it takes for granted: HTTP/1.1
		// and HTTP/2, in clear and under TLS.
		{"default", 2776, []string{"--mode", "both", "--", filepath.Join(dir, "referenceclient"), "----", self}},
		// The same with all features, HTTP/3, client certificates and every compression
		// among them.
		{"everything", 10654, []string{"--mode", "both", "--conf", "everything.yaml", "--", filepath.Join(dir, "referenceclient"), "----", self}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "connectconformance"), tt.args...)
			cmd.Env = append(os.Environ(), referenceEnv+"="+filepath.Join(dir, "referenceserver"), "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true")
			cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
			out, err := cmd.CombinedOutput()
			text := string(out)
			want := fmt.Sprintf("Total cases: %d\n%d passed, 0 failed\n", tt.cases, tt.cases)
			if err != nil || !strings.HasSuffix(text, want) {
				t.Errorf("%v; the end is not %q\n%s", err, want, tail(text))
			}
		})
	}
}

// tail is the end of a long text.
func tail(s string) string {
	const most = 64 << 10
	if len(s) > most {
		return "...\n" + s[len(s)-most:]
	}
	return s
}
