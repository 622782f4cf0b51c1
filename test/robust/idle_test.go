// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package robust

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// restEnv makes this program the other end of idle connections: "ADDRESS COUNT
// SCHEME". They need files of a process of their own.
const restEnv = "POSTERN_ROBUST_REST"

// TestIdleConnectionsCostLittle measures what a connection costs that has had a
// request answered and waits for the next. The goal is 20 KiB, in clear; what is
// asserted leaves room for another Go and other machines.
func TestIdleConnectionsCostLittle(t *testing.T) {
	n := setting(t, "POSTERN_IDLE", 1000)
	for _, x := range []struct {
		scheme string
		bound  int64
	}{{"http", 20 << 10}, {"https", 64 << 10}} {
		t.Run(x.scheme, func(t *testing.T) {
			bs := newBackends(t, nil)
			snap, err := newCompiler(t, bs).generation(0)
			if err != nil {
				t.Fatal(err)
			}
			o := unhurried()
			o.Timeouts.Idle, o.Timeouts.Head = time.Hour, time.Hour
			g := open(t, snap, o)
			at := g.clear
			if x.scheme == "https" {
				at = g.secure
			}
			leave := rest(t, at, 10, x.scheme) // what is made once is not theirs
			before := measure()
			end := rest(t, at, n, x.scheme)
			now := measure()
			cost := (now.memory - before.memory) / int64(n)
			t.Logf("%s: %d idle connections cost %d bytes of heap and stack each (%s; %s)", x.scheme, n, cost, before, now)
			if open := g.Connections(); open < n {
				t.Errorf("%d connections are open of %d", open, n)
			}
			if cost > x.bound {
				t.Errorf("an idle connection costs %d bytes, more than %d", cost, x.bound)
			}
			end()
			leave()
			recovers(t, before, usage{memory: 8 << 20, goroutines: 20, files: 20})
		})
	}
}

// rest has another process open n connections and make a request on each. It
// returns when all are answered; end closes them.
func rest(t *testing.T, at string, n int, scheme string) (end func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", restEnv, at, n, scheme))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		_ = in.Close() // it ends then
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "open\n" {
		t.Fatalf("the other process said %q: %v", line, err)
	}
	return end
}

// resting is that other process.
func resting(what string) error {
	f := strings.Fields(what)
	n, err := strconv.Atoi(f[1])
	if err != nil {
		return err
	}
	ctx := context.Background()
	errs := make([]error, 8)
	conns := make([][]net.Conn, len(errs))
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() {
			for range (n + i) / len(errs) {
				var c net.Conn
				if f[2] == "https" {
					// Who it is that answers is not what is asked here.
					c, errs[i] = secured(ctx, f[0], &tls.Config{InsecureSkipVerify: true, ServerName: host})
				} else {
					c, errs[i] = dial(ctx, f[0])
				}
				if errs[i] == nil {
					errs[i] = once(c)
				}
				if errs[i] != nil {
					return
				}
				conns[i] = append(conns[i], c)
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Println("open")
	_, err = io.Copy(io.Discard, os.Stdin)
	for _, cs := range conns {
		for _, c := range cs {
			_ = c.Close() // it is over
		}
	}
	return err
}

// once makes a request on c.
func once(c net.Conn) error {
	if _, err := io.WriteString(c, "GET /turns/echo HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	_, _, err = read(res)
	if err == nil && (res.StatusCode != http.StatusOK || res.Close) {
		err = fmt.Errorf("status %d, close %v", res.StatusCode, res.Close)
	}
	return err
}
