// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package labs holds Postern against stock clients: WireGuard, curl, dig,
// nslookup, ping and openssl as Debian ships them, each in a network namespace
// of its own. What they see is compared with what postern explain says.
package labs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Must makes a missing tool or privilege a failure where it is 1; else the
// tests skip.
const must = "POSTERN_LAB"

// given names a postern command to hold against the clients in place of one
// that is built from this tree.
const given = "POSTERN_LAB_BINARY"

// role makes the test binary a web server in place of running tests, so that
// it can be one in another namespace.
const role = "POSTERN_LAB_SERVES"

func TestMain(m *testing.M) {
	if at := os.Getenv(role); at != "" {
		if err := serve(at); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if built.dir != "" {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// large is how much is carried where full packets matter.
const large = 8 << 20

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// serve answers HTTP at an address until its standard input ends.
func serve(at string) error {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	srv := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       patience,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				return // the caller sees a broken connection
			}
			if r.URL.Path == "/large" {
				w.Header().Set("Content-Length", strconv.Itoa(large))
				_, _ = io.CopyN(w, zeros{}, large) // the caller counts
				return
			}
			fmt.Fprintf(w, "%s was called by %s with %d bytes\n", at, r.RemoteAddr, n)
		}),
	}
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		if err := errors.Join(err, srv.Close()); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	fmt.Println("listening")
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// packages are where the tools come from, on Debian 12.
var packages = map[string]string{
	"ip": "iproute2", "ss": "iproute2", "wg": "wireguard-tools", "wg-quick": "wireguard-tools",
	"wireguard-go": "wireguard-go", "dig": "dnsutils", "nslookup": "dnsutils", "curl": "curl",
	"ping": "iputils-ping", "openssl": "openssl", "setpriv": "util-linux", "busybox": "busybox",
}

// needs skips the test where it cannot run, and says what is missing.
func needs(t *testing.T, tools ...string) {
	t.Helper()
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root, to make network namespaces")
	}
	if _, err := os.Stat("/dev/net/tun"); errors.Is(err, fs.ErrNotExist) {
		missing = append(missing, "/dev/net/tun")
	}
	for _, tool := range append(tools, "ip") {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool+" (package "+packages[tool]+")")
		}
	}
	if len(missing) == 0 {
		name := unique()
		if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
			missing = append(missing, "the right to make network namespaces: "+strings.TrimSpace(string(out)))
		} else if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			t.Fatalf("ip netns del %s: %v %s", name, err, out)
		}
	}
	if len(missing) == 0 {
		return
	}
	text := "the lab needs " + strings.Join(missing, "; ")
	if os.Getenv(must) == "1" {
		t.Fatal(text)
	}
	t.Skip("SKIPPED: Postern was NOT held against stock clients; " + text + " (" + must + "=1 makes this a failure)")
}

var built struct {
	once sync.Once
	dir  string
	err  error
}

// binary builds the postern command, once for all tests.
func binary(t *testing.T) string {
	t.Helper()
	if file := os.Getenv(given); file != "" {
		return file
	}
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "postern-lab-"); built.err != nil {
			return
		}
		// An unprivileged user runs it too.
		if built.err = os.Chmod(built.dir, 0o755); built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", filepath.Join(built.dir, "postern"), "postern.dev/postern/cmd/postern")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build the command: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "postern")
}
