// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"errors"
	"strings"
)

// FieldLoop tells which proxies a request has passed on its way (RFC 8586), and
// NameLoop is what Gateways call themselves there.
const (
	FieldLoop = "CDN-Loop"
	NameLoop  = "postern"
)

// MaxPasses bounds how many Gateways a request may pass. An API may call another
// one, and an API whose backend is itself must come to an end.
const MaxPasses = 16

// ErrLoop is why a request that has passed too many Gateways is not sent on; the
// answer is then ConfigurationError.
var ErrLoop = errors.New("the request has passed too many Gateways: its backend leads back to where it came from")

// Passes counts in a value of FieldLoop how many Gateways a request has passed.
func Passes(value string) int {
	n := 0
	for value != "" {
		var one string
		one, value, _ = strings.Cut(value, ",")
		one, _, _ = strings.Cut(one, ";") // parameters
		if strings.EqualFold(strings.Trim(one, " \t"), NameLoop) {
			n++
		}
	}
	return n
}
