// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"strings"
	"unicode/utf8"

	"postern.dev/postern/snapshot/iam"
)

// folding says how letters compare.
type folding bool

const (
	exact     folding = false
	foldASCII folding = true // for actions, which are ASCII
)

// text is what a pattern is matched against: pieces read as one string, so that
// an ARN is matched without being built.
type text []string

// cursor is a place in a text. It never rests at the end of a piece, the end of
// the text excepted.
type cursor struct{ piece, off int }

func (t text) settle(c cursor) cursor {
	for c.piece < len(t) && c.off == len(t[c.piece]) {
		c = cursor{piece: c.piece + 1}
	}
	return c
}

// skip moves c over one character.
func (t text) skip(c cursor) (cursor, bool) {
	if c.piece == len(t) {
		return c, false
	}
	s := t[c.piece][c.off:]
	n := 1
	if s[0] >= utf8.RuneSelf {
		_, n = utf8.DecodeRuneInString(s)
	}
	return t.settle(cursor{c.piece, c.off + n}), true
}

// find moves c to the next place where b stands.
func (t text) find(c cursor, b byte) (cursor, bool) {
	for ; c.piece < len(t); c = (cursor{piece: c.piece + 1}) {
		if i := strings.IndexByte(t[c.piece][c.off:], b); i >= 0 {
			return cursor{c.piece, c.off + i}, true
		}
	}
	return c, false
}

// literal moves c over s if s stands there.
func (t text) literal(c cursor, s string, f folding) (cursor, bool) {
	for s != "" {
		if c.piece == len(t) {
			return c, false
		}
		have := t[c.piece][c.off:]
		n := min(len(have), len(s))
		if have[:n] != s[:n] && (f == exact || !equalFoldASCII(have[:n], s[:n])) {
			return c, false
		}
		s = s[n:]
		c = t.settle(cursor{c.piece, c.off + n})
	}
	return c, true
}

// bytes is literal for text that was formatted into a buffer.
func (t text) bytes(c cursor, s []byte) (cursor, bool) {
	for _, b := range s {
		if c.piece == len(t) || t[c.piece][c.off] != b {
			return c, false
		}
		c = t.settle(cursor{c.piece, c.off + 1})
	}
	return c, true
}

// token moves c over what k matches there; k is not a TokenMany.
func (t text) token(c cursor, k *iam.Token, r *Request, f folding) (cursor, bool) {
	switch k.Kind {
	case iam.TokenLiteral:
		return t.literal(c, k.Text, f)
	case iam.TokenOne:
		return t.skip(c)
	}
	v := r.value(&k.Key)
	switch v.kind {
	case missing, kindStrings: // only a single value can stand for a variable
		if k.HasDefault && v.kind == missing {
			return t.literal(c, k.Default, f)
		}
		return c, false
	case kindString:
		return t.literal(c, v.str, f)
	}
	var b [formatted]byte
	return t.bytes(c, v.append(b[:0]))
}

// match reports whether tokens match the whole of t. It remembers only the last
// "*", which suffices: what an earlier one might take, the last may take too. So
// the work is bounded by the text times the longest run between two of them.
func match(tokens []iam.Token, t text, r *Request, f folding) bool {
	at := t.settle(cursor{})
	i, star, starAt := 0, -1, cursor{}
	for {
		if i < len(tokens) {
			k := &tokens[i]
			if k.Kind == iam.TokenMany {
				if i++; i == len(tokens) {
					return true
				}
				star, starAt = i, at
				if !seek(t, &starAt, &tokens[star], f) {
					return false
				}
				at = starAt
				continue
			}
			if next, ok := t.token(at, k, r, f); ok {
				at = next
				i++
				continue
			}
		} else if at.piece == len(t) {
			return true
		}
		if star < 0 {
			return false
		}
		var ok bool
		if starAt, ok = t.skip(starAt); !ok || !seek(t, &starAt, &tokens[star], f) {
			return false
		}
		at, i = starAt, star
	}
}

// seek moves c forward to where k can first match, if that can be told.
func seek(t text, c *cursor, k *iam.Token, f folding) bool {
	if k.Kind != iam.TokenLiteral || f != exact || k.Text == "" {
		return true
	}
	var ok bool
	*c, ok = t.find(*c, k.Text[0])
	return ok
}

// matchText is match for text in one piece, quick for a plain literal.
func matchText(p *iam.Pattern, s string, r *Request, f folding) bool {
	if len(p.Tokens) == 1 && f == exact {
		switch k := &p.Tokens[0]; k.Kind {
		case iam.TokenLiteral:
			return s == k.Text
		case iam.TokenMany:
			return true
		}
	}
	one := [1]string{s}
	return match(p.Tokens, one[:], r, f)
}

func equalFoldASCII(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if lowerASCII(a[i]) != lowerASCII(b[i]) {
			return false
		}
	}
	return true
}

func lowerASCII(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}
