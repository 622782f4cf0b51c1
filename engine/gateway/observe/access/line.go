// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"strconv"
	"time"
	"unicode/utf8"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/integration"
	"postern.dev/postern/model/accesslog"
	"postern.dev/postern/snapshot"
)

// Entry is what there is to tell of a request. Pointers may be nil and text empty
// where the request did not get that far.
type Entry struct {
	// Lane is the place of the line among others: of Log.Lane.
	Lane     uint32
	Exchange *exchange.Exchange
	Gateway  *snapshot.Gateway
	Arrival  *request.Arrival
	Verdict  *request.Verdict
	Called   *integration.Called
	Cert     *Certificate
	// Took is from the first byte of the request to the last of its answer.
	Took     time.Duration
	Revision int64
	// Code is that of the step that decided.
	Code string
	// Message and Type are of the answer that the gateway made itself.
	Message, Type string
	// Extended is the extended request id, Trace the X-Amzn-Trace-Id, TraceID the
	// id of the W3C's, KeyID that of the API key.
	Extended, Trace, TraceID, KeyID string
}

// Certificate is a caller's certificate, as text.
type Certificate struct {
	Subject, Issuer, Serial, NotBefore, NotAfter string
}

// maxValue bounds the bytes of one value; what is longer is cut.
const maxValue = 2048

// line appends the line of a request.
func (s *shard) line(b []byte, f *accesslog.Format, e *Entry) []byte {
	for i := range f.Pieces {
		p := &f.Pieces[i]
		if p.Text != "" {
			b = append(b, p.Text...)
			continue
		}
		b = s.value(b, p, e)
	}
	return append(b, '\n')
}

// value appends what a variable stands for.
func (s *shard) value(b []byte, p *accesslog.Piece, e *Entry) []byte {
	x := e.Exchange
	switch p.Var {
	case accesslog.Status:
		return integer(b, p.Place, int64(x.Response.Status))
	case accesslog.ResponseLength:
		return strconv.AppendInt(b, x.Sent, 10)
	case accesslog.ResponseLatency:
		return strconv.AppendInt(b, e.Took.Milliseconds(), 10)
	case accesslog.RequestTimeEpoch:
		return strconv.AppendInt(b, x.Start.UnixMilli(), 10)
	case accesslog.Revision:
		return integer(b, p.Place, e.Revision)
	case accesslog.IntegrationLatency:
		if e.Called == nil {
			return nothing(b, p.Place)
		}
		return strconv.AppendInt(b, e.Called.Took.Milliseconds(), 10)
	case accesslog.IntegrationStatus:
		if e.Called == nil {
			return nothing(b, p.Place)
		}
		return integer(b, p.Place, int64(e.Called.Status))
	case accesslog.RequestTime:
		b = quote(b, p.Place)
		b = append(b, s.time(x.Start)...)
		return quote(b, p.Place)
	case accesslog.SourceIP:
		if x.Origin == nil {
			return nothing(b, p.Place)
		}
		b = quote(b, p.Place)
		if e.Arrival != nil && e.Arrival.Origin != nil {
			b = e.Arrival.Source().AppendTo(b)
		} else {
			b = x.Origin.Source.Addr().Unmap().AppendTo(b)
		}
		return quote(b, p.Place)
	case accesslog.Caller:
		if kind, name := caller(x.Origin); name != "" {
			b = quote(b, p.Place)
			b = append(b, kind...)
			b = escape(b, name, p.Place)
			return quote(b, p.Place)
		}
		return nothing(b, p.Place)
	case accesslog.ErrorMessageString:
		if p.Place == accesslog.Bare && e.Message != "" {
			b = append(b, '"')
			b = escape(b, e.Message, accesslog.Quoted)
			return append(b, '"')
		}
		return text(b, p.Place, e.Message)
	}
	return text(b, p.Place, e.text(p.Var))
}

// text is what a variable stands for that is neither a number nor made of parts.
func (e *Entry) text(v accesslog.Variable) string {
	x := e.Exchange
	switch v {
	case accesslog.RequestID:
		return x.ID()
	case accesslog.HTTPMethod:
		return x.Request.Method
	case accesslog.DomainName:
		return x.Request.Host
	case accesslog.DomainPrefix:
		for i := range x.Request.Host {
			if x.Request.Host[i] == '.' {
				return x.Request.Host[:i]
			}
		}
		return x.Request.Host
	case accesslog.Path:
		return x.Request.Path
	case accesslog.Protocol:
		return x.Request.Proto.String()
	case accesslog.UserAgent:
		if e.Arrival != nil {
			return e.Arrival.UserAgent
		}
		return x.Request.Header.Get("User-Agent")
	case accesslog.Code:
		return e.Code
	case accesslog.ErrorMessage:
		return e.Message
	case accesslog.ErrorResponseType:
		return e.Type
	case accesslog.ExtendedRequestID:
		return e.Extended
	case accesslog.TraceHeader:
		return e.Trace
	case accesslog.TraceID:
		return e.TraceID
	case accesslog.APIKeyID:
		return e.KeyID
	case accesslog.AccountID:
		return request.Account
	case accesslog.Gateway:
		if e.Gateway != nil {
			return e.Gateway.Name
		}
	case accesslog.IntegrationError:
		if e.Called != nil {
			return string(e.Called.Failure)
		}
	case accesslog.Backend:
		if e.Called != nil && e.Called.Backend != nil {
			return e.Called.Backend.Name
		}
	case accesslog.VPCEID:
		if e.Arrival != nil && e.Arrival.Endpoint != nil {
			return e.Arrival.Endpoint.ID
		}
	case accesslog.VPCID:
		if e.Arrival != nil && e.Arrival.Endpoint != nil && e.Arrival.Endpoint.Network != nil {
			return e.Arrival.Endpoint.Network.ID
		}
	}
	if c := e.Cert; c != nil {
		switch v {
		case accesslog.ClientCertSubject:
			return c.Subject
		case accesslog.ClientCertIssuer:
			return c.Issuer
		case accesslog.ClientCertSerial:
			return c.Serial
		case accesslog.ClientCertNotBefore:
			return c.NotBefore
		case accesslog.ClientCertNotAfter:
			return c.NotAfter
		}
	}
	if e.Verdict != nil {
		return judged(e.Verdict, v)
	}
	return ""
}

// judged is what a verdict knows of a request.
func judged(w *request.Verdict, v accesslog.Variable) string {
	switch v {
	case accesslog.APIID:
		if w.API != nil {
			return w.API.ID
		}
	case accesslog.API:
		if w.API != nil {
			return w.API.Name
		}
	case accesslog.Stage:
		if w.Stage != nil {
			return w.Stage.Name
		}
	case accesslog.ResourcePath:
		if op := w.Operation(); op != nil {
			return op.Path
		}
	case accesslog.ResourceID:
		if op := w.Operation(); op != nil {
			return op.ID
		}
	case accesslog.BasePathMatched:
		if w.Domain != nil && w.Stage != nil && w.Base != "" {
			return w.Base[1:]
		}
	}
	return ""
}

// caller names the caller, if it is one that has a name.
func caller(o *snapshot.Origin) (kind, name string) {
	switch {
	case o == nil:
		return "", ""
	case o.Host != "":
		return "host/", o.Host
	case o.Link != "":
		return "link/", o.Link
	case o.SelfHosted != "":
		return "selfhosted/", o.SelfHosted
	case o.Gateway != "":
		return "gateway/", o.Gateway
	}
	return "", ""
}

// time is t as the common log format has it; it is made once a second.
func (s *shard) time(t time.Time) []byte {
	if sec := t.Unix(); sec != s.sec {
		s.sec = sec
		t.UTC().AppendFormat(s.clf[:0], "02/Jan/2006:15:04:05 -0700")
	}
	return s.clf[:]
}

// nothing appends what stands where there is no value.
func nothing(b []byte, p accesslog.Place) []byte {
	if p == accesslog.Value {
		return append(b, "null"...)
	}
	return append(b, '-')
}

// integer appends a number that is never 0 where there is one.
func integer(b []byte, p accesslog.Place, n int64) []byte {
	if n == 0 {
		return nothing(b, p)
	}
	return strconv.AppendInt(b, n, 10)
}

// quote appends the quote that JSON wants before and behind text.
func quote(b []byte, p accesslog.Place) []byte {
	if p == accesslog.Value {
		b = append(b, '"')
	}
	return b
}

func text(b []byte, p accesslog.Place, s string) []byte {
	if s == "" {
		return nothing(b, p)
	}
	b = quote(b, p)
	b = escape(b, s, p)
	return quote(b, p)
}

// What has to be looked at more closely: within quotes, and beyond that where
// text stands bare. Of ASCII that is what has to be escaped.
var quoted, bare = func() (q, b [256]bool) {
	for c := range q {
		q[c] = c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&'
		b[c] = q[c] || c == ' ' || c == ',' || c == ';' || c == '|' || c == '\''
	}
	return q, b
}()

// escape appends s as in a JSON string, so that no caller writes anything into the
// log but a value: neither the end of a line nor of a string. Bare text has its
// spaces and separators escaped too. What is no UTF-8 becomes the replacement
// character, what is too long is cut.
func escape(b []byte, s string, p accesslog.Place) []byte {
	special := &quoted
	if p == accesslog.Bare {
		special = &bare
	}
	clean := 0
	for clean < len(s) && !special[s[clean]] {
		clean++
	}
	if clean == len(s) && clean <= maxValue-6 { // as it nearly always is
		return append(b, s...)
	}
	end := len(b) + maxValue
	from := 0
	for i := 0; i < len(s); {
		if len(b)+i-from > end-6 {
			b = append(b, s[from:i]...)
			return b
		}
		c := s[i]
		if c < utf8.RuneSelf {
			if !special[c] {
				i++
				continue
			}
			b = append(b, s[from:i]...)
			if (c == '"' || c == '\\') && p != accesslog.Bare {
				b = append(b, '\\', c)
			} else {
				b = unicode(b, rune(c))
			}
			i++
			from = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || r < 0xa0 || r == '\u2028' || r == '\u2029' {
			b = append(b, s[from:i]...)
			b = unicode(b, r)
			from = i + n
		}
		i += n
	}
	return append(b, s[from:]...)
}

func unicode(b []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
