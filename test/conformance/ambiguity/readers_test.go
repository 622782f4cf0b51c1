// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package ambiguity

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// recordField tells which record a reader has made of a request.
const recordField = "X-Record"

// record is a request as a reader understood it.
type record struct {
	ID     string
	number int // in the order of reading
	Method string
	Target string
	Host   string
	// Length is the value of Content-Length, Coding that of Transfer-Encoding, as
	// far as the reader shows them.
	Length, Coding string
	Fields         []string // in lower case, "name: value"
	Latin          []string // as Fields, each byte a character
	Body           []byte
}

// reader is a backend that tells what it understands.
type reader struct {
	name string
	at   string

	mu      sync.Mutex
	records map[string]*record
	refused []string // what it turned away by itself, in its own words
	// settle waits until refused is complete. The Gateway has closed its
	// connections.
	settle func() error
}

func (r *reader) add(rec *record) {
	for _, f := range rec.Latin {
		b := make([]byte, 0, len(f))
		for _, c := range f {
			b = append(b, byte(c))
		}
		rec.Fields = append(rec.Fields, string(b))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec.number = len(r.records) + 1
	if rec.ID == "" {
		rec.ID = r.name + "-" + strconv.Itoa(rec.number)
	}
	r.records[rec.ID] = rec
}

func (r *reader) refuse(words string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = append(r.refused, words)
}

// readers make the four of them.
var readers = []struct {
	name string
	open func(t *testing.T) *reader
}{
	{"net/http", openGo},
	{"node", openNode},
	{"nginx", openNginx},
	{"haproxy", openHAProxy},
}

// openGo reads with net/http.
func openGo(t *testing.T) *reader {
	r := &reader{name: "go", records: map[string]*record{}, settle: func() error { return nil }}
	r.at = serveGo(t, r, func(q *http.Request, rec *record) {
		rec.Method, rec.Target, rec.Host = q.Method, q.RequestURI, q.Host
		if q.ContentLength >= 0 && q.Header.Get("Content-Length") != "" {
			rec.Length = strconv.FormatInt(q.ContentLength, 10)
		}
		rec.Coding = strings.Join(q.TransferEncoding, ", ")
	})
	return r
}

// serveGo serves with net/http and records what see makes of each request.
func serveGo(t *testing.T, r *reader, see func(*http.Request, *record)) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		DisableGeneralOptionsHandler: true,
		MaxHeaderBytes:               1 << 20,
		ErrorLog:                     log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			body, err := io.ReadAll(q.Body)
			if err != nil {
				panic(http.ErrAbortHandler) // it was never all there
			}
			rec := &record{Body: body}
			see(q, rec)
			for n, vs := range q.Header {
				for _, v := range vs {
					rec.Fields = append(rec.Fields, strings.ToLower(n)+": "+v)
				}
			}
			r.add(rec)
			w.Header().Set(recordField, rec.ID)
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, "read") // else the Gateway sees it
		}),
	}
	var wait sync.WaitGroup
	wait.Go(func() { _ = s.Serve(watched{ln, r}) })
	t.Cleanup(func() {
		_ = s.Close()
		wait.Wait()
	})
	return ln.Addr().String()
}

// watched notes the answers of net/http that are not its handler's.
type watched struct {
	net.Listener
	r *reader
}

// Accept accepts a connection.
func (w watched) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watchedConn{c, w.r}, nil
}

type watchedConn struct {
	net.Conn
	r *reader
}

// Write writes to the connection.
func (c *watchedConn) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("HTTP/1.")) && !bytes.Contains(p, []byte(recordField)) {
		first, _, _ := bytes.Cut(p, []byte("\r\n"))
		c.r.refuse(string(first))
	}
	return c.Conn.Write(p)
}

// openBehind reads with a proxy that tells a net/http server what it saw in
// fields of its own and in the body.
func openBehind(t *testing.T, r *reader) (at string) {
	return serveGo(t, r, func(q *http.Request, rec *record) {
		seen := func(name string) string {
			v := q.Header.Get("X-Seen-" + name)
			q.Header.Del("X-Seen-" + name)
			return v
		}
		rec.Method, rec.Target, rec.Host = seen("Method"), seen("Target"), seen("Host")
		rec.Length, rec.Coding = seen("Length"), seen("Coding")
	})
}

// process starts a program, with a socket as its fourth file if there is one, and
// has it ended with the test. Its lines go to each.
func process(t *testing.T, each func(line string), socket *os.File, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	if socket != nil {
		defer socket.Close()
		cmd.ExtraFiles = []*os.File{socket}
		cmd.Env = append(os.Environ(), "NGINX=3;") // this is how nginx hears of it
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		in := bufio.NewScanner(out)
		in.Buffer(nil, 16<<20)
		for in.Scan() {
			each(in.Text())
		}
	})
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may be gone, which Wait says
		wait.Wait()
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Error(err)
		}
		if t.Failed() && said.Len() > 0 {
			t.Logf("%s said:\n%s", name, said.String())
		}
	})
}

func openNode(t *testing.T) *reader {
	path, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node")
	}
	r := &reader{name: "node", records: map[string]*record{}}
	at, settled := make(chan string, 1), make(chan struct{}, 1)
	process(t, func(line string) {
		var m struct {
			Listening string
			Refused   string
			Settled   bool
			Record    *record
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			r.refuse("not JSON: " + line)
			return
		}
		switch {
		case m.Listening != "":
			at <- m.Listening
		case m.Settled:
			settled <- struct{}{}
		case m.Refused != "":
			r.refuse(m.Refused)
		case m.Record != nil:
			r.add(m.Record)
		}
	}, nil, path, "testdata/reader.js")
	select {
	case r.at = <-at:
	case <-time.After(patience):
		t.Fatal("node does not start")
	}
	r.settle = func() error {
		res, err := http.Get("http://" + r.at + "/settle")
		if err != nil {
			return err
		}
		defer http.DefaultClient.CloseIdleConnections()
		if err := res.Body.Close(); err != nil {
			return err
		}
		select {
		case <-settled:
			return nil
		case <-time.After(patience):
			return errors.New("node does not settle")
		}
	}
	return r
}

// inherited is a socket that listens already, for a program to take over: its
// port is nobody else's at any time, and what comes too early waits.
func inherited(t *testing.T) (f *os.File, at string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if f, err = ln.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	return f, ln.Addr().String()
}

// configure writes a program's configuration.
func configure(t *testing.T, file string, values ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), file)
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // else the workers could not write to our folder
	}
	text := strings.NewReplacer(append(values, "@DIR@", filepath.Dir(to), "@USER@", user)...).Replace(string(b))
	if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

func openNginx(t *testing.T) *reader {
	path, err := exec.LookPath("nginx")
	if err != nil {
		missing(t, "nginx")
	}
	r := &reader{name: "nginx", records: map[string]*record{}}
	socket, at := inherited(t)
	r.at = at
	file := configure(t, "nginx-reader.conf", "@AT@", r.at, "@TO@", openBehind(t, r))
	dir := filepath.Dir(file)
	process(t, func(string) {}, socket, path, "-p", dir, "-c", file, "-e", filepath.Join(dir, "error.log"))
	r.settle = func() error {
		b, err := os.ReadFile(filepath.Join(dir, "access.log"))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "- ") {
				r.refuse(strings.TrimSpace(line))
			}
		}
		return nil
	}
	return r
}

func openHAProxy(t *testing.T) *reader {
	path, err := exec.LookPath("haproxy")
	if err != nil {
		missing(t, "haproxy")
	}
	r := &reader{name: "haproxy", records: map[string]*record{}}
	socket, at := inherited(t)
	r.at = at
	file := configure(t, "haproxy-reader.cfg", "@AT@", "fd@3", "@TO@", openBehind(t, r))
	var mu sync.Mutex
	var lines []string
	process(t, func(line string) {
		mu.Lock()
		lines = append(lines, line)
		mu.Unlock()
	}, socket, path, "-db", "-f", file)
	r.settle = func() error {
		mu.Lock()
		defer mu.Unlock()
		for _, line := range lines {
			if strings.HasPrefix(line, "- ") && !strings.HasPrefix(line, "- C") { // C: the Gateway went away
				r.refuse(line)
			}
		}
		return nil
	}
	return r
}

func (r *record) String() string {
	return fmt.Sprintf("%s: %s %q for %q, length %q, coding %q, body %q", r.ID, r.Method, r.Target, r.Host, r.Length, r.Coding, short(r.Body))
}

// short is the begin of bytes.
func short(b []byte) []byte { return b[:min(len(b), 400)] }
