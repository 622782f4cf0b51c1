// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"postern.dev/postern/configuration"
)

// Subscription is how a gateway asked for its stream.
type Subscription struct {
	Credential Credential
	// Instance names the process.
	Instance string
	// Hash is of what it has; empty for nothing.
	Hash string
	// Leave, if set, is called when the stream has ended.
	Leave func()
	// Begun is what was read from the connection already.
	Begun []byte
}

// Stream is one connection. It has one goroutine that reads, and one that
// writes while there is something to write.
type Stream struct {
	fleet      *Fleet
	gateway    *gateway
	conn       net.Conn
	credential Credential
	instance   string
	leave      func()

	mu      sync.Mutex
	writing bool // a goroutine writes
	again   bool // it has to look again
	closed  bool
	// acked is the hash of what the gateway has, sent of what is on its way,
	// failed of what it could not take although it was sent all of it.
	acked, sent, failed string
	whole               bool // what is on its way is the whole
	sentAt              time.Time
	heard, pinged       time.Time
	// What is owed: the first answer, a standing, a ping, an end.
	greet, standing, ping bool
	refuse                *configuration.Refuse
}

// kick has what is owed written.
func (s *Stream) kick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.again = true
	if s.writing || s.closed {
		return
	}
	s.writing = true
	s.fleet.wait.Add(1)
	go func() {
		defer s.fleet.wait.Done()
		s.write()
	}()
}

// end has the stream ended, and says why.
func (s *Stream) end(r *configuration.Refuse) {
	s.mu.Lock()
	if s.refuse == nil {
		s.refuse = r
		// Who writes to a gateway that does not read stops soon.
		_ = s.conn.SetWriteDeadline(time.Now().Add(endTimeout))
	}
	s.mu.Unlock()
	s.kick()
}

// endTimeout is how long the last frame may take.
const endTimeout = 2 * time.Second

// write writes what is owed until nothing is.
func (s *Stream) write() {
	for {
		b, last, err := s.next()
		if err != nil {
			s.fleet.opts.Log.Error("a frame for a self-hosted gateway cannot be made", "gateway", s.credential.For, "error", err)
			last = true
		}
		if b == nil && !last {
			return
		}
		if b != nil {
			if _, err := s.conn.Write(b); err != nil {
				last = true // the gateway has gone; reading finds that too
			}
		}
		if last {
			s.close()
			return
		}
	}
}

// next returns the next frame and whether it is the last; nil when nothing is
// owed.
func (s *Stream) next() (b []byte, last bool, err error) {
	for {
		newest, base := s.target()
		if b, last, err = s.choose(newest, base); b != nil || err != nil || !s.rest() {
			return b, last, err
		}
	}
}

// rest ends the writing, unless something happened since the stream was looked
// at last. It reports whether to look again.
func (s *Stream) rest() (again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = s.again && !s.closed
	return s.writing
}

// choose returns the frame that is owed most.
func (s *Stream) choose(newest, base *state) (b []byte, last bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, false, nil
	case s.refuse != nil:
		b, err = configuration.EncodeFrame(&configuration.Frame{Type: configuration.TypeRefuse, Refuse: s.refuse})
		return b, true, err
	case newest != nil && s.sent == "" && s.acked != newest.hash && s.failed != newest.hash:
		s.greet = false
		if b, err = newest.frame(base); err != nil {
			return nil, false, err
		}
		s.sent, s.sentAt, s.whole = newest.hash, s.fleet.opts.Now(), base == nil
	case s.greet && newest != nil:
		s.greet = false
		b, err = configuration.EncodeFrame(&configuration.Frame{Type: configuration.TypeCurrent, Current: &configuration.Current{Revision: newest.doc.Revision, Hash: newest.hash}})
	case s.standing:
		s.standing = false
		b, err = configuration.EncodeFrame(&configuration.Frame{Type: configuration.TypeStanding, Standing: s.fleet.standing(s.credential, newest)})
	case s.ping:
		s.ping = false
		b, err = configuration.EncodeFrame(&configuration.Frame{Type: configuration.TypePing})
	default:
		return nil, false, nil
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeTimeout + time.Duration(len(b)/writeRate)*time.Second))
	return b, false, err
}

// target returns what the gateway is to have and the state of what it has, nil
// if that is not remembered.
func (s *Stream) target() (newest, base *state) {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	s.mu.Lock()
	acked := s.acked
	s.again = false
	s.mu.Unlock()
	for _, x := range s.gateway.states {
		if x.hash == acked {
			base = x
		}
	}
	return s.gateway.newest(), base
}

// close ends the stream; it is done once.
func (s *Stream) close() {
	s.mu.Lock()
	was := s.closed
	s.closed, s.writing = true, false
	s.mu.Unlock()
	if was {
		return
	}
	_ = s.conn.Close() // the gateway finds the same
	f := s.fleet
	f.mu.Lock()
	delete(s.gateway.streams, s)
	f.connected(s, -1)
	f.mu.Unlock()
	if s.leave != nil {
		s.leave()
	}
}

// silence is how long a gateway may say nothing.
const silence = 3 * configuration.PingEvery

// receive reads what the gateway sends until it ends.
func (s *Stream) receive(begun []byte) {
	var from io.Reader = s.conn
	if len(begun) > 0 {
		from = io.MultiReader(bytes.NewReader(begun), s.conn)
	}
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
			break
		}
		fr, err := configuration.ReadFrame(from, configuration.MaxReply)
		var net net.Error
		switch {
		case err == nil:
			s.take(fr)
			continue
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &net):
		default:
			s.fleet.opts.Log.Warn("a self-hosted gateway sent what makes no sense", "gateway", s.credential.For, "instance", s.instance, "error", err)
			s.end(&configuration.Refuse{Code: configuration.RefuseProtocol, Message: "the frame cannot be read: " + err.Error()})
			return
		}
		break
	}
	s.close()
}

// take does what a frame asks for.
func (s *Stream) take(fr *configuration.Frame) {
	now := s.fleet.opts.Now()
	s.mu.Lock()
	s.heard = now
	switch fr.Type {
	case configuration.TypeAck:
		s.acknowledged(fr.Ack)
	case configuration.TypeHeartbeat:
		s.standing = true
	}
	s.mu.Unlock()
	switch fr.Type {
	case configuration.TypeAck:
		s.fleet.served(s, fr.Ack, now)
	case configuration.TypeHeartbeat:
		fr.Heartbeat.Instance = s.instance // as it introduced itself
		s.fleet.Heard(s.credential, *fr.Heartbeat, "v2")
	default:
		s.fleet.seen(s, now)
	}
	s.kick()
}

// acknowledged notes what the gateway has; under mu.
func (s *Stream) acknowledged(a *configuration.Ack) {
	if a.Error == "" {
		s.acked, s.failed = a.Hash, ""
		if a.Hash == s.sent {
			s.sent = ""
		}
		return
	}
	// A difference that could not be taken is followed by the whole; that, if it
	// could not be taken, by nothing until there is something new.
	if s.whole {
		s.failed = s.sent
		s.acked = a.Hash
	} else {
		s.acked = ""
	}
	s.sent = ""
}

// tick does what time asks for.
func (s *Stream) tick(now time.Time) {
	if e := s.credential.Expires; !e.IsZero() && !now.Before(e) {
		s.end(&configuration.Refuse{Code: configuration.RefuseExpired, Message: "the token has expired at " + e.UTC().Format(time.RFC3339) + "; make one with postern token create --role selfhosted --for " + s.credential.For})
		return
	}
	s.mu.Lock()
	slow := s.sent != "" && now.Sub(s.sentAt) > ackTimeout
	due := now.Sub(s.pinged) >= configuration.PingEvery
	if due {
		s.pinged, s.ping = now, true
	}
	s.mu.Unlock()
	switch {
	case slow:
		s.end(&configuration.Refuse{Code: configuration.RefuseSlow, Message: "what was sent was not acknowledged", RetryAfter: Spread(0)})
	case due:
		s.kick()
	}
}
