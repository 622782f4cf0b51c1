// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1"
	"postern.dev/postern/selfhosted/sibling"
	"postern.dev/postern/snapshot"
)

// ReadyPath tells whether there is a configuration to serve; request.StatusPath
// tells that the process lives. Both are the original's.
const ReadyPath = "/internal-status-0123456789abcdef"

// serve carries one connection.
func (g *Gateway) serve(c net.Conn, port uint16) {
	o := &snapshot.Origin{ServedBy: g.s.Name}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		o.Source = unmapped(a.AddrPort())
	}
	// The engine knows by the port whether a connection is in clear.
	local := netip.IPv4Unspecified()
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		local = a.AddrPort().Addr().Unmap()
	}
	o.Local = netip.AddrPortFrom(local, port)
	err := g.engine.ServeConn(context.Background(), c, o)
	if p, ok := errors.AsType[*h1.PanicError](err); ok {
		g.log.Error("RequestFailed", "from", o.Source, "panic", fmt.Sprint(p.Value), "stack", string(p.Stack))
	} else if err != nil {
		g.log.Debug("ConnectionEnded", "from", o.Source, "exception", err.Error())
	}
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

var (
	plainText  = []exchange.Field{{Name: "Content-Type", Value: "text/plain; charset=utf-8"}, {Name: "Cache-Control", Value: "no-store"}}
	jsonText   = []exchange.Field{{Name: "Content-Type", Value: "application/json"}, {Name: "Retry-After", Value: "5"}, {Name: "Cache-Control", Value: "no-store"}}
	sealedText = []exchange.Field{{Name: "Content-Type", Value: sibling.ContentType}, {Name: "Cache-Control", Value: "no-store"}}
)

// local answers what is asked of the process itself; and, as long as there is no
// configuration, everything else with 503.
func (g *Gateway) local(x *exchange.Exchange) bool {
	r := &x.Request
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		switch r.Path {
		case request.StatusPath:
			x.Reply(http.StatusOK, plainText, []byte("alive\n"))
			return true
		case ReadyPath:
			g.ready(x)
			return true
		case sibling.Path:
			g.answerSibling(x)
			return true
		case sibling.LimitsPath:
			g.answerLimits(x)
			return true
		}
	}
	if g.served.Load() != nil {
		return false
	}
	x.Reply(http.StatusServiceUnavailable, jsonText, []byte(`{"message":"This gateway has no configuration yet."}`))
	return true
}

func (g *Gateway) ready(x *exchange.Exchange) {
	switch {
	case g.leaving.Load():
		x.Reply(http.StatusServiceUnavailable, plainText, []byte("ending\n"))
	case g.served.Load() == nil:
		x.Reply(http.StatusServiceUnavailable, plainText, []byte("no configuration\n"))
	default:
		x.Reply(http.StatusOK, plainText, []byte("ready\n"))
	}
}

// siblingAnswers is how many documents are sealed for siblings in a minute.
const siblingAnswers = 120

// answerSibling gives the configuration to another instance. Who is none is sent
// away first: everybody who calls APIs can ask, and is not to use up what the
// instances may.
func (g *Gateway) answerSibling(x *exchange.Exchange) {
	s := g.served.Load()
	switch {
	case g.key == nil:
		x.Reply(http.StatusNotFound, plainText, nil)
		return
	case s == nil:
		x.Reply(http.StatusServiceUnavailable, plainText, nil)
		return
	}
	asked, err := g.key.Read(x.Request.Header.Get(sibling.Header))
	if err != nil {
		x.Reply(http.StatusForbidden, plainText, nil)
		g.log.Debug("SiblingRefused", "from", x.Origin.Source, "exception", err.Error())
		return
	}
	if !g.asked.step() {
		x.Reply(http.StatusTooManyRequests, plainText, nil)
		return
	}
	doc, err := s.doc.Encode()
	var sealed []byte
	if err == nil {
		sealed, err = asked.Answer(doc)
	}
	if err != nil {
		x.Reply(http.StatusInternalServerError, plainText, nil)
		g.log.Error("SiblingNotAnswered", "from", x.Origin.Source, "exception", err.Error())
		return
	}
	x.Reply(http.StatusOK, sealedText, sealed)
	g.log.Info("SiblingAnswered", "from", x.Origin.Source, "revision", s.doc.Revision)
}

// pace lets so many through in a minute.
type pace struct {
	each int
	now  func() time.Time

	mu    sync.Mutex
	since time.Time
	n     int
}

func newPace(each int, now func() time.Time) *pace { return &pace{each: each, now: now} }

func (p *pace) step() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.now(); now.Sub(p.since) >= time.Minute {
		p.since, p.n = now, 0
	}
	p.n++
	return p.n <= p.each
}
