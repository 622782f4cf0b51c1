// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"postern.dev/postern/engine/gateway/h1/grammar"
)

// Kind is what went wrong with a call, so far as the caller treats it differently.
type Kind string

// The kinds of failure.
const (
	DNS         Kind = "dns"          // the name has no address
	Refused     Kind = "refused"      // the connection was refused
	Unreachable Kind = "unreachable"  // there is no way to the address, or none that is allowed
	Timeout     Kind = "timeout"      // it took too long; Phase says what
	TLS         Kind = "tls"          // the handshake or the certificate failed
	Reset       Kind = "reset"        // the connection ended before the response did
	Protocol    Kind = "protocol"     // the response breaks the grammar; Err is a *grammar.Error
	RequestBody Kind = "request-body" // the client's body could not be read
	Request     Kind = "request"      // the request cannot be sent: it would not pass the grammar
	Canceled    Kind = "canceled"     // the caller gave up, or the pool was closed
)

// Phase is how far a call had come.
type Phase string

// The phases of a call.
const (
	Connecting Phase = "connect"
	Securing   Phase = "tls"
	Sending    Phase = "request"
	Awaiting   Phase = "response-head"
	Receiving  Phase = "response-body"
)

// ErrDNS, ErrRefused and ErrUnreachable may be wrapped by a dial function whose own errors do not come from this
// machine's kernel, so that they are recognised.
var (
	ErrDNS         = errors.New("upstream: the name does not resolve")
	ErrRefused     = errors.New("upstream: connection refused")
	ErrUnreachable = errors.New("upstream: unreachable")
)

// ErrClosed is the reason of calls on a closed pool.
var ErrClosed = errors.New("upstream: the pool is closed")

// Failure is the error of a call, and of reading a response body.
type Failure struct {
	Kind   Kind
	Phase  Phase
	Target Target
	// Reused says that the call went over a pooled connection.
	Reused bool
	Err    error
}

// Error says what failed, where and why.
func (f *Failure) Error() string {
	return fmt.Sprintf("upstream %s: %s while in phase %s: %v", f.Target, f.Kind, f.Phase, f.Err)
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Timeout reports whether the failure is one of time.
func (f *Failure) Timeout() bool { return f.Kind == Timeout }

// Classify tells the kind of an error that a call ended with.
func Classify(err error, phase Phase) Kind { return classify(err, phase) }

// classify tells the kind of an error of the network.
func classify(err error, phase Phase) Kind {
	var (
		dns  *net.DNSError
		gram *grammar.Error
		cert *tls.CertificateVerificationError
		auth x509.UnknownAuthorityError
		host x509.HostnameError
		inv  x509.CertificateInvalidError
		rec  tls.RecordHeaderError
		al   tls.AlertError
	)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, ErrClosed), errors.Is(err, net.ErrClosed):
		return Canceled
	case errors.As(err, &gram):
		return Protocol
	case errors.As(err, &cert), errors.As(err, &auth), errors.As(err, &host), errors.As(err, &inv), errors.As(err, &rec), errors.As(err, &al):
		return TLS
	case errors.As(err, &dns):
		if dns.IsTimeout {
			return Timeout
		}
		return DNS
	case errors.Is(err, ErrDNS):
		return DNS
	case errors.Is(err, ErrRefused), errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return Timeout
	case errors.Is(err, ErrUnreachable), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH),
		errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EADDRNOTAVAIL):
		return Unreachable
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		if phase == Securing {
			return TLS
		}
		return Reset
	}
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return Timeout
	case phase == Securing:
		return TLS
	case phase == Connecting:
		return Unreachable
	}
	return Reset
}
