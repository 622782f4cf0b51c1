// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package grammar

import (
	"bytes"
	"io"

	"postern.dev/postern/engine/gateway/exchange"
)

// Kind is how the end of a body is found.
type Kind uint8

// The three framings of RFC 9112 6.3.
const (
	Sized Kind = iota
	Chunked
	UntilClose
)

type stage uint8

const (
	atSize stage = iota
	inData
	atDataEnd
	atTrailer
	atEnd
)

const (
	maxChunkLine = 256     // a chunk size and its extensions
	maxChunkExts = 4 << 10 // all extensions of a body
	maxSizeHex   = 15      // more digits could not be told from an overflow
)

// Body reads one message body from a Source. Its errors stick. They are io.EOF, io.ErrUnexpectedEOF, *Error, or what
// the connection said.
type Body struct {
	src     *Source
	kind    Kind
	stage   stage
	left    int64 // of the body, or of the chunk
	taken   int64
	seen    int64 // announced by chunk sizes
	exts    int
	limits  *Limits
	trailer *exchange.Header
	err     error
}

// Reset makes b ready for a body of the given kind; length counts for Sized alone. The trailer section of a chunked
// body is added to trailer.
func (b *Body) Reset(src *Source, kind Kind, length int64, l *Limits, trailer *exchange.Header) {
	*b = Body{src: src, kind: kind, limits: l, trailer: trailer}
	switch kind {
	case Sized:
		b.left = length
		b.stage = inData
		if length == 0 {
			b.stage, b.err = atEnd, io.EOF
		} else if l.Body >= 0 && length > l.Body {
			b.err = ErrBodyTooLarge
		}
	case UntilClose:
		b.stage = inData
	}
}

// Done reports whether the body has been read to its end.
func (b *Body) Done() bool { return b.stage == atEnd }

// Taken reports how many bytes have been read.
func (b *Body) Taken() int64 { return b.taken }

// Left reports how many bytes of a Sized body are still to be read, and -1 where nobody knows.
func (b *Body) Left() int64 {
	if b.kind != Sized && b.stage != atEnd {
		return -1
	}
	return b.left
}

// Direct reports how many bytes are next on the connection that are the body's own, with nothing buffered before them. Who
// reads them past the Source says so with Took.
func (b *Body) Direct() int64 {
	if b.kind != Sized || b.err != nil || b.src.Buffered() > 0 {
		return 0
	}
	return b.left
}

// Took counts n of the Direct bytes as read.
func (b *Body) Took(n int) {
	b.taken += int64(n)
	b.left -= int64(n)
	if b.left == 0 {
		b.stage, b.err = atEnd, io.EOF
	}
}

// Buffered reports how many bytes can about be read without waiting.
func (b *Body) Buffered() int {
	n := b.src.Buffered()
	switch {
	case b.stage == atEnd || n == 0:
		return 0
	case b.kind == Chunked && b.stage != inData:
		i := bytes.IndexByte(b.src.buf[b.src.pos:b.src.end], '\n')
		if i < 0 {
			return 0
		}
		return n - i - 1
	case b.kind == UntilClose:
		return n
	}
	return int(min(int64(n), b.left))
}

// Read reads the body's data, without its framing. It waits for the connection only when it has nothing to return.
func (b *Body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.read(p)
	b.taken += int64(n)
	b.err = err
	return n, err
}

func (b *Body) read(p []byte) (n int, err error) {
	switch b.kind {
	case Chunked:
		return b.readChunks(p)
	case UntilClose:
		if b.limits.Body >= 0 {
			if b.taken >= b.limits.Body { // one byte more tells whether that was the end
				var one [1]byte
				if n, err := b.data(one[:]); n > 0 {
					return 0, ErrBodyTooLarge
				} else if err != nil {
					return 0, b.closed(err)
				}
				return 0, nil
			}
			p = p[:min(int64(len(p)), b.limits.Body-b.taken)]
		}
		n, err = b.data(p)
		return n, b.closed(err)
	}
	n, err = b.data(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if b.left == 0 {
		b.stage = atEnd
		return n, io.EOF
	}
	return n, unexpected(err)
}

func (b *Body) closed(err error) error {
	if err == io.EOF {
		b.stage = atEnd
	}
	return err
}

// data moves bytes from the buffer or, when that is empty, from the connection; big reads skip the buffer.
func (b *Body) data(p []byte) (int, error) {
	s := b.src
	if s.pos == s.end {
		if len(p) >= minRoom {
			n, err := s.r.Read(p)
			if n > 0 {
				err = nil // it will be met again
			}
			return n, err
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.buf[s.pos:s.end])
	s.pos += n
	return n, nil
}

func (b *Body) readChunks(p []byte) (n int, err error) {
	for {
		if b.stage == inData {
			if n > 0 && b.src.Buffered() == 0 {
				return n, nil
			}
			m, err := b.data(p[n:min(int64(len(p)), int64(n)+b.left)])
			n += m
			b.left -= int64(m)
			if err != nil {
				return n, unexpected(err)
			}
			if b.left == 0 {
				b.stage = atDataEnd
			}
			if n == len(p) && b.stage == inData {
				return n, nil
			}
			continue
		}
		ok, err := b.frame(n == 0)
		if err != nil || !ok {
			return n, unexpected(err)
		}
		if b.stage == atEnd {
			return n, io.EOF
		}
		if n == len(p) {
			return n, nil
		}
	}
}

// frame reads the next piece of framing. Without wait it only does what the buffer holds already.
func (b *Body) frame(wait bool) (ok bool, err error) {
	switch b.stage {
	case atDataEnd:
		l, ok, err := b.src.line(0, wait)
		if !ok || err != nil {
			if err == errLong {
				err = ErrChunkEnd
			}
			return ok, err
		}
		if len(l) != 0 {
			return false, ErrChunkEnd
		}
		b.stage = atSize
	case atSize:
		l, ok, err := b.src.line(maxChunkLine, wait)
		if !ok || err != nil {
			if err == errLong {
				err = ErrChunkSize
			}
			return ok, err
		}
		size, err := b.size(l)
		if err != nil {
			return false, err
		}
		if size == 0 {
			b.stage = atTrailer
			break
		}
		if b.limits.Body >= 0 && size > b.limits.Body-b.seen {
			return false, ErrBodyTooLarge
		}
		b.seen += size
		b.left, b.stage = size, inData
	case atTrailer:
		sec, ok, err := b.src.section(b.limits.Fields, wait)
		if !ok || err != nil {
			return ok, err
		}
		if err := readTrailer(sec, b.trailer, b.limits.Count); err != nil {
			return false, err
		}
		b.stage = atEnd
	}
	return true, nil
}

// size reads chunk-size and checks chunk-ext.
func (b *Body) size(l []byte) (int64, error) {
	var n int64
	i := 0
	for i < len(l) && class[l[i]]&isHex != 0 {
		if i == maxSizeHex {
			return 0, ErrChunkSize
		}
		c := l[i]
		d := int64(c - '0')
		if c > '9' {
			d = int64(c|0x20-'a') + 10
		}
		n = n<<4 | d
		i++
	}
	if i == 0 {
		return 0, ErrChunkSize
	}
	if i == len(l) {
		return n, nil
	}
	if l[i] != ';' {
		return 0, ErrChunkSize
	}
	b.exts += len(l) - i
	if b.exts > maxChunkExts || !chunkExt(l[i:]) {
		return 0, ErrChunkExt
	}
	return n, nil
}

// chunkExt checks *( ";" token [ "=" ( token / quoted-string ) ] ). The white space that RFC 9112 only tolerates is
// not tolerated.
func chunkExt(l []byte) bool {
	token := func() bool {
		i := 0
		for i < len(l) && class[l[i]]&isToken != 0 {
			i++
		}
		l = l[i:]
		return i > 0
	}
	for len(l) > 0 {
		if l[0] != ';' {
			return false
		}
		l = l[1:]
		if !token() {
			return false
		}
		if len(l) == 0 || l[0] != '=' {
			continue
		}
		l = l[1:]
		if len(l) == 0 || l[0] != '"' {
			if !token() {
				return false
			}
			continue
		}
		l = l[1:]
		for {
			switch {
			case len(l) == 0:
				return false
			case l[0] == '"':
			case l[0] == '\\' && len(l) > 1 && class[l[1]]&isValue != 0:
				l = l[2:]
				continue
			case class[l[0]]&isQuoted != 0 || l[0] == '\t' || l[0] >= 0x80:
				l = l[1:]
				continue
			default:
				return false
			}
			l = l[1:]
			break
		}
	}
	return true
}

// readTrailer reads a trailer section. Fields that frame or route a message have no business there.
func readTrailer(sec []byte, h *exchange.Header, maxCount int) *Error {
	for n := 0; len(sec) > 0; n++ {
		if n >= maxCount {
			return ErrTooManyFields
		}
		l, rest, err := line(sec)
		if err != nil {
			return err
		}
		sec = rest
		name, value, err := field(l)
		if err != nil {
			return err
		}
		if !TrailerAllowed(name) {
			return ErrTrailerField
		}
		h.Add(name, value)
	}
	return nil
}

// TrailerAllowed reports whether a field of this name can stand in a trailer section (RFC 9110 6.5.1).
func TrailerAllowed(name string) bool {
	switch which(name) {
	case other, fieldDate:
	default:
		return false
	}
	for _, n := range [...]string{
		"authorization", "cache-control", "content-encoding", "content-range", "content-type", "cookie", "forwarded",
		"max-forwards", "proxy-authorization", "range", "set-cookie", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
	} {
		if fold(name, n) {
			return false
		}
	}
	return true
}

// unexpected makes an end of the connection within a message what it is.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
