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
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// enoughAnswers is how many answers the corpus must have at the least.
const enoughAnswers = 300

// sentinel is asked for after each answer of the corpus, on the same connection
// where there still is one.
const sentinel = "the answer that was asked for"

// understood is an answer as somebody read it.
type understood struct {
	Status int
	Fields []string // in lower case, "name: value"
	Body   []byte
	Err    string // why it was not whole
}

func (u *understood) String() string {
	return fmt.Sprintf("%d, %d bytes %q, %q, %s", u.Status, len(u.Body), short(u.Body), u.Fields, u.Err)
}

// raw is a backend that answers with the bytes of the corpus, whatever they are.
func raw(t *testing.T, all []sample) (at string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	closed := false
	wait.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // it was closed
			}
			mu.Lock()
			open[c] = true
			if closed {
				c.Close()
			}
			mu.Unlock()
			wait.Go(func() {
				defer func() {
					c.Close()
					mu.Lock()
					delete(open, c)
					mu.Unlock()
				}()
				in := bufio.NewReader(c)
				for {
					q, err := http.ReadRequest(in)
					if err != nil {
						return // the Gateway has enough
					}
					n, err := strconv.Atoi(q.URL.Query().Get("n"))
					b, stay := []byte(ok("Content-Length: "+strconv.Itoa(len(sentinel))+"\r\n", sentinel)), true
					if err == nil {
						b, stay = []byte(all[n].bytes), strings.HasSuffix(all[n].name, stays)
					}
					if _, err := c.Write(b); err != nil || !stay {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		closed = true
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wait.Wait()
	})
	return ln.Addr().String()
}

// question is one that a client asks.
type question struct {
	Method string
	URL    string
}

// questions asks for each answer of the corpus, and for the sentinel behind it.
func questions(all []sample, at string) (out []question) {
	for i, s := range all {
		method := "GET"
		if strings.HasPrefix(s.name, headClass+"/") {
			method = "HEAD"
		}
		out = append(out, question{method, fmt.Sprintf("http://%s/answer?n=%d", at, i)}, question{"GET", "http://" + at + "/sentinel"})
	}
	return out
}

// A client asks questions of a Gateway, in order, and says what it understood of
// the answers.
type client func(t *testing.T, at string, qs func(at string) []question) []understood

var clients = []struct {
	name string
	ask  client
}{
	{"net/http", askGo},
	{"node", askNode},
	{"curl", askCurl},
	{"nginx", askNginx},
	{"haproxy", askHAProxy},
}

// TestNoClientReadsAnAnswerThatWasNotMeant holds what each client understood
// against what the Gateway meant, for every answer of the corpus.
func TestNoClientReadsAnAnswerThatWasNotMeant(t *testing.T) {
	all := answers(t)
	for _, cl := range clients {
		for _, w := range wires {
			t.Run(cl.name+"/"+w.name, func(t *testing.T) {
				t.Parallel()
				l := open(t, w, raw(t, all))
				bodies := reference(t, l, all)
				got := cl.ask(t, l.at, func(at string) []question { return questions(all, at) })
				if err := l.engine.Close(); err != nil {
					t.Error(err)
				}
				compare(t, cl.name, all, bodies, got, l.take())
			})
		}
	}
}

// compare compares what a client understood with what was meant.
func compare(t *testing.T, client string, all []sample, bodies [][]byte, got []understood, meant []*meaning) {
	t.Helper()
	if len(got) != 2*len(all) || len(meant) != len(got) {
		t.Fatalf("%s understood %d answers, the Gateway meant %d, where there are %d", client, len(got), len(meant), 2*len(all))
	}
	var lines []string
	passed := 0
	for i := range got {
		s, u, m := all[i/2], &got[i], meant[i]
		if i%2 == 1 {
			if u.Status != 200 || string(u.Body) != sentinel || u.Err != "" {
				t.Errorf("%s: what %s reads behind it is %s", s.name, client, u)
			}
			continue
		}
		line := fmt.Sprintf("%s %d %d", s.name, m.status, m.sent)
		if m.failure != nil {
			line = s.name + " refused" // as a whole, or when a part was out: that depends on what came together
		}
		lines = append(lines, line)
		if m.status == 200 && m.failure == nil {
			passed++
		}
		if why := misread(m, bodies[i/2], u); why != "" && !mayReject(client, m, u) {
			t.Errorf("%s: %s; %s read\n\t%s\nwhere the Gateway meant\n\t%d, %d bytes, %q, %v", s.name, why, client, u, m.status, m.sent, m.answered, m.failure)
		}
	}
	if passed < 100 {
		t.Errorf("only %d answers were passed on: nothing is proved", passed)
	}
	t.Logf("%d answers, %d passed on whole with 200", len(all), passed)
	golden(t, "answers.txt", client, lines)
}

// reference reads what the Gateway writes for each answer of the corpus, by its
// letter: the Gateway has one form of each thing. It returns the bodies.
func reference(t *testing.T, l *lab, all []sample) [][]byte {
	t.Helper()
	out := make([][]byte, len(all))
	for i, q := range questions(all, "") {
		if i%2 == 1 {
			continue
		}
		s := all[i/2].name
		back, meant, err := l.send(fmt.Appendf(nil, "%s /answer?n=%d HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", q.Method, i/2, name))
		if err != nil || len(meant) != 1 {
			t.Fatalf("%s: %v, %d exchanges", s, err, len(meant))
		}
		m := meant[0]
		status, body, whole := letter(back, q.Method)
		if whole == broken(m) || status != m.status || whole && int64(len(body)) != m.sent {
			t.Errorf("%s: the Gateway writes\n\t%q\nwhere it means %d, %d bytes, %v", s, short(back), m.status, m.sent, m.failure)
		}
		out[i/2] = body
	}
	return out
}

// letter reads one answer, and nothing behind it, in the form that the Gateway
// gives it.
func letter(b []byte, method string) (status int, body []byte, whole bool) {
	head, rest, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok || len(head) < 12 || string(head[:9]) != "HTTP/1.1 " {
		return 0, nil, false
	}
	status, err := strconv.Atoi(string(head[9:12]))
	if err != nil {
		return 0, nil, false
	}
	if status < 200 {
		return letter(rest, method)
	}
	if method == "HEAD" || status == 204 || status == 304 {
		return status, nil, len(rest) == 0
	}
	for _, f := range strings.Split(string(head), "\r\n")[1:] {
		if v, ok := strings.CutPrefix(f, "Content-Length: "); ok {
			n, err := strconv.Atoi(v)
			return status, rest, err == nil && n == len(rest)
		}
	}
	if !bytes.Contains(head, []byte("\r\nTransfer-Encoding: chunked")) {
		return status, rest, false
	}
	for {
		line, data, ok := bytes.Cut(rest, []byte("\r\n"))
		n, err := strconv.ParseUint(string(line), 16, 31)
		if !ok || err != nil {
			return status, body, false
		}
		if n == 0 { // nobody has asked for trailers
			return status, body, string(data) == "\r\n"
		}
		if len(data) < int(n)+2 || string(data[n:n+2]) != "\r\n" {
			return status, body, false
		}
		body, rest = append(body, data[:n]...), data[n+2:]
	}
}

// broken reports whether a part of an answer was sent, and not the whole. What the
// Gateway answers in place of an answer that it cannot read is whole.
func broken(m *meaning) bool {
	return m.failure != nil && !slices.ContainsFunc(m.answered, func(f string) bool { return strings.HasPrefix(f, "x-amzn-errortype:") })
}

// misread says in what an answer was not read as it was meant.
func misread(m *meaning, body []byte, u *understood) string {
	switch {
	case broken(m) && u.Err == "":
		return "the part for the whole"
	case broken(m):
		return ""
	case u.Err != "":
		return "an error"
	case u.Status != m.status:
		return "another status"
	case int64(len(u.Body)) != m.sent:
		return "another length"
	case m.failure == nil && !bytes.Equal(u.Body, body):
		return "another body"
	}
	for _, f := range u.Fields {
		n, _, _ := strings.Cut(f, ":")
		if !slices.Contains(m.answered, f) && !slices.Contains(framing, n) {
			return fmt.Sprintf("a field more, %q,", f)
		}
	}
	return ""
}

// mayReject reports whether a proxy in front answers by itself in place of what
// the Gateway said, with a reason to.
func mayReject(client string, m *meaning, u *understood) bool {
	long := func(f string) bool { return strings.IndexByte(f, ':') > 255 }
	return client == "haproxy" && u.Status == 502 && slices.ContainsFunc(m.answered, long) // it takes no longer name of a field
}

// framing are the fields that each hop makes for itself.
var framing = []string{"date", "connection", "keep-alive", "transfer-encoding", "content-length", "server"}

func askGo(t *testing.T, at string, qs func(string) []question) []understood {
	tr := &http.Transport{MaxConnsPerHost: 1, DisableCompression: true, MaxResponseHeaderBytes: 1 << 20}
	defer tr.CloseIdleConnections()
	c := &http.Client{
		Transport: tr, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var out []understood
	for _, q := range qs(at) {
		out = append(out, ask(t, c, q))
	}
	return out
}

func ask(t *testing.T, c *http.Client, q question) (u understood) {
	r, err := http.NewRequestWithContext(t.Context(), q.Method, q.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = name
	res, err := c.Do(r)
	if err != nil {
		return understood{Err: err.Error()}
	}
	defer res.Body.Close()
	u.Status = res.StatusCode
	for n, vs := range res.Header {
		for _, v := range vs {
			u.Fields = append(u.Fields, strings.ToLower(n)+": "+v)
		}
	}
	if u.Body, err = io.ReadAll(res.Body); err != nil {
		u.Err = err.Error()
	}
	return u
}

func askNode(t *testing.T, at string, qs func(string) []question) []understood {
	path, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node")
	}
	in, err := json.Marshal(qs(at))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "testdata/client.js")
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var out []understood
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	for i := range out {
		for j, f := range out[i].Fields {
			out[i].Fields[j] = latin(f)
		}
	}
	return out
}

// latin is text of which each character stands for a byte.
func latin(s string) string {
	b := make([]byte, 0, len(s))
	for _, c := range s {
		b = append(b, byte(c))
	}
	return string(b)
}

// askCurl does not say which fields it read.
func askCurl(t *testing.T, at string, qs func(string) []question) []understood {
	path, err := exec.LookPath("curl")
	if err != nil {
		missing(t, "curl")
	}
	dir := t.TempDir()
	var config strings.Builder
	all := qs(at)
	for i, q := range all {
		if i > 0 {
			config.WriteString("next\n")
		}
		fmt.Fprintf(&config, "url = \"%s\"\noutput = \"%s\"\nheader = \"Host: %s\"\nsilent\nhttp1.1\nmax-time = 60\nwrite-out = \"%d %%{http_code} %%{exitcode}\\n\"\n", q.URL, filepath.Join(dir, strconv.Itoa(i)), name, i)
		if q.Method == "HEAD" {
			config.WriteString("head\n")
		}
	}
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "-q", "-K", file)
	b, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // it ends as its last transfer did
		t.Fatal(err)
	}
	out := make([]understood, len(all))
	n := 0
	for line := range strings.Lines(string(b)) {
		var i, status, code int
		if _, err := fmt.Sscanf(line, "%d %d %d", &i, &status, &code); err != nil || i != n {
			t.Fatalf("curl says %q", line)
		}
		n++
		u := &out[i]
		u.Status = status
		if code != 0 {
			u.Err = fmt.Sprintf("curl's error %d", code)
		}
		if all[i].Method == "HEAD" {
			continue // the output is the head
		}
		if u.Body, err = os.ReadFile(filepath.Join(dir, strconv.Itoa(i))); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return out[:n]
}

// askNginx asks through nginx, which reads the Gateway's answers.
func askNginx(t *testing.T, at string, qs func(string) []question) []understood {
	path, err := exec.LookPath("nginx")
	if err != nil {
		missing(t, "nginx")
	}
	socket, front := inherited(t)
	file := configure(t, "nginx-front.conf", "@AT@", front, "@TO@", at)
	dir := filepath.Dir(file)
	process(t, func(string) {}, socket, path, "-p", dir, "-c", file, "-e", filepath.Join(dir, "error.log"))
	return askGo(t, front, qs)
}

// askHAProxy asks through HAProxy.
func askHAProxy(t *testing.T, at string, qs func(string) []question) []understood {
	path, err := exec.LookPath("haproxy")
	if err != nil {
		missing(t, "haproxy")
	}
	socket, front := inherited(t)
	file := configure(t, "haproxy-front.cfg", "@AT@", "fd@3", "@TO@", at)
	process(t, func(string) {}, socket, path, "-db", "-f", file)
	return askGo(t, front, qs)
}
