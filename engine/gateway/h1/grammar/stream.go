// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package grammar

import (
	"postern.dev/postern/engine/gateway/exchange"
)

// ErrConnectionField refuses what HTTP/2 and HTTP/3 have no fields for.
var ErrConnectionField = &Error{400, "connection-field", "RFC 9113 8.2.2", "a field that is about an HTTP/1.1 connection"}

// Pseudo is what a request of HTTP/2 or HTTP/3 says in its pseudo-header fields, and whether its stream ended with its
// header section.
type Pseudo struct {
	Method, Scheme, Authority, Path string
	Ended                           bool
}

// SetRequest reads a request that was not written in lines. Its fields stand in r.Header in the order of arrival, Host
// and the framing among them; what is true of an HTTP/1.1 request afterwards is true of r. It sets everything of r but
// Body, Trailer and Proto.
func SetRequest(r *exchange.Request, p *Pseudo, l *Limits) *Error {
	r.Method = p.Method
	switch {
	case !all(p.Method, isToken) || p.Method == "":
		return ErrMethod
	case len(p.Method) > maxMethod:
		return ErrMethodTooLong
	case p.Method == "CONNECT":
		return ErrConnect
	case len(p.Path) > l.Target:
		return ErrTargetTooLong
	case p.Path == "" || p.Path[0] != '/' && p.Path != "*":
		return ErrTarget
	case !fold(p.Scheme, "http") && !fold(p.Scheme, "https"):
		return ErrScheme
	}
	if _, _, err := SetTarget(r, p.Path); err != nil {
		return err
	}
	var fr framing
	if err := streamFields(&r.Header, &fr, l); err != nil {
		return err
	}
	if err := streamHost(r, &fr, p.Authority); err != nil {
		return err
	}
	if fold(p.Scheme, "https") {
		r.Scheme = "https"
	} else {
		r.Scheme = "http"
	}
	switch {
	case fr.lengths > 1:
		return ErrLengthRepeated
	case p.Ended && fr.length > 0:
		return ErrLengthInvalid // announced, and not sent
	case p.Ended:
		r.Length = 0
	default:
		r.Length = fr.length // -1 where none is announced
	}
	if fr.expects > 1 || fr.expects == 1 && !fold(fr.expect, "100-continue") {
		return ErrExpectation
	}
	r.AcceptsTrailers, r.Announces = true, fr.announces // these versions have a place for them
	return nil
}

// streamFields judges the fields in h as readFields does, and leaves the end-to-end ones there.
func streamFields(h *exchange.Header, fr *framing, l *Limits) *Error {
	fr.length = -1
	if h.Len() > l.Count {
		return ErrTooManyFields
	}
	size, hops := 0, false
	for i := range h.Len() {
		f := h.At(i)
		size += len(f.Name) + len(f.Value) + len(": \r\n")
		if f.Name == "" || !all(f.Name, isToken) {
			return ErrFieldName
		}
		if !validValue(f.Value) || trim(f.Value) != f.Value {
			return ErrFieldValue
		}
		switch which(f.Name) {
		case fieldHost:
			fr.host = f.Value
			fr.hosts++
			hops = true
		case fieldContentLength:
			var ok bool
			if fr.length, ok = decimal(f.Value); !ok {
				return ErrLengthInvalid
			}
			fr.lengths++
		case fieldTE:
			if !fold(f.Value, "trailers") {
				return ErrConnectionField
			}
			hops = true
		case fieldExpect:
			fr.expect = f.Value
			fr.expects++
			hops = true
		case fieldTrailer:
			fr.announces = f.Value
			hops = true
		case fieldTransferEncoding, fieldConnection, fieldUpgrade, fieldKeepAlive, fieldProxyConnection:
			return ErrConnectionField
		}
	}
	if size > l.Fields {
		return ErrFieldsTooLarge
	}
	if hops {
		for _, name := range [...]string{"Host", "TE", "Expect", "Trailer"} {
			h.Del(name)
		}
	}
	return nil
}

// ConnectionField reports whether a field has no place in HTTP/2 and HTTP/3: a request with one is malformed.
func ConnectionField(name, value string) bool {
	switch which(name) {
	case fieldTransferEncoding, fieldConnection, fieldUpgrade, fieldKeepAlive, fieldProxyConnection:
		return true
	case fieldTE:
		return !fold(value, "trailers")
	}
	return false
}

func streamHost(r *exchange.Request, fr *framing, authority string) *Error {
	switch {
	case fr.hosts > 1:
		return ErrHostRepeated
	case fr.hosts == 1 && authority != "" && !exchange.EqualFold(fr.host, authority):
		return ErrHostDisagrees
	case authority == "":
		authority = fr.host
	}
	switch {
	case authority == "":
		return ErrHostMissing
	case !ValidAuthority(authority):
		return ErrHostInvalid
	}
	r.Header.Add("Host", authority)
	r.SetAuthority(authority)
	return nil
}

// AddTrailer adds a field of a trailer section to h, by the rules of readTrailer.
func AddTrailer(h *exchange.Header, name, value string, l *Limits) *Error {
	switch {
	case h.Len() >= l.Count:
		return ErrTooManyFields
	case name == "" || !all(name, isToken):
		return ErrFieldName
	case !validValue(value):
		return ErrFieldValue
	case !TrailerAllowed(name):
		return ErrTrailerField
	}
	h.Add(name, trim(value))
	return nil
}

// Sent reports whether a field of a response goes out to a client, and whether it can: the framing and what is meant for
// one hop is the engine's own.
func Sent(f exchange.Field) (ok bool, err *Error) {
	switch which(f.Name) {
	case other, fieldDate, fieldHost, fieldExpect:
	default:
		return false, nil
	}
	if f.Name == "" || !all(f.Name, isToken) || !validValue(f.Value) || trim(f.Value) != f.Value {
		return false, ErrUnsendable
	}
	return true, nil
}

// SentTrailer reports whether a field can stand in the trailer section of a response.
func SentTrailer(f exchange.Field) *Error {
	if f.Name == "" || !TrailerAllowed(f.Name) || !all(f.Name, isToken) || !validValue(f.Value) {
		return ErrUnsendable
	}
	return nil
}
