// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package configuration

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Type says what a Frame carries.
type Type string

// The types of frames. The management plane sends document, delta, current,
// standing, ping and refuse; the gateway ack, heartbeat and pong.
const (
	// TypeDocument carries all that is assigned.
	TypeDocument Type = "document"
	// TypeDelta carries the difference from what the gateway has.
	TypeDelta Type = "delta"
	// TypeCurrent says that what the gateway resumed from is what is assigned;
	// it is acknowledged like a delta.
	TypeCurrent Type = "current"
	// TypeAck says what the gateway serves now.
	TypeAck Type = "ack"
	// TypeHeartbeat says how the gateway is; it is answered by standing.
	TypeHeartbeat Type = "heartbeat"
	// TypeStanding says how long the gateway's token is valid.
	TypeStanding Type = "standing"
	// TypePing is answered by pong.
	TypePing Type = "ping"
	TypePong Type = "pong"
	// TypeRefuse ends the connection and says why.
	TypeRefuse Type = "refuse"
)

// Frame is one message of protocol v2: four bytes of length, big endian, and
// JSON.
type Frame struct {
	Type      Type       `json:"type"`
	Document  *Document  `json:"document,omitempty"`
	Delta     *Delta     `json:"delta,omitempty"`
	Current   *Current   `json:"current,omitempty"`
	Ack       *Ack       `json:"ack,omitempty"`
	Heartbeat *Heartbeat `json:"heartbeat,omitempty"`
	Standing  *Standing  `json:"standing,omitempty"`
	Refuse    *Refuse    `json:"refuse,omitempty"`
}

// Current names what is assigned.
type Current struct {
	Revision int64  `json:"revision"`
	Hash     string `json:"hash"`
}

// Ack says what a gateway serves after a document, delta or current.
type Ack struct {
	Revision int64  `json:"revision"`
	Hash     string `json:"hash"`
	// Error says why the gateway could not take what it was sent; it goes on
	// with what Hash names, and wants the whole document.
	Error string `json:"error,omitempty"`
}

// Heartbeat says how one instance of a gateway is. It is the body of protocol
// v1's heartbeat too.
type Heartbeat struct {
	// Version is the gateway's.
	Version string `json:"version"`
	// Instance is the name of the process, unique among its siblings.
	Instance string `json:"instance"`
	// Revision and Hash are what it serves; 0 and empty for nothing.
	Revision int64  `json:"revision"`
	Hash     string `json:"hash,omitempty"`
	// Age is for how many seconds the management plane had not confirmed that.
	Age int64 `json:"age"`
	// Source is where the configuration came from: plane, backup or sibling.
	Source string `json:"source,omitempty"`
	// LastError is the last thing that went wrong on the way to the management
	// plane or with what came from there; empty if nothing has since.
	LastError string `json:"lastError,omitempty"`
}

// Standing answers a Heartbeat. It is protocol v1's answer too.
type Standing struct {
	// Revision and Hash are what the gateway is assigned.
	Revision int64  `json:"revision"`
	Hash     string `json:"hash"`
	// Expires is when the token, or the certificate, ends.
	Expires time.Time `json:"expires,omitzero"`
	// Warning is a sentence for the log when that is near.
	Warning string `json:"warning,omitempty"`
}

// Codes of Refuse.
const (
	RefuseToken    = "token"    // not known, signed by a key that was changed, or revoked
	RefuseExpired  = "expired"  // the token's time is over
	RefuseDeleted  = "deleted"  // there is no such SelfHostedGateway any more
	RefuseBusy     = "busy"     // too many gateways at this moment
	RefuseClosing  = "closing"  // the management plane ends or restarts
	RefuseProtocol = "protocol" // the gateway sent what makes no sense
	RefuseSlow     = "slow"     // the gateway did not take or answer what it was sent
)

// Refuse says why a connection ends.
type Refuse struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// RetryAfter is how many seconds to wait before the next attempt, at least;
	// 0 leaves that to the gateway.
	RetryAfter int `json:"retryAfter,omitempty"`
}

const (
	// MaxFrame bounds a frame to a gateway, which may hold a whole document.
	MaxFrame = 64 << 20
	// MaxReply bounds a frame from a gateway.
	MaxReply = 16 << 10
)

// EncodeFrame writes f with its length. What it returns may be sent to many.
func EncodeFrame(f *Frame) ([]byte, error) {
	body, err := encode(f)
	if err != nil {
		return nil, err
	}
	if len(body) > MaxFrame {
		return nil, fmt.Errorf("configuration: a %s frame of %d bytes is larger than %d", f.Type, len(body), MaxFrame)
	}
	out := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(out, uint32(len(body)))
	return append(out, body...), nil
}

// WriteFrame sends one frame.
func WriteFrame(w io.Writer, f *Frame) error {
	b, err := EncodeFrame(f)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// TooLargeError says that a frame was announced that is larger than its
// receiver takes.
type TooLargeError struct{ Length, Max int }

// Error tells both lengths.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("configuration: a frame of %d bytes is larger than %d", e.Length, e.Max)
}

// ReadFrame receives one frame of at most limit bytes. It reads no byte beyond
// it. io.EOF means that the other side ended between frames.
func ReadFrame(r io.Reader, limit int) (*Frame, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n > limit {
		return nil, &TooLargeError{n, limit}
	}
	// The announced length is believed as it is filled: who only announces much
	// costs nothing.
	body, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return nil, err
	}
	if len(body) < n {
		return nil, io.ErrUnexpectedEOF
	}
	f := &Frame{}
	if err := json.Unmarshal(body, f); err != nil {
		return nil, fmt.Errorf("configuration: a frame does not parse: %w", err)
	}
	return f, f.check()
}

// check fails unless f carries what its type says. Types that this version
// does not know pass, for the receiver to ignore.
func (f *Frame) check() error {
	ok := true
	switch f.Type {
	case TypeDocument:
		if ok = f.Document != nil; ok {
			return f.Document.check()
		}
	case TypeDelta:
		ok = f.Delta != nil
	case TypeCurrent:
		ok = f.Current != nil
	case TypeAck:
		ok = f.Ack != nil
	case TypeHeartbeat:
		ok = f.Heartbeat != nil
	case TypeStanding:
		ok = f.Standing != nil
	case TypeRefuse:
		ok = f.Refuse != nil
	}
	if !ok {
		return fmt.Errorf("configuration: a %s frame is empty", f.Type)
	}
	return nil
}
