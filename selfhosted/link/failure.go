// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"postern.dev/postern/configuration"
)

// Kind says what stands in the way.
type Kind string

// The kinds.
const (
	KindDNS         Kind = "dns"         // the name does not resolve
	KindRefused     Kind = "refused"     // nothing listens there
	KindTimeout     Kind = "timeout"     // silence
	KindTLS         Kind = "tls"         // the certificate or the handshake
	KindToken       Kind = "token"       // 401: not known, expired or revoked
	KindThrottled   Kind = "throttled"   // 429
	KindUnavailable Kind = "unavailable" // 5xx, or the management plane ends
	KindRequest     Kind = "request"     // other refusals
	KindHalfOpen    Kind = "half-open"   // a stream that fell silent
	KindEnded       Kind = "ended"       // a stream that was closed
	KindDocument    Kind = "document"    // what came cannot be served
	KindOlder       Kind = "older"       // what came is older than what is served
	KindClock       Kind = "clock"       // this machine's or that one's is wrong
	KindHeartbeat   Kind = "heartbeat"   // v1: the heartbeat was not taken
)

// Failure is one thing that went wrong.
type Failure struct {
	Kind Kind
	// Address is where.
	Address string
	// Status is of an HTTP answer, or 0.
	Status  int
	Message string
	// Advice is what to do.
	Advice string
	// RetryAfter is how long the management plane wants to be left alone.
	RetryAfter time.Duration
	Err        error
}

// Error says what and where.
func (f *Failure) Error() string { return f.Address + ": " + f.text() }

func (f *Failure) text() string {
	switch {
	case f.Status != 0 && f.Message != "":
		return fmt.Sprintf("%d (%s): %s", f.Status, http.StatusText(f.Status), f.Message)
	case f.Status != 0:
		return fmt.Sprintf("%d (%s)", f.Status, http.StatusText(f.Status))
	}
	return f.Message
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Event is the name under which the original logs it; empty for the failed
// synchronisation, whose name depends on whether there was one before.
func (f *Failure) Event() string {
	switch f.Kind {
	case KindDNS:
		return "ErrorResolvingHostname"
	case KindHeartbeat:
		return "HeartbeatError"
	case KindClock:
		return "ClockSkew"
	}
	return ""
}

// settles reports whether another address would say the same: the management
// plane has answered.
func (f *Failure) settles() bool {
	switch f.Kind {
	case KindToken, KindThrottled, KindUnavailable, KindHalfOpen, KindEnded, KindDocument, KindOlder:
		return true
	}
	return false
}

// and is two failures as one: told by what got further, as that is what there is
// something to do about, and by the words of both. f may be nil.
func (f *Failure) and(g *Failure) *Failure {
	if f == nil {
		return g
	}
	if g.further() > f.further() {
		f, g = g, f
	}
	both := *f
	both.Message += "; " + g.Error()
	return &both
}

// further orders failures by how far the attempt got. Of the addresses that
// protocol v2 tries, those that an internal Gateway does not have are refused.
func (f *Failure) further() int {
	switch f.Kind {
	case KindDNS:
		return 0
	case KindRefused:
		if f.Advice == "" {
			return 0
		}
		return 1
	case KindTimeout:
		return 1
	case KindTLS:
		return 2
	}
	return 3
}

// adviceAsk is what to do about what is dropped on the way, or by who offers the
// address, which cannot drop but only close.
const adviceAsk = "ask the management plane for the rule that is in the way: postern explain --from selfhosted/NAME https://%s/"

// adviceToken is what to do about a token or certificate that is not good. Settings
// are read at the start alone.
const adviceToken = "make another with postern token create --role selfhosted, with --enrol where config.service.auth is certificate, put it into the settings, and start the gateway again"

// unreached tells why no answer came.
func unreached(address string, err error, now time.Time) *Failure {
	f := &Failure{Address: address, Err: err}
	var dns *net.DNSError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	switch kind, ok := byProxy(err); {
	case ok:
		f.Kind = kind
		f.Message = map[Kind]string{
			KindRefused: "Connection refused (ECONNREFUSED), says the proxy",
			KindDNS:     "Name does not resolve, or leads nowhere, says the proxy",
			KindTimeout: "no answer, says the proxy: what is sent there is dropped on the way, or nobody is there",
		}[kind]
	case errors.Is(err, errSlow):
		f.Kind, f.Message = KindTimeout, fmt.Sprintf("no connection within %s: what is sent there is dropped on the way, or nobody is there", connectTimeout)
	case errors.As(err, &dns):
		f.Kind, f.Message, f.Advice = unresolved(dns)
	case errors.Is(err, syscall.ECONNREFUSED):
		f.Kind, f.Message = KindRefused, "Connection refused (ECONNREFUSED)"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		f.Kind, f.Message = KindTLS, fmt.Sprintf("the certificate is not valid at %s, which it is by this machine's clock", now.UTC().Format(time.RFC3339))
		f.Advice = "set the clock, or renew the certificate"
	case errors.As(err, &host), errors.As(err, &unknown), errors.As(err, &invalid):
		f.Kind, f.Message = KindTLS, cause(err)
		f.Advice = "config.service.ca names the file of the authority to trust"
	case strings.HasSuffix(err.Error(), "tls: unrecognized name"):
		f.Kind, f.Message = KindTLS, cause(err)
		f.Advice = "nobody serves that name there: a Gateway in internal mode answers at 3443 alone; else compare config.service.endpoint with what postern token create prints"
	case errors.As(err, &alert), errors.As(err, &record), strings.Contains(err.Error(), "tls: "):
		f.Kind, f.Message = KindTLS, cause(err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), timeout(err):
		f.Kind, f.Message = KindTimeout, "no answer: what is sent there is dropped on the way, or nobody is there"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		f.Kind, f.Message = KindRefused, "the connection was reset"
		f.Advice = fmt.Sprintf(adviceAsk, address)
	default:
		f.Kind, f.Message = KindRefused, cause(err)
	}
	if f.Kind == KindTimeout {
		f.Advice = fmt.Sprintf(adviceAsk, address)
	}
	return f
}

// unresolved tells a name that is not known from a server that did not say. The
// words of package net are not repeated: they have a port that is another each
// time, and what is the same is logged once.
func unresolved(err *net.DNSError) (kind Kind, message, advice string) {
	message, advice = "Name does not resolve", "ask your DNS for the name; --resolver names a server that knows it"
	switch {
	case err.IsTimeout:
		message = "the DNS server does not answer"
	case strings.HasSuffix(err.Err, "connection refused"):
		message = "nothing listens where the DNS server should be"
	case err.IsTemporary:
		message = "the DNS server answers that it failed or does not serve this machine"
	default:
		return KindDNS, err.Name + ": " + message, advice
	}
	return KindDNS, err.Name + ": " + message, "see that the DNS server runs and can be reached from here; --resolver names another"
}

// byProxy reads what a SOCKS5 proxy replied, in the words of RFC 1928 that
// net/http repeats. Its own refusal is another error.
func byProxy(err error) (Kind, bool) {
	text := err.Error()
	switch {
	case !strings.Contains(text, "socks connect "):
		return "", false
	case strings.HasSuffix(text, "unknown error connection refused"):
		return KindRefused, true
	case strings.HasSuffix(text, "unknown error host unreachable"):
		return KindDNS, true
	case strings.HasSuffix(text, "unknown error TTL expired"):
		return KindTimeout, true
	}
	return "", false
}

func timeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// cause takes what http.Client and net put before an error.
func cause(err error) string {
	for {
		var next error
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			next = e.Unwrap()
		}
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

// answered tells why an answer was not the one that was asked for.
func answered(address string, r *http.Response) *Failure {
	f := &Failure{Kind: KindRequest, Address: address, Status: r.StatusCode, Message: problem(r)}
	f.RetryAfter = retryAfter(r.Header.Get("Retry-After"), time.Now)
	switch {
	case r.StatusCode == http.StatusUnauthorized:
		f.Kind, f.Advice = KindToken, adviceToken
	case r.StatusCode == http.StatusTooManyRequests:
		f.Kind = KindThrottled
		f.Message = strings.TrimSpace("Response status code does not indicate success: 429 () " + f.Message)
	case r.StatusCode >= 500:
		f.Kind = KindUnavailable
	case r.StatusCode == http.StatusBadRequest:
		f.Advice = "compare config.service.endpoint with what postern token create prints"
	}
	return f
}

// problem reads what the body says: application/problem+json, or a short text.
func problem(r *http.Response) string {
	b, err := io.ReadAll(io.LimitReader(r.Body, 4<<10))
	if err != nil {
		return ""
	}
	return detail(b)
}

// retryAfter reads seconds or a date, and believes no more than an hour.
func retryAfter(v string, now func() time.Time) time.Duration {
	d := time.Duration(0)
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		d = time.Duration(min(n, 3600)) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		d = at.Sub(now())
	}
	return max(0, min(d, time.Hour))
}

// unserved tells why what came is not served.
func unserved(address string, err error) *Failure {
	f := &Failure{Kind: KindDocument, Address: address, Message: err.Error(), Err: err}
	if errors.Is(err, configuration.ErrOlder) {
		f.Kind = KindOlder
		f.Advice = "somebody plays back what was sent before, or the clock of the management plane is behind"
	}
	return f
}

// refused tells why the management plane ended a stream.
func refused(address string, r *configuration.Refuse) *Failure {
	f := &Failure{Address: address, Message: r.Message, RetryAfter: time.Duration(max(0, min(r.RetryAfter, 3600))) * time.Second}
	switch r.Code {
	case configuration.RefuseToken, configuration.RefuseExpired, configuration.RefuseDeleted:
		f.Kind, f.Status = KindToken, http.StatusUnauthorized
		f.Advice = adviceToken
	case configuration.RefuseBusy:
		f.Kind = KindThrottled
	case configuration.RefuseClosing:
		f.Kind = KindUnavailable
	default:
		f.Kind = KindEnded
	}
	if f.Message == "" {
		f.Message = "the management plane ended the stream: " + r.Code
	}
	return f
}
