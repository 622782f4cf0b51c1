// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package grammar

import "unsafe"

// Classes of bytes, one bit each.
const (
	isToken  = 1 << iota // RFC 9110 5.6.2 tchar
	isValue              // field-vchar, SP, HTAB
	isPath               // pchar and "/", without "%"
	isQuery              // as isPath, "?", and what browsers leave unencoded
	isName               // of a host: letters, digits, "-", "_", "."
	isDigit              //
	isHex                //
	isQuoted             // qdtext without HTAB
)

var class = func() (t [256]uint8) {
	for c := 0; c < 256; c++ {
		b := byte(c)
		alpha := 'a' <= b|0x20 && b|0x20 <= 'z'
		digit := '0' <= b && b <= '9'
		if alpha || digit {
			t[c] |= isToken | isPath | isQuery | isName
		}
		if digit {
			t[c] |= isDigit | isHex
		}
		if 'a' <= b|0x20 && b|0x20 <= 'f' {
			t[c] |= isHex
		}
		if c == '\t' || c >= 0x20 && c != 0x7f {
			t[c] |= isValue
		}
		if c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			t[c] |= isQuoted
		}
	}
	add := func(s string, bits uint8) {
		for i := 0; i < len(s); i++ {
			t[s[i]] |= bits
		}
	}
	add("!#$%&'*+-.^_`|~", isToken)
	add("-._~!$&'()*+,;=:@/", isPath|isQuery)
	add("?[]{}^`", isQuery)
	add("-_.", isName)
	return t
}()

// validValue reports whether s has only bytes of a field value. Long ones (cookies, tokens) are looked at eight bytes
// at a time: below, the high bit of a byte of low is set where it is under 0x20, of del where it is 0x7f. A carry can
// set it for a neighbour as well, so a hit is looked at again.
func validValue(s string) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	if len(s) < 8 {
		return all(s, isValue)
	}
	for {
		w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		low := (w - 0x20*ones) &^ w & highs
		x := w ^ 0x7f*ones
		del := (x - ones) &^ x & highs
		if low|del != 0 && !all(s[:8], isValue) {
			return false
		}
		switch {
		case len(s) == 8:
			return true
		case len(s) < 16:
			s = s[len(s)-8:] // some of them once more
		default:
			s = s[8:]
		}
	}
}

func all(b string, bits uint8) bool {
	for i := 0; i < len(b); i++ {
		if class[b[i]]&bits == 0 {
			return false
		}
	}
	return true
}

// encoded reports whether s has only bytes of the class and well-formed percent-encodings.
func encoded(s string, bits uint8) bool {
	for i := 0; i < len(s); i++ {
		if class[s[i]]&bits != 0 {
			continue
		}
		if s[i] != '%' || i+2 >= len(s) || class[s[i+1]]&isHex == 0 || class[s[i+2]]&isHex == 0 {
			return false
		}
		i += 2
	}
	return true
}

// fold reports whether s equals lower, which is in lower case, but for the case of ASCII letters.
func fold(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// trim removes optional white space (SP, HTAB) at both ends.
func trim(s string) string {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// decimal reads 1*18DIGIT; more digits could not be told from an overflow by every recipient.
func decimal(s string) (int64, bool) {
	if len(s) == 0 || len(s) > 18 || !all(s, isDigit) {
		return 0, false
	}
	var n int64
	for i := 0; i < len(s); i++ {
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// view makes a string of b without copying it: it lives as long as the buffer is left alone.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
