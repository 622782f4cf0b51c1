// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package ambiguity

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/decide/request"
)

var update = flag.Bool("update", false, "write the golden files anew")

// enough is how many requests the corpus must have at the least.
const enough = 1000

func TestTheCorpusIsLargeEnough(t *testing.T) {
	rs := requests(t)
	names := map[string]bool{}
	for _, s := range rs {
		if names[s.name] {
			t.Errorf("two samples are called %s", s.name)
		}
		names[s.name] = true
	}
	if len(rs) < enough {
		t.Errorf("%d requests, want %d", len(rs), enough)
	}
	if as := answers(t); len(as) < enoughAnswers {
		t.Errorf("%d answers, want %d", len(as), enoughAnswers)
	}
	t.Logf("%d requests, %d answers", len(rs), len(answers(t)))
}

// TestNoBackendSeesARequestThatWasNotMeant holds what each reader understood
// against what the Gateway meant, for every request of the corpus.
func TestNoBackendSeesARequestThatWasNotMeant(t *testing.T) {
	all := requests(t)
	for _, rd := range readers {
		for _, w := range wires {
			t.Run(rd.name+"/"+w.name, func(t *testing.T) {
				t.Parallel()
				r := rd.open(t)
				l := open(t, w, r.at)
				var lines []string
				j := judge{t: t, r: r, host: r.at, linked: map[string]string{}}
				for _, s := range all {
					back, meant, err := l.send([]byte(s.bytes))
					if err != nil {
						t.Fatalf("%s: %v", s.name, err)
					}
					j.samples = append(j.samples, judged{s.name, meant})
					got := statuses(back)
					if n := len(got) - len(meant); n != 0 && n != 1 && !cut(meant) {
						t.Errorf("%s: %d answers to %d requests\n%q", s.name, len(got), len(meant), short(back))
					}
					lines = append(lines, s.name+" "+told(back, meant))
				}
				if err := l.engine.Close(); err != nil { // the reader sees every end
					t.Error(err)
				}
				j.finish()
				golden(t, "requests.txt", rd.name, lines)
			})
		}
	}
}

// cut reports whether an exchange ended without an answer.
func cut(meant []*meaning) bool {
	return slices.ContainsFunc(meant, func(m *meaning) bool { return m.failure != nil })
}

// told is what became of a sample, for the golden file: each request that was
// let through, and the status of one that the Gateway turned away.
func told(back []byte, meant []*meaning) string {
	var words []string
	for _, m := range meant {
		w := m.method
		if m.method == "" {
			w = "?"
		}
		if m.code == "" || m.record == "" {
			w += "=" + fmt.Sprint(m.status)
		}
		words = append(words, w)
	}
	if got := statuses(back); len(got) > len(meant) {
		words = append(words, got[len(got)-1])
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, " ")
}

// judge compares a reader with the Gateway.
type judge struct {
	t       *testing.T
	r       *reader
	host    string
	samples []judged
	linked  map[string]string // record: sample
	// turned are the requests that the reader turned away by itself, and broken
	// those of which it may have seen a part.
	turned, broken []*meaning
	last           int
}

// judged is what was meant by one sample.
type judged struct {
	sample string
	meant  []*meaning
}

// link holds one request against what the reader made of it. The caller holds
// the lock of the reader.
func (j *judge) link(sample string, m *meaning) {
	j.t.Helper()
	if m.record == "" {
		switch {
		case m.failure != nil || !m.whole:
			j.broken = append(j.broken, m)
		case strings.HasPrefix(m.code, "backend/") && m.code != request.CodeBackendOK:
			j.t.Errorf("%s: %s: %s does not answer %s %q %q", sample, m.code, j.r.name, m.method, m.target, m.fields)
		case forwarded(m):
			j.turned = append(j.turned, m)
			if why := mayTurnAway(j.r.name, m); why == "" {
				j.t.Errorf("%s: %s answers %d by itself to %s %q %q", sample, j.r.name, m.status, m.method, m.target, m.fields)
			}
		}
		return
	}
	rec := j.r.records[m.record]
	if rec == nil {
		j.t.Errorf("%s: %s %s is answered by record %s, which there is not", sample, m.method, m.target, m.record)
		return
	}
	if by, again := j.linked[m.record]; again {
		j.t.Errorf("%s: record %s answers this and %s", sample, m.record, by)
	}
	j.linked[m.record] = sample
	if rec.number <= j.last {
		j.t.Errorf("%s: %s read %s out of turn", sample, j.r.name, rec)
	}
	j.last = rec.number
	if why := differs(m, rec, j.host); why != "" {
		j.t.Errorf("%s: %s; %s read\n\t%s\nwhere the Gateway meant\n\t%s %q, length %d, body %q\n\t%q", sample, why, j.r.name, rec, m.method, m.target, m.length, short(m.body.Bytes()), m.fields)
	}
}

// forwarded reports whether a request went to the reader and an answer came.
func forwarded(m *meaning) bool { return m.code == request.CodeBackendOK }

// finish compares everything, and looks for what the reader understood and
// nobody meant. The reader tells some of it only when all is over.
func (j *judge) finish() {
	j.t.Helper()
	if err := j.r.settle(); err != nil {
		j.t.Fatal(err)
	}
	j.r.mu.Lock()
	defer j.r.mu.Unlock()
	for _, s := range j.samples {
		for _, m := range s.meant {
			j.link(s.sample, m)
		}
	}
	if len(j.linked) < enough {
		j.t.Errorf("only %d requests were read: nothing is proved", len(j.linked))
	}
	for id, rec := range j.r.records {
		if _, ok := j.linked[id]; !ok {
			j.t.Errorf("%s read what the Gateway did not mean:\n\t%s\n\t%q", j.r.name, rec, rec.Fields)
		}
	}
	turned, broken := len(j.turned), len(j.broken)
	for _, words := range j.r.refused {
		if !j.expected(words) {
			j.t.Errorf("%s turned away what the Gateway did not mean: %s", j.r.name, words)
		}
	}
	j.t.Logf("%d requests read, %d turned away, %d broken off, %d refusals", len(j.linked), turned, broken, len(j.r.refused))
}

// expected reports whether what a reader says that it turned away is a request
// that was meant and that it did not answer. Each counts once.
func (j *judge) expected(words string) bool {
	for _, list := range []*[]*meaning{&j.turned, &j.broken} {
		for i, m := range *list {
			switch {
			case strings.Contains(words, m.method+" "+m.target):
			case list == &j.turned && strings.Contains(words, "<BADREQ>"): // all that HAProxy says
			case list == &j.broken && strings.HasPrefix(words, "HPE_INVALID_EOF_STATE"): // all that Node says
			default:
				continue
			}
			*list = slices.Delete(*list, i, i+1)
			return true
		}
	}
	return false
}

// differs says in what a record is not what was meant.
func differs(m *meaning, rec *record, host string) string {
	switch {
	case rec.Method != m.method:
		return "another method"
	case rec.Target != m.target:
		return "another target"
	case rec.Host != host:
		return "another host"
	case string(rec.Body) != m.body.String():
		return "another body"
	case !m.whole:
		return "a body that was not whole"
	case m.length < 0 && (!strings.EqualFold(rec.Coding, "chunked") || rec.Length != ""):
		return "other framing"
	case m.length > 0 && (rec.Length != fmt.Sprint(m.length) || rec.Coding != ""):
		return "other framing"
	case m.length == 0 && (rec.Length != "" && rec.Length != "0" || rec.Coding != ""):
		return "other framing"
	}
	slices.Sort(m.fields)
	for _, f := range rec.Fields {
		n, _, _ := strings.Cut(f, ":")
		if m.upgrade != "" && f == "upgrade: "+m.upgrade {
			continue // this hop's own, which the Gateway asks for
		}
		if !has(m.fields, f) && !slices.Contains(added, n) {
			return fmt.Sprintf("a field more, %q,", f)
		}
	}
	return ""
}

// added are the fields that the Gateway says of itself, and those that the
// proxies among the readers add for the recorder behind them.
var added = []string{
	"host", "content-length", "transfer-encoding", "connection", "via", "forwarded", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto", "x-forwarded-host",
	"x-amzn-apigateway-api-id", "x-amzn-requestid", "cdn-loop", "traceparent", "x-amzn-trace-id",
}

// golden compares lines with a file of testdata, which holds what becomes of
// each sample. Where a reader turns requests away its lines differ: the file
// has those of net/http.
func golden(t *testing.T, file, reader string, lines []string) {
	t.Helper()
	if reader != "net/http" {
		return
	}
	got := strings.Join(lines, "\n") + "\n"
	file = "testdata/" + file
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(string(b), "\n")
	for i, line := range lines {
		if i >= len(want) || want[i] != line {
			t.Errorf("%s has not %q in line %d; run with -update and read the difference", file, line, i+1)
		}
	}
	if len(want) != len(lines)+1 {
		t.Errorf("%s has %d lines, want %d", file, len(want)-1, len(lines))
	}
}

// mayTurnAway says why a reader turns away what the Gateway lets through, and
// nothing where it has no reason to. It answers by itself then, reads nothing
// that was not meant, and goes on with the next request.
func mayTurnAway(reader string, m *meaning) string {
	letters := strings.Trim(m.method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_-") == ""
	switch reader {
	case "node":
		if !slices.Contains(nodeMethods, m.method) {
			return "it knows no such method"
		}
	case "nginx":
		switch {
		case !letters:
			return "it takes methods of capital letters alone"
		case m.method == "TRACE" || m.method == "CONNECT":
			return "it allows no such method"
		case m.target == "*":
			return "it has no location for the whole server"
		case strings.Contains(m.target, "%00"):
			return "it takes no zero byte in a path, encoded or not"
		}
	case "haproxy":
		switch {
		case m.method == "PRI":
			return "it takes the method for a begin of HTTP/2"
		case m.upgrade != "" && !slices.ContainsFunc(m.fields, func(f string) bool { return strings.HasPrefix(f, "sec-websocket-key:") }):
			return "it takes no WebSocket without a key"
		case len(m.fields) > 90:
			return "it takes 101 fields, those of the Gateway among them"
		case slices.ContainsFunc(m.fields, func(f string) bool { return strings.IndexByte(f, ':') > 255 }):
			return "it takes no longer name of a field"
		}
	}
	return ""
}

// nodeMethods are those of the corpus that Node's parser knows.
var nodeMethods = []string{
	"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "LOCK", "PURGE", "SEARCH", "LINK",
}
