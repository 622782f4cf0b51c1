// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package grammar

import (
	"postern.dev/postern/engine/gateway/exchange"
)

// ParseResponse reads the head of a response to a request of the given method into r. Length is 0 where there is no
// body, and the announced one for HEAD; -1 means chunked, or, with untilClose, all that comes until the connection ends.
// Content-Length and the hop-by-hop fields do not get into r.Header, but for the Upgrade of a 101.
func ParseResponse(head []byte, r *exchange.Response, method string, l *Limits) (cn Connection, untilClose bool, err *Error) {
	sl, rest, err := line(head)
	if err != nil {
		return cn, false, err
	}
	if len(rest) < 2 || rest[len(rest)-2] != '\r' || rest[len(rest)-1] != '\n' {
		return cn, false, ErrBareLF
	}
	if len(rest)-2 > l.Fields {
		return cn, false, ErrFieldsTooLarge
	}
	proto, err := statusLine(sl, r)
	if err != nil {
		return cn, false, err
	}
	var fr framing
	if err := readFields(rest[:len(rest)-2], &r.Header, &fr, l.Count); err != nil {
		return cn, false, err
	}
	if err := fr.hopByHop(&r.Header); err != nil {
		return cn, false, err
	}
	cn.Close = fr.close || proto == exchange.HTTP10 && !fr.keepAlive
	chunked, err := fr.chunked()
	switch {
	case fr.lengths > 0 && fr.codings > 0:
		return cn, false, ErrLengthAndTE
	case err != nil:
		return cn, false, err
	case fr.lengths > 1:
		return cn, false, ErrLengthRepeated
	case chunked && proto == exchange.HTTP10:
		return cn, false, ErrCodingVersion
	}
	r.Header.Del("Content-Length")
	if r.Status == 101 && fr.upgradeTo != "" {
		r.Header.Add("Upgrade", fr.upgradeTo)
	}
	switch {
	case method == "HEAD":
		r.Length = fr.length
	case !BodyAllowed(r.Status):
		r.Length = 0
		if r.Status != 304 && (chunked || fr.length > 0) {
			cn.Close = true // a body was announced where there can be none: what follows is not to be trusted
		}
	case chunked:
		r.Length = -1
	case fr.lengths == 1:
		r.Length = fr.length
	default:
		r.Length = -1
		cn.Close, untilClose = true, true
	}
	return cn, untilClose, nil
}

func statusLine(sl []byte, r *exchange.Response) (exchange.Proto, *Error) {
	if len(sl) < 12 || sl[8] != ' ' || len(sl) > 12 && sl[12] != ' ' {
		return 0, ErrStatusLine
	}
	proto, err := version(sl[:8])
	if err != nil {
		return 0, ErrStatusLine
	}
	code, ok := decimal(view(sl[9:12]))
	if !ok || code < 100 {
		return 0, ErrStatusLine
	}
	if !all(view(sl[12:]), isValue) {
		return 0, ErrStatusLine
	}
	r.Status = int(code)
	return proto, nil
}

// BodyAllowed reports whether a response of this status can have a body.
func BodyAllowed(status int) bool { return status >= 200 && status != 204 && status != 304 }
