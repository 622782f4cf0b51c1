// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package labs

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// absolute is a path of this repository, for commands that run elsewhere.
func absolute(t *testing.T, path string) string {
	t.Helper()
	p, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ping sends two echo requests: both are answered, or none.
func ping(t *testing.T, m *machine, address string, answered bool) {
	t.Helper()
	r := m.run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", address)
	want := "2 packets transmitted, 0 received"
	if answered {
		want = "2 packets transmitted, 2 received"
	}
	if !strings.Contains(r.out, want) {
		t.Errorf("ping %s: want %q: %s", address, want, r)
	}
}

// certificate holds what is presented at an address against a name.
func certificate(t *testing.T, m *machine, ca, address, name string) {
	t.Helper()
	client := func(name string) result {
		return m.run("openssl", "s_client", "-connect", address, "-servername", name, "-verify_hostname", name,
			"-verify_return_error", "-CAfile", ca, "-brief")
	}
	_, parent, _ := strings.Cut(name, ".")
	verified := regexp.MustCompile(`(?m)^Verified peername: (` + regexp.QuoteMeta(name) + `|\*\.` + regexp.QuoteMeta(parent) + `)$`)
	if r := client(name); r.code != 0 || !strings.Contains(r.err, "Verification: OK") ||
		!verified.MatchString(r.err) || !strings.Contains(r.err, "Protocol version: TLSv1.3") {
		t.Errorf("s_client -servername %s: %s", name, r)
	}
	// Another name gets no certificate that fits it.
	if r := client("www.example.com"); r.code == 0 || strings.Contains(r.err, "Verification: OK") {
		t.Errorf("s_client -servername www.example.com: %s", r)
	}
}

// sockets are those on which something in the namespace listens.
func (m *machine) sockets() []string {
	m.t.Helper()
	var out []string
	for _, line := range strings.Split(strings.TrimSpace(m.ok("ss", "-H", "-lntu")), "\n") {
		if f := strings.Fields(line); len(f) >= 5 {
			out = append(out, f[0]+" "+f[4])
		}
	}
	slices.Sort(out)
	return out
}
