// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"postern.dev/postern/explain/answer"
)

func TestTextIsWrappedAtSpaces(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "",
		"one":                       "one",
		"one two  three\nfour":      "one two|three four",
		"a-word-that-is-too-long b": "a-word-that-is-too-long|b",
		"äöü äöü äöü":               "äöü äöü|äöü",
	} {
		if got := strings.Join(wrap(text, 10), "|"); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestColoursAreForTerminals(t *testing.T) {
	for _, color := range []bool{false, true} {
		var out bytes.Buffer
		p := &page{to: &out, color: color}
		p.field(green, "saw", strings.Repeat("word ", 40))
		p.line("%s", p.in(bold, "x"))
		if got := strings.Contains(out.String(), "\x1b["); got != color {
			t.Errorf("color %v: %q", color, out.String())
		}
		for l := range strings.Lines(out.String()) {
			if l = strings.NewReplacer("\x1b[32m", "", "\x1b[0m", "").Replace(strings.TrimSuffix(l, "\n")); len(l) > width || strings.HasSuffix(l, " ") {
				t.Errorf("a line of %d: %q", len(l), l)
			}
		}
	}
}

// What is proposed is taken apart by a shell as it was meant.
func TestProposedCommandsAreWhatAShellReads(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("SKIPPED: needs sh")
	}
	for _, word := range []string{"", "a", "it's", `a "b" $c`, "x-apigw-api-id: abc", "https://a.example/b?c=d&e=f", "*"} {
		out, err := exec.Command(sh, "-c", "printf %s "+quoted(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q: got %q, %v", word, out, err)
		}
	}
	q := &answer.Question{From: "host/app", Method: "PUT", URL: "https://a/b?c&d", Insecure: true, Headers: []answer.Header{{Name: "x", Value: "it's"}}}
	if got, want := explained(q), `postern explain --from host/app -X PUT -H 'x: it'\''s' -k 'https://a/b?c&d'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	asked := strings.Replace(curl(q), "postern connect app --", "", 1)
	out, err := exec.Command(sh, "-c", `curl() { for a; do printf '%s|' "$a"; done; }; POSTERN_CA_FILE="a b"; sh() { eval "$2"; };`+asked).Output()
	if want := "-sS|--cacert|a b|-k|-X|PUT|-H|x: it's|https://a/b?c&d|"; err != nil || string(out) != want {
		t.Errorf("got %s, %v, want %s", out, err, want)
	}
}
