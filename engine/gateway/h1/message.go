// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
)

// Instead makes the response that a request gets which the engine itself answers. Engines of other versions of HTTP
// answer the same.
func Instead(e *exchange.Exchange, why *grammar.Error) {
	e.Reply(why.Status, jsonType, messages[why.Status])
}

// WithDefaults returns t with the defaults filled in.
func (t Timeouts) WithDefaults() Timeouts { return t.withDefaults() }

// NewPanicError is what became of a handler that panicked.
func NewPanicError(value any, stack []byte) *PanicError { return &PanicError{value, stack} }
