// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package labs

import (
	"strconv"
	"strings"
)

// silence is how long curl waits, in seconds, before a drop counts as one.
const silence = "2"

// answer is what curl got.
type answer struct {
	symptom
	line string // status line
	head string
	raw  result
}

// curlArgs is a curl that prints the head too and trusts the lab's CA alone.
func curlArgs(ca string, args ...string) []string {
	return append([]string{"curl", "-sS", "-i", "--max-time", silence, "--cacert", ca}, args...)
}

// curl calls a URL.
func (m *machine) curl(ca string, args ...string) answer {
	m.t.Helper()
	return readAnswer(m.run(curlArgs(ca, args...)...))
}

// readAnswer reads curl's exit code and output.
func readAnswer(r result) answer {
	a := answer{raw: r}
	switch r.code {
	case 0:
		a.Kind = "response"
		a.head, a.Body, _ = strings.Cut(r.out, "\r\n\r\n")
		a.line, _, _ = strings.Cut(a.head, "\r\n")
		if f := strings.Fields(a.line); len(f) > 1 {
			a.Status, _ = strconv.Atoi(f[1]) // 0 is no status
		}
	case 6:
		a.Kind = "nxdomain"
	case 7:
		a.Kind = "refused"
	case 28:
		a.Kind = "timeout"
	case 35:
		a.Kind = "tls"
		if strings.Contains(r.err, "reset by peer") { // before the handshake was over
			a.Kind = "reset"
		}
	case 60:
		a.Kind = "tls"
	case 52, 56:
		a.Kind = "reset"
	default:
		a.Kind = "curl " + strconv.Itoa(r.code) + " " + r.err
	}
	return a
}

// throughProxy is what a caller behind a SOCKS proxy sees: some failures reach
// it as the proxy's answers of RFC 1928, section 6.
func (a answer) throughProxy() string {
	switch {
	case a.raw.code != 97:
		return a.Kind
	case strings.Contains(a.raw.err, "(5)"):
		return "refused"
	case strings.Contains(a.raw.err, "(4)"):
		return "unreachable"
	}
	return a.Kind
}
