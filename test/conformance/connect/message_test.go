// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The suite and its servers exchange single messages of Protocol Buffers, each
// behind its length. Few fields matter here, so that they are read by hand.

// The numbers of a ServerCompatRequest's fields, and of a TLSCreds'.
const (
	fieldProtocol     = 1
	fieldVersion      = 2
	fieldTLS          = 4
	fieldClientCert   = 5
	fieldReceiveLimit = 6
	fieldCreds        = 7

	fieldCert = 1
	fieldKey  = 2
)

// The versions of HTTP and the protocols as the suite numbers them.
const (
	http1 = 1
	http2 = 2
	http3 = 3

	protocolGRPC = 2
)

// wanted is what the suite asks of a server.
type wanted struct {
	protocol, version uint64
	tls               bool
	// clientCA vouches for the certificates of clients; empty: they have none.
	clientCA []byte
	limit    uint64
	cert     []byte
	key      []byte
}

// served is what a server answers.
type served struct {
	host string
	port uint64
	cert []byte
}

var errMessage = errors.New("a message is malformed")

// readMessage reads a message.
func readMessage(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 1<<20 {
		return nil, fmt.Errorf("%w: it has %d bytes", errMessage, n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeMessage(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

// fields calls f for each field: with its number, or with its bytes.
func fields(b []byte, f func(number int, n uint64, text []byte)) error {
	varint := func() (uint64, error) {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			return 0, errMessage
		}
		b = b[size:]
		return n, nil
	}
	for len(b) > 0 {
		tag, err := varint()
		if err != nil {
			return err
		}
		n, err := varint()
		if err != nil {
			return err
		}
		switch tag & 7 {
		case 0:
			f(int(tag>>3), n, nil)
		case 2:
			if n > uint64(len(b)) {
				return errMessage
			}
			f(int(tag>>3), 0, b[:n])
			b = b[n:]
		default:
			return fmt.Errorf("%w: wire type %d", errMessage, tag&7)
		}
	}
	return nil
}

func appendNumber(b []byte, field int, n uint64) []byte {
	if n == 0 {
		return b
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(field)<<3), n)
}

func appendBytes(b []byte, field int, text []byte) []byte {
	if len(text) == 0 {
		return b
	}
	return append(binary.AppendUvarint(binary.AppendUvarint(b, uint64(field)<<3|2), uint64(len(text))), text...)
}

func parseWanted(b []byte) (w wanted, err error) {
	var creds []byte
	err = fields(b, func(field int, n uint64, text []byte) {
		switch field {
		case fieldProtocol:
			w.protocol = n
		case fieldVersion:
			w.version = n
		case fieldTLS:
			w.tls = n != 0
		case fieldClientCert:
			w.clientCA = text
		case fieldReceiveLimit:
			w.limit = n
		case fieldCreds:
			creds = text
		}
	})
	if err != nil {
		return w, err
	}
	return w, fields(creds, func(field int, _ uint64, text []byte) {
		switch field {
		case fieldCert:
			w.cert = text
		case fieldKey:
			w.key = text
		}
	})
}

func (w *wanted) append() []byte {
	secure := uint64(0)
	if w.tls {
		secure = 1
	}
	b := appendNumber(nil, fieldProtocol, w.protocol)
	b = appendNumber(b, fieldVersion, w.version)
	b = appendNumber(b, fieldTLS, secure)
	b = appendBytes(b, fieldClientCert, w.clientCA)
	b = appendNumber(b, fieldReceiveLimit, w.limit)
	return appendBytes(b, fieldCreds, appendBytes(appendBytes(nil, fieldCert, w.cert), fieldKey, w.key))
}

func parseServed(b []byte) (s served, err error) {
	err = fields(b, func(field int, n uint64, text []byte) {
		switch field {
		case 1:
			s.host = string(text)
		case 2:
			s.port = n
		case 3:
			s.cert = text
		}
	})
	return s, err
}

func (s *served) append() []byte {
	return appendBytes(appendNumber(appendBytes(nil, 1, []byte(s.host)), 2, s.port), 3, s.cert)
}
