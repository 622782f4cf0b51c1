// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"postern.dev/postern/decide/name"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/snapshot"
)

// question is a request that has happened, asked again. It names the address
// that was called where the name does not lead the caller there: callers may
// know addresses by other ways than ours. subscription is the one whose key was
// shown; of the key itself nothing is remembered.
func question(s *snapshot.Snapshot, r gateway.Record, subscription string) answer.Question {
	q := answer.Question{From: "internet/" + r.Origin.Source.Addr().String(), Method: r.Method, Insecure: true, ClientCertSubject: r.ClientCertSubject}
	switch {
	case r.Origin.Host != "":
		q.From = "host/" + r.Origin.Host
	case r.Origin.Gateway != "":
		q.From = "gateway/" + r.Origin.Gateway
	case r.Origin.Link != "":
		q.From = "link/" + r.Origin.Link + "/" + r.Origin.Source.Addr().String()
	}
	scheme, asked, port := "http", r.Host, ""
	if r.TLS {
		scheme, asked = "https", firstOf(r.SNI, r.Host)
	}
	if p := r.Origin.Local.Port(); p != 80 && p != 443 {
		port = strconv.Itoa(int(p))
	}
	local := r.Origin.Local.Addr().Unmap()
	switch {
	case request.Shared(s, &r.Origin) && asked != "":
		// A real socket is shared by all Gateways: the name told which was called,
		// and the address says nothing.
	case asked == "", r.TLS && r.SNI == "":
		asked = local.String()
	case !leadsTo(s, r.Origin.Network, hostname(asked), local):
		if _, err := netip.ParseAddr(hostname(asked)); err == nil {
			asked = local.String()
		} else {
			q.ConnectTo = local.String()
		}
	}
	authority := hostname(asked)
	if port != "" {
		authority = net.JoinHostPort(authority, port)
	} else if strings.Contains(authority, ":") {
		authority = "[" + authority + "]"
	}
	q.URL = scheme + "://" + authority + r.Path
	add := func(name, value string, sent bool) {
		if sent {
			q.Headers = append(q.Headers, answer.Header{Name: name, Value: value})
		}
	}
	add("host", r.Host, r.Host != authority)
	add("x-apigw-api-id", r.APIID, r.HasAPIID)
	if s.Subscriptions[subscription] != nil {
		q.KeyOf = subscription
	}
	add("x-api-key", "redacted", r.HasKey) // keys are not remembered, only that there was one
	add("x-http-method-override", r.Override, r.Override != "")
	add("user-agent", r.UserAgent, r.UserAgent != "")
	add("referer", r.Referer, r.Referer != "")
	add("x-forwarded-for", r.ForwardedFor, r.ForwardedFor != "")
	return q
}

// leadsTo tells whether a caller in network, or on the internet, finds addr
// under a name.
func leadsTo(s *snapshot.Snapshot, network, host string, addr netip.Addr) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap() == addr
	}
	typ := snapshot.TypeA
	if addr.Is6() {
		typ = snapshot.TypeAAAA
	}
	v := name.Resolve(s, name.View(s, s.Networks[network]), host, typ)
	return slices.Contains(v.Addrs, addr)
}

// hostname is an authority without its port.
func hostname(authority string) string {
	if h, _, err := net.SplitHostPort(authority); err == nil {
		return h
	}
	return strings.Trim(authority, "[]")
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// difference says how an explanation differs from what became of a request:
// another revision may be explained than it met, and a backend that was taken
// to answer may not have.
func difference(r gateway.Record, a *answer.Answer) string {
	if agrees(r, a) {
		return ""
	}
	what := fmt.Sprintf("the request met %s and was answered status %d; the explanation says %s, %s", r.Code, r.Status, a.Verdict, a.Code)
	switch {
	case r.Revision != a.Revision:
		return fmt.Sprintf("%s: it is of revision %d, and the request met revision %d", what, a.Revision, r.Revision)
	case a.Verdict == answer.Allow && strings.HasPrefix(r.Code, "backend/"):
		return what + ": it takes for granted that the backend answers, which it did not; what was recorded is what happened"
	}
	return what + "; what was recorded is what happened"
}

// agrees tells whether an explanation is of what became of a request.
func agrees(r gateway.Record, a *answer.Answer) bool {
	switch {
	case a.Symptom.Status != 0 && a.Symptom.Status != r.Status:
		return false
	case r.Code == a.Code:
		return true
	case a.Code == request.CodeBackendNone && r.Code == request.CodeBackendOK && a.Symptom.Status == r.Status:
		// Of a circle, the last Gateway finds that it is one; to those before it the
		// one after is a backend that answers.
		return true
	}
	return a.Verdict == answer.Allow && (a.Symptom.Status != 0 || r.Code == request.CodeAccepted)
}
