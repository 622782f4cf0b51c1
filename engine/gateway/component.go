// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"html"
	"net"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/snapshot"
)

// opened sees a connection before its first request. It serves those of the
// components that others answer for.
func (e *Engine) opened(ctx context.Context, nc net.Conn, x *exchange.Exchange) bool {
	st := e.state(x)
	st.component = snapshot.ComponentGateway
	t, ok := nc.(*tls.Conn)
	if !ok {
		return false
	}
	v, ok := t.NetConn().(*vouched)
	if !ok || v.component == "" {
		return true // a challenge was answered by the handshake
	}
	st.component, st.admitted = v.component, v.gateway
	st.show(x.TLS, v)
	switch serve := e.serves(v.component); {
	case serve == nil:
		return e.speak(ctx, t, v, x)
	default:
		serve(ctx, nc, x.Origin)
		return true
	}
}

// serves is what another serves a component with; nil if this engine does.
func (e *Engine) serves(c snapshot.Component) func(context.Context, net.Conn, *snapshot.Origin) {
	switch c {
	case snapshot.ComponentManagement:
		return e.o.Management
	case snapshot.ComponentConfiguration:
		return e.o.Configuration
	}
	return nil
}

// able reports whether anybody serves a component.
func (e *Engine) able(c snapshot.Component) bool {
	switch c {
	case snapshot.ComponentManagement, snapshot.ComponentConfiguration:
		return e.serves(c) != nil
	}
	return true
}

// admit asks once a connection to a real socket whether the flow would have been
// let through to g, which a name has told.
func (st *state) admit(s *snapshot.Snapshot, g *snapshot.Gateway, o *snapshot.Origin) bool {
	if st.admitted == g.Name {
		return true
	}
	v := request.Admitted(s, g, st.component, o)
	if !v.Allowed() {
		return false
	}
	st.admitted = g.Name
	return true
}

// reset closes a connection so that its caller sees it refused.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0) // else it is closed in the usual way
	}
	_ = c.Close()
}

// listens is request.Listens, asked once a connection and snapshot.
func (st *state) listens(s *snapshot.Snapshot, g *snapshot.Gateway, o *snapshot.Origin) snapshot.Components {
	if st.listening != g {
		st.listening, st.components = g, request.Listens(s, g, o)
	}
	return st.components
}

// page answers for the components whose contents are not part of this version.
func (e *Engine) page(x *exchange.Exchange, st *state, g *snapshot.Gateway) {
	what := "developer portal"
	if st.component == snapshot.ComponentSCM {
		what = "Git repository"
	}
	status, text := request.Page(g, st.component, x.Request.Host, x.Request.Method, x.Request.Path), "There is nothing here."
	if status == 200 {
		text = fmt.Sprintf("This is the %s of Gateway %s. The %[1]s is not part of this version of Postern.", what, html.EscapeString(g.Name))
	}
	body := "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>" + html.EscapeString(g.Name) + ": " + what + "</title><p>" + text + "</p></html>\n"
	x.Reply(status, pageFields, []byte(body))
	st.identify(x)
}

var pageFields = []exchange.Field{
	{Name: "Content-Type", Value: "text/html; charset=utf-8"},
	{Name: "Content-Security-Policy", Value: "default-src 'none'"},
	{Name: "X-Content-Type-Options", Value: "nosniff"},
}
