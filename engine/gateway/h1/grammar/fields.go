// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package grammar

import (
	"bytes"
	"strings"

	"postern.dev/postern/engine/gateway/exchange"
)

// known is a field that the engine itself has business with.
type known uint8

const (
	other known = iota
	fieldTE
	fieldHost
	fieldDate
	fieldExpect
	fieldTrailer
	fieldUpgrade
	fieldConnection
	fieldKeepAlive
	fieldContentLength
	fieldProxyConnection
	fieldTransferEncoding
)

// which tells the engine's fields from the others. The switch on the length leaves one comparison at most.
func which(name string) known {
	switch len(name) {
	case 2:
		if fold(name, "te") {
			return fieldTE
		}
	case 4:
		if fold(name, "host") {
			return fieldHost
		}
		if fold(name, "date") {
			return fieldDate
		}
	case 6:
		if fold(name, "expect") {
			return fieldExpect
		}
	case 7:
		if fold(name, "trailer") {
			return fieldTrailer
		}
		if fold(name, "upgrade") {
			return fieldUpgrade
		}
	case 10:
		if fold(name, "connection") {
			return fieldConnection
		}
		if fold(name, "keep-alive") {
			return fieldKeepAlive
		}
	case 14:
		if fold(name, "content-length") {
			return fieldContentLength
		}
	case 16:
		if fold(name, "proxy-connection") {
			return fieldProxyConnection
		}
	case 17:
		if fold(name, "transfer-encoding") {
			return fieldTransferEncoding
		}
	}
	return other
}

// line cuts the next line off b. It ends in CR LF, and holds neither.
func line(b []byte) (l, rest []byte, err *Error) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 || b[i-1] != '\r' {
		return nil, nil, ErrBareLF
	}
	return b[:i-1], b[i+1:], nil
}

// field cuts a line into name and value.
func field(l []byte) (name, value string, err *Error) {
	if len(l) == 0 || l[0] == ' ' || l[0] == '\t' {
		return "", "", ErrFoldedField
	}
	c := 0
	for c < len(l) && class[l[c]]&isToken != 0 {
		c++
	}
	if c == 0 || c == len(l) || l[c] != ':' {
		return "", "", ErrFieldName
	}
	name, value = view(l[:c]), view(l[c+1:])
	if !validValue(value) {
		if strings.IndexByte(value, '\r') >= 0 {
			return "", "", ErrBareCR
		}
		return "", "", ErrFieldValue
	}
	return name, trim(value), nil
}

// framing collects what the fields say about where the body ends and what becomes of the connection.
type framing struct {
	length     int64 // -1: not given
	lengths    int
	coding     string
	codings    int
	connection [4]string
	options    int
	close      bool
	keepAlive  bool
	upgrade    bool // Connection lists it
	upgradeTo  string
	trailers   bool // TE: trailers
	announces  string
	host       string
	hosts      int
	expect     string
	expects    int
}

// readFields reads a header section into h and fr. Hop-by-hop fields end in fr, the others in h.
func readFields(b []byte, h *exchange.Header, fr *framing, maxCount int) *Error {
	fr.length = -1
	for n := 0; len(b) > 0; n++ {
		if n >= maxCount {
			return ErrTooManyFields
		}
		l, rest, err := line(b)
		if err != nil {
			return err
		}
		b = rest
		name, value, err := field(l)
		if err != nil {
			return err
		}
		switch which(name) {
		case fieldHost:
			fr.host = value
			fr.hosts++
		case fieldContentLength:
			var ok bool
			if fr.length, ok = decimal(value); !ok {
				return ErrLengthInvalid
			}
			fr.lengths++
		case fieldTransferEncoding:
			fr.coding = value
			fr.codings++
			continue
		case fieldConnection:
			if fr.options == len(fr.connection) {
				return ErrConnection
			}
			fr.connection[fr.options] = value
			fr.options++
			continue
		case fieldTE:
			fr.trailers = fr.trailers || fold(value, "trailers")
			continue
		case fieldUpgrade:
			fr.upgradeTo = value
			continue
		case fieldExpect:
			fr.expect = value
			fr.expects++
			continue
		case fieldTrailer:
			fr.announces = value
			continue
		case fieldKeepAlive, fieldProxyConnection:
			continue
		}
		h.Add(name, value)
	}
	return nil
}

// maxOptions bounds what the Connection fields may list: each costs a walk over all fields.
const maxOptions = 32

// hopByHop reads the Connection fields and removes from h what they list.
func (fr *framing) hopByHop(h *exchange.Header) *Error {
	listed := 0
	for _, v := range fr.connection[:fr.options] {
		for v != "" {
			var o string
			o, v, _ = strings.Cut(v, ",")
			o = trim(o)
			if o == "" {
				continue
			}
			if listed++; listed > maxOptions || !all(o, isToken) {
				return ErrConnection
			}
			switch {
			case fold(o, "close"):
				fr.close = true
			case fold(o, "keep-alive"):
				fr.keepAlive = true
			case fold(o, "upgrade"):
				fr.upgrade = true
			default:
				switch which(o) {
				case fieldHost, fieldContentLength, fieldTransferEncoding, fieldConnection, fieldDate, fieldExpect:
					// To remove one of these would change what the message is or for whom.
					return ErrConnection
				}
				h.Del(o)
			}
		}
	}
	return nil
}

// chunked reads Transfer-Encoding. Only a single "chunked" is spoken; the rest is told apart for the answer's sake.
func (fr *framing) chunked() (bool, *Error) {
	if fr.codings == 0 {
		return false, nil
	}
	if fr.codings > 1 {
		return false, ErrCodingInvalid
	}
	if fold(fr.coding, "chunked") {
		return true, nil
	}
	v, unknown, seen := fr.coding, false, false
	for more := true; more; {
		var c string
		c, v, more = strings.Cut(v, ",")
		c = trim(c)
		if seen {
			return false, ErrCodingNotLast
		}
		if fold(c, "chunked") {
			seen = true
			continue
		}
		name, _, params := strings.Cut(c, ";")
		name = trim(name)
		if name == "" || !all(name, isToken) || params && fold(name, "chunked") {
			return false, ErrCodingInvalid
		}
		unknown = true
	}
	if unknown {
		return false, ErrCodingUnknown
	}
	return false, ErrCodingInvalid
}
