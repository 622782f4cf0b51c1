// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package wgkey

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestPublicMatchesRFC7748 checks the derivation with the vector of RFC 7748
// section 6.1.
func TestPublicMatchesRFC7748(t *testing.T) {
	k, err := ParsePrivate("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=")
	if err != nil {
		t.Fatal(err)
	}
	p, err := k.Public()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Hex(), "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"; got != want {
		t.Errorf("public key = %s, want %s", got, want)
	}
	again, err := ParsePublic(p.String())
	if err != nil || again != p {
		t.Errorf("ParsePublic(%v) = %v, %v", p, again, err)
	}
}

func TestSecretsNeverPrintThemselves(t *testing.T) {
	k, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	s, err := GenerateShared()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, v := range []any{k, &k, s, &s, struct{ K Private }{k}, struct{ k Private }{k}, []Shared{s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(j)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "key", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", v)
	}
	for _, leak := range []string{k.Reveal(), k.RevealHex(), s.Reveal(), s.RevealHex(), fmt.Sprint(k.bytes()[:4])} {
		if strings.Contains(out.String(), strings.Trim(leak, "[]")) {
			t.Errorf("secret %q printed", leak)
		}
	}
}

func TestBadKeysAreRefusedWithoutQuotingThem(t *testing.T) {
	for _, s := range []string{"", "AAAA", "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo", "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCp=", strings.Repeat("!", 44)} {
		_, err := ParsePrivate(s)
		if err == nil {
			t.Errorf("ParsePrivate(%q) succeeded", s)
		} else if s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("error %q quotes the input", err)
		}
	}
}
