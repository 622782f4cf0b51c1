// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package accesslog

import (
	"fmt"
	"strings"
	"testing"
)

// shown writes a format as its pieces.
func shown(f *Format) string {
	var b strings.Builder
	for _, p := range f.Pieces {
		if p.Text != "" {
			b.WriteString(p.Text)
			continue
		}
		fmt.Fprintf(&b, "<%d%c>", p.Var, "bqv"[p.Place])
	}
	return b.String()
}

func TestFormatsAreTakenApart(t *testing.T) {
	w := func(v Variable, place byte) string { return fmt.Sprintf("<%d%c>", v, place) }
	for in, want := range map[string]string{
		"$context.requestId": w(RequestID, 'b'),
		"$context.status.":   w(Status, 'b') + ".",
		`{"id":"$context.requestId","s":$context.status}` + "\n": `{"id":"` + w(RequestID, 'q') + `","s":` + w(Status, 'v') + `}`,
		`{"id":"$context.requestId"`:                             `{"id":"` + w(RequestID, 'q') + `"`,
		`{$context.requestId}`:                                   `{` + w(RequestID, 'b') + `}`,
		`$5 "$context.path" $context.path $`:                     `$5 "` + w(Path, 'q') + `" ` + w(Path, 'b') + ` $`,
		`"\"$context.path`:                                       `"\"` + w(Path, 'q'),
		"$context.authorizer.claims.sub,$context.stage":          w(None, 'b') + "," + w(Stage, 'b'),
	} {
		f, err := Parse(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if got := shown(f); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestWhatIsNoFormatIsRefused(t *testing.T) {
	for in, want := range map[string]string{
		"":                                     "has no variable; write at least $context.requestId",
		"hello":                                "has no variable; write at least $context.requestId",
		"a\n$context.requestId":                "has several lines; write it in one, a request is one line of the log",
		"a\x1b$context.requestId":              "has a control character; a line of a log has none",
		"$context.requestID":                   `has $context.requestID, which is no variable; did you mean "$context.requestId"?`,
		"$context.identity.sourceP":            `has $context.identity.sourceP, which is no variable; did you mean "$context.identity.sourceIp"?`,
		"$context.":                            "has $context. without a name behind it",
		"$context.nothing.like.it":             "has $context.nothing.like.it, which is no variable",
		"$stageVariables.color":                "has $stageVariables.color; there is nothing but $context variables, such as $context.requestId",
		"$context.identity.apiKey":             "has $context.identity.apiKey, which is a secret, which no log gets; $context.identity.apiKeyId tells which key it was",
		"$context.requestOverride.header.X":    "has $context.requestOverride.header.X, which is for mapping templates, not for logs",
		"$context.authorizer.":                 "has $context.authorizer, which is no variable",
		strings.Repeat("x", 5000):              "has more than 4096 bytes",
		strings.Repeat("$context.status ", 65): "has more than 64 variables",
	} {
		if _, err := Parse(in); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}

func TestTheDefaultIsJSON(t *testing.T) {
	for _, p := range MustParse(Default).Pieces {
		if p.Text == "" && p.Place == Bare {
			t.Fatal("a variable of the default format stands where JSON has no value")
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Default)
	f.Add("$context.status. $ $$context.path \"\\")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			return
		}
		var b strings.Builder
		vars := 0
		for _, x := range p.Pieces {
			b.WriteString(x.Text)
			if x.Text == "" {
				vars++
			}
		}
		if vars != strings.Count(s, prefix) || !subsequence(b.String(), s) {
			t.Errorf("%q became %s", s, shown(p))
		}
	})
}

// subsequence reports whether a is left of b when some of b is taken out.
func subsequence(a, b string) bool {
	i := 0
	for k := 0; k < len(b) && i < len(a); k++ {
		if a[i] == b[k] {
			i++
		}
	}
	return i == len(a)
}
