// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package grammar

import (
	"bytes"

	"postern.dev/postern/engine/gateway/exchange"
)

// ParseRequest reads a request head, from the request line to the empty line, into r. The strings of r are views of
// head. It sets everything of r but Scheme of a target that names none, Body and Trailer.
func ParseRequest(head []byte, r *exchange.Request, l *Limits) (Connection, *Error) {
	var cn Connection
	rl, rest, err := line(head)
	if err != nil {
		return cn, err
	}
	if len(rest) < 2 || rest[len(rest)-2] != '\r' || rest[len(rest)-1] != '\n' {
		return cn, ErrBareLF
	}
	if len(rest)-2 > l.Fields {
		return cn, ErrFieldsTooLarge
	}
	scheme, authority, err := requestLine(rl, r, l)
	if err != nil {
		return cn, err
	}
	var fr framing
	if err := readFields(rest[:len(rest)-2], &r.Header, &fr, l.Count); err != nil {
		return cn, err
	}
	if err := setHost(r, &fr, authority); err != nil {
		return cn, err
	}
	r.Scheme = scheme
	if err := setLength(r, &fr); err != nil {
		return cn, err
	}
	if err := fr.hopByHop(&r.Header); err != nil {
		return cn, err
	}
	if r.Proto == exchange.HTTP10 {
		cn.Close = fr.close || !fr.keepAlive
		return cn, nil // no 100, no upgrade and no trailers in HTTP/1.0
	}
	cn.Close = fr.close
	if fr.expects > 0 {
		if fr.expects > 1 || !fold(fr.expect, "100-continue") {
			return cn, ErrExpectation
		}
		cn.Continue = r.Length != 0
	}
	if fr.upgrade && r.Length == 0 && fr.upgradeTo != "" {
		r.Upgrade = fr.upgradeTo
	}
	r.AcceptsTrailers, r.Announces = fr.trailers, fr.announces
	return cn, nil
}

func requestLine(rl []byte, r *exchange.Request, l *Limits) (scheme, authority string, err *Error) {
	sp := bytes.IndexByte(rl, ' ')
	last := bytes.LastIndexByte(rl, ' ')
	if sp <= 0 || last == sp {
		if bytes.IndexByte(rl, '\r') >= 0 {
			return "", "", ErrBareCR
		}
		return "", "", ErrRequestLine
	}
	r.Method = view(rl[:sp])
	if !all(r.Method, isToken) {
		return "", "", ErrMethod
	}
	if sp > maxMethod {
		return "", "", ErrMethodTooLong
	}
	if r.Proto, err = version(rl[last+1:]); err != nil {
		return "", "", err
	}
	target := view(rl[sp+1 : last])
	if len(target) > l.Target {
		return "", "", ErrTargetTooLong
	}
	if r.Method == "CONNECT" {
		return "", "", ErrConnect
	}
	return SetTarget(r, target)
}

// version reads HTTP-version. A later minor version is served as 1.1, as RFC 9110 2.5 has it.
func version(v []byte) (exchange.Proto, *Error) {
	if len(v) != 8 || string(v[:5]) != "HTTP/" || class[v[5]]&isDigit == 0 || v[6] != '.' || class[v[7]]&isDigit == 0 {
		return 0, ErrVersion
	}
	if v[5] != '1' {
		return 0, ErrVersionUnknown
	}
	if v[7] == '0' {
		return exchange.HTTP10, nil
	}
	return exchange.HTTP11, nil
}

func setHost(r *exchange.Request, fr *framing, authority string) *Error {
	if fr.hosts > 1 {
		return ErrHostRepeated
	}
	if fr.hosts == 0 {
		if r.Proto != exchange.HTTP10 {
			return ErrHostMissing
		}
		r.SetAuthority(authority)
		return nil
	}
	if !ValidAuthority(fr.host) {
		return ErrHostInvalid
	}
	if authority != "" && !exchange.EqualFold(authority, fr.host) {
		return ErrHostDisagrees
	}
	r.SetAuthority(fr.host)
	return nil
}

func setLength(r *exchange.Request, fr *framing) *Error {
	chunked, err := fr.chunked()
	switch {
	case fr.lengths > 0 && fr.codings > 0:
		return ErrLengthAndTE
	case err != nil:
		return err
	case fr.lengths > 1:
		return ErrLengthRepeated
	case chunked && r.Proto == exchange.HTTP10:
		return ErrCodingVersion
	case chunked:
		r.Length = -1
	case fr.lengths == 1:
		r.Length = fr.length
	default:
		r.Length = 0
	}
	return nil
}
