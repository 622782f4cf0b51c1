// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package grammar

import (
	"net/netip"
	"strings"

	"postern.dev/postern/engine/gateway/exchange"
)

// SetTarget reads a request target into Target, Path and RawQuery. For an absolute target it also returns the scheme
// and authority that it names. Engines of other versions of HTTP use it for :path.
func SetTarget(r *exchange.Request, target string) (scheme, authority string, err *Error) {
	r.Target = target
	switch {
	case target == "":
		return "", "", ErrTarget
	case target[0] == '/':
	case target == "*":
		if r.Method != "OPTIONS" {
			return "", "", ErrTarget
		}
		r.Path = target
		return "", "", nil
	default:
		i := strings.Index(target, "://")
		if i < 0 {
			return "", "", ErrTarget
		}
		switch {
		case fold(target[:i], "http"):
			scheme = "http"
		case fold(target[:i], "https"):
			scheme = "https"
		default:
			return "", "", ErrTarget
		}
		authority = target[i+3:]
		target = ""
		if j := strings.IndexAny(authority, "/?"); j >= 0 {
			authority, target = authority[:j], authority[j:]
		}
		if !ValidAuthority(authority) {
			return "", "", ErrHostInvalid
		}
	}
	r.Path = target
	if q := strings.IndexByte(target, '?'); q >= 0 {
		r.Path, r.RawQuery, r.HasQuery = target[:q], target[q+1:], true
	}
	if r.Path == "" { // only of an absolute target
		r.Path = "/"
	}
	if !encoded(r.Path, isPath) || !encoded(r.RawQuery, isQuery) {
		return "", "", ErrTarget
	}
	return scheme, authority, nil
}

// ValidAuthority reports whether a is a host name, IPv4 address or bracketed IPv6 address with an optional port. Names
// are letters, digits, "-", "_" and "." alone: what else a URI allows, recipients read differently.
func ValidAuthority(a string) bool {
	host, port, hasPort := a, "", false
	if len(a) > 0 && a[0] == '[' {
		i := strings.IndexByte(a, ']')
		if i < 0 {
			return false
		}
		host = a[1:i]
		if rest := a[i+1:]; rest != "" {
			if rest[0] != ':' {
				return false
			}
			port, hasPort = rest[1:], true
		}
		for i := 0; i < len(host); i++ { // a zone would be an address of ours, not of the client's
			if host[i] != ':' && host[i] != '.' && class[host[i]]&isHex == 0 {
				return false
			}
		}
		ip, err := netip.ParseAddr(host)
		if err != nil || !ip.Is6() {
			return false
		}
	} else {
		if i := strings.IndexByte(a, ':'); i >= 0 {
			host, port, hasPort = a[:i], a[i+1:], true
		}
		if len(host) == 0 || len(host) > 255 || host[0] == '.' || !all(host, isName) || strings.Contains(host, "..") {
			return false
		}
	}
	if !hasPort {
		return true
	}
	n, ok := decimal(port)
	return ok && len(port) <= 5 && n > 0 && n <= 65535
}
