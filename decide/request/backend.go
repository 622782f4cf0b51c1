// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/name"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
)

// The codes of the backend layer.
const (
	CodeBackendOK        = "backend/ok"
	CodeBackendUnhealthy = "backend/unhealthy"
	CodeBackendRefused   = "backend/refused"
	CodeBackendTimeout   = "backend/timeout"
	CodeBackendTLS       = "backend/tls"
	// CodeBackendNone is the code of an operation that leads nowhere.
	CodeBackendNone = "backend/none"
)

// ConnectTimeout bounds the making of a connection to a backend, apart from what
// bounds the whole call.
const ConnectTimeout = 10 * time.Second

// DefaultTimeout bounds a call where neither the operation nor its Backend does.
const DefaultTimeout = 29 * time.Second

// DefaultSilence bounds the silence of a stream where neither does.
const DefaultSilence = 5 * time.Minute

// CallTimeout bounds a whole call: as the operation says, or else its Backend,
// if it has one.
func CallTimeout(in *operation.Integration, b *snapshot.Backend) time.Duration {
	switch {
	case in.Timeout > 0:
		return in.Timeout
	case b != nil && b.Timeout != 0:
		return b.Timeout
	}
	return DefaultTimeout
}

// StreamTimeout bounds each silence of a call that is a stream, and may as a whole
// take as long as it likes: as the operation says, or else its Backend.
func StreamTimeout(in *operation.Integration, b *snapshot.Backend) time.Duration {
	switch {
	case in.Timeout > 0:
		return in.Timeout
	case b != nil && b.Timeout != 0:
		return b.Timeout
	}
	return DefaultSilence
}

// Scheme is how a target of a Backend is called: as the Backend says, and grpcs
// where a target of gRPC has TLS.
func Scheme(b *snapshot.Backend, t *snapshot.Target) string {
	if t.TLS && b.Protocol == "grpc" {
		return "grpcs"
	}
	return b.Protocol
}

// ConnectTimedOut is the answer where no connection to a backend came about in
// time: if the whole call may take longer than connecting, connecting failed;
// otherwise the call took too long, whatever it was doing.
func ConnectTimedOut(call time.Duration) *Response {
	if call < 0 || call > ConnectTimeout {
		return &NetworkError
	}
	return &TimedOut
}

// SecureFailed is the answer where the TLS handshake with a backend failed: a
// certificate for another name is a mistake in the API, anything else a state of
// the network.
func SecureFailed(err error) *Response {
	if _, name := errors.AsType[x509.HostnameError](err); name {
		return &ConfigurationError
	}
	return &NetworkError
}

// DialError is why a call to a backend ended before anything was sent, where
// that is known without a flow: its name has no address, or the Gateway has no
// address from which to call it.
type DialError struct {
	// Code is CodeNoName or CodeNoWay.
	Code string
	// Host is what was to be called.
	Host string
	Err  error
}

// The codes of a DialError.
const (
	CodeNoName = name.NXDomain
	CodeNoWay  = flow.RouteNone
)

// Error says what was missing.
func (e *DialError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Code, e.Host, e.Err) }

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Err }

// UndeliveredCode is the code of a call to a backend whose flow came to v, which
// does not deliver it. A port that refuses is the backend's.
func UndeliveredCode(v *flow.Verdict) string {
	if v.Code == flow.ListenRefused {
		return CodeBackendRefused
	}
	return v.Code
}

// DialFailed tells the code of a failure to reach a backend that was decided
// without sending anything, and the answer to the caller. It reports false for
// every other failure.
func DialFailed(err error) (code string, answer *Response, ok bool) {
	if u, is := errors.AsType[*flow.Undelivered](err); is {
		return UndeliveredCode(&u.Verdict), &NetworkError, true
	}
	if d, is := errors.AsType[*DialError](err); is {
		return d.Code, &NetworkError, true
	}
	return "", nil, false
}
