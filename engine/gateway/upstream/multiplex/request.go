// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package multiplex

import (
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/engine/gateway/upstream"
)

// request makes the request that is sent. It can say nothing that the grammar would not let a request over HTTP/1.1 say:
// the backend may hand it on to one.
func request(in *upstream.Call, e *exchange.Exchange) (*http.Request, error) {
	o := grammar.Outgoing{
		Method: in.Method, Path: in.Path, RawQuery: in.RawQuery, Authority: in.Authority, Header: in.Header,
		Length: e.Request.Length,
	}
	if o.Method == "" {
		o.Method = e.Request.Method
	}
	if o.Path == "" {
		o.Path, o.RawQuery, o.HasQuery = e.Request.Path, e.Request.RawQuery, e.Request.HasQuery
	}
	if o.Authority == "" {
		o.Authority = authority(in.Target)
	}
	if o.Header == nil {
		o.Header = &e.Request.Header
	}
	if _, err := grammar.AppendRequest(nil, &o); err != nil {
		return nil, err
	}
	scheme := "http"
	if secure(in.Target) {
		scheme = "https"
	}
	// The strings are views of memory that the client's connection may use again before the last frame is out.
	h := make(http.Header, o.Header.Len()+2)
	for i := range o.Header.Len() {
		f := o.Header.At(i)
		name := http.CanonicalHeaderKey(strings.Clone(f.Name))
		if !hop(name) && name != "Host" && name != "Content-Length" {
			h[name] = append(h[name], strings.Clone(f.Value))
		}
	}
	if _, said := h["User-Agent"]; !said {
		h["User-Agent"] = []string{""} // not the transport's own
	}
	if e.Request.AcceptsTrailers || in.Target.Scheme == GRPC || in.Target.Scheme == GRPCS || speaksGRPC(h.Get("Content-Type")) {
		h["Te"] = []string{"trailers"}
	}
	host := strings.Clone(o.Authority)
	return &http.Request{
		Method: strings.Clone(o.Method),
		URL: &url.URL{
			Scheme: scheme, Host: host,
			// The path goes out as it is written, not decoded and written anew.
			Opaque:   "//" + host + strings.Clone(o.Path),
			RawQuery: strings.Clone(o.RawQuery), ForceQuery: o.HasQuery,
		},
		Host: host, Header: h, ContentLength: o.Length,
		Proto: "HTTP/2.0", ProtoMajor: 2,
	}, nil
}

// hop tells whether a field is about a connection of HTTP/1.1, by its canonical name.
func hop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect":
		return true
	}
	return false
}

// maxAnnounced bounds the trailers that are announced. What is not may come all the same.
const maxAnnounced = 32

// announced holds a place for each trailer that the client announces. The transport tells the backend of them; some
// servers drop all others.
func announced(names string) http.Header {
	h := http.Header{}
	for name := range strings.SplitSeq(names, ",") {
		name = strings.Trim(name, " \t")
		if name == "" || grammar.SentTrailer(exchange.Field{Name: name}) != nil {
			continue
		}
		if len(h) == maxAnnounced {
			break
		}
		h[http.CanonicalHeaderKey(strings.Clone(name))] = nil
	}
	return h
}

// sorted lists the names of fields in an order that is always the same.
func sorted(h http.Header) []string { return slices.Sorted(maps.Keys(h)) }

func hostPort(t upstream.Target) string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }

// authority is a target's :authority: the port is left out where it is the scheme's own.
func authority(t upstream.Target) string {
	own := uint16(80)
	if secure(t) {
		own = 443
	}
	switch {
	case t.Port != own:
		return hostPort(t)
	case strings.IndexByte(t.Host, ':') >= 0:
		return "[" + t.Host + "]"
	}
	return t.Host
}

// Needed tells whether a request can only be carried by HTTP/2: one of gRPC, and one of Connect's streams, whose two
// directions may be under way at once. Other requests to an https target go over HTTP/1.1, which costs less.
func Needed(contentType string) bool {
	return speaksGRPC(contentType) || has(contentType, "application/connect+")
}

// speaksGRPC tells whether a media type is gRPC's, and not that of gRPC-Web, which HTTP/1.1 carries as well.
func speaksGRPC(contentType string) bool {
	const media = "application/grpc"
	if !has(contentType, media) {
		return false
	}
	rest := contentType[len(media):]
	return rest == "" || rest[0] == '+' || rest[0] == ';' || rest[0] == ' '
}

// streams tells whether a call is a stream: every one to a target of gRPC, and those whose request says so.
func streams(t upstream.Target, h http.Header) bool {
	return t.Scheme == GRPC || t.Scheme == GRPCS || upstream.Streams(h.Get("Content-Type"))
}

func has(contentType, prefix string) bool {
	return len(contentType) >= len(prefix) && exchange.EqualFold(contentType[:len(prefix)], prefix)
}
