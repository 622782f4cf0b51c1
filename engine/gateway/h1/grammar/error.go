// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package grammar

// Code names what is wrong with a message. Codes are stable: logs, metrics and tests use them.
type Code string

// Error is a refusal by the grammar. Every value is one of the variables below, so refusing allocates nothing and
// errors.Is works by identity.
type Error struct {
	// Status is what a server answers; a client treats any of them as a broken response.
	Status int
	Code   Code
	// Section is the rule that is broken, such as "RFC 9112 2.2".
	Section string
	Msg     string
}

// Error returns the sentence, the rule and the code.
func (e *Error) Error() string { return e.Msg + " (" + e.Section + ", " + string(e.Code) + ")" }

// What the grammar refuses.
var (
	ErrBareLF         = &Error{400, "bare-lf", "RFC 9112 2.2", "a line ends in LF without CR"}
	ErrBareCR         = &Error{400, "bare-cr", "RFC 9112 2.2", "a CR stands without LF"}
	ErrNotHTTP        = &Error{400, "not-http", "RFC 9112 3", "the first byte cannot begin a request"}
	ErrRequestLine    = &Error{400, "request-line", "RFC 9112 3", "the request line is not METHOD SP target SP version"}
	ErrMethod         = &Error{400, "method", "RFC 9110 9.1", "the method is not a token"}
	ErrMethodTooLong  = &Error{501, "method-too-long", "RFC 9112 3", "the method is longer than any known one"}
	ErrConnect        = &Error{501, "connect", "RFC 9110 9.3.6", "CONNECT is not served: the gateway is no tunnel"}
	ErrTarget         = &Error{400, "target", "RFC 9112 3.2", "the request target is malformed"}
	ErrTargetTooLong  = &Error{414, "target-too-long", "RFC 9110 15.5.15", "the request target is too long"}
	ErrVersion        = &Error{400, "version", "RFC 9112 2.3", "the HTTP version is malformed"}
	ErrVersionUnknown = &Error{505, "version-unknown", "RFC 9110 15.6.6", "the major HTTP version is not 1"}

	ErrFoldedField    = &Error{400, "obs-fold", "RFC 9112 5.2", "a field is folded or begins with white space"}
	ErrFieldName      = &Error{400, "field-name", "RFC 9112 5.1", "a field name is not a token directly before a colon"}
	ErrFieldValue     = &Error{400, "field-value", "RFC 9110 5.5", "a field value has a control byte"}
	ErrFieldsTooLarge = &Error{431, "fields-too-large", "RFC 6585 5", "the header or trailer section is too large"}
	ErrTooManyFields  = &Error{431, "too-many-fields", "RFC 6585 5", "there are too many fields"}

	ErrHostMissing   = &Error{400, "host-missing", "RFC 9112 3.2", "an HTTP/1.1 request has no Host field"}
	ErrHostRepeated  = &Error{400, "host-repeated", "RFC 9112 3.2", "there is more than one Host field"}
	ErrHostInvalid   = &Error{400, "host-invalid", "RFC 9112 3.2", "the host is not a name or address with an optional port"}
	ErrHostDisagrees = &Error{400, "host-disagrees", "RFC 9112 3.2.2", "the absolute target and the Host field disagree"}
	ErrScheme        = &Error{400, "scheme", "RFC 9110 4.2", "the target's scheme is not that of the connection"}

	ErrLengthInvalid  = &Error{400, "length-invalid", "RFC 9110 8.6", "Content-Length is not a plain decimal number"}
	ErrLengthRepeated = &Error{400, "length-repeated", "RFC 9112 6.3", "there is more than one Content-Length"}
	ErrLengthAndTE    = &Error{400, "length-and-coding", "RFC 9112 6.1", "Content-Length and Transfer-Encoding are both present"}
	ErrCodingInvalid  = &Error{400, "coding-invalid", "RFC 9112 6.1", "Transfer-Encoding is malformed, repeated or out of place"}
	ErrCodingNotLast  = &Error{400, "coding-not-last", "RFC 9112 6.3", "chunked is not the last transfer coding"}
	ErrCodingUnknown  = &Error{501, "coding-unknown", "RFC 9112 6.1", "a transfer coding other than chunked is asked for"}
	ErrCodingVersion  = &Error{400, "coding-version", "RFC 9112 6.1", "Transfer-Encoding stands in an HTTP/1.0 message"}
	ErrBodyTooLarge   = &Error{413, "body-too-large", "RFC 9110 15.5.14", "the body is larger than allowed"}
	ErrConnection     = &Error{400, "connection", "RFC 9110 7.6.1", "the Connection field is malformed or lists a field it must not"}
	ErrExpectation    = &Error{417, "expectation", "RFC 9110 10.1.1", "an expectation other than 100-continue"}

	ErrChunkSize    = &Error{400, "chunk-size", "RFC 9112 7.1", "a chunk size is not a plain hexadecimal number"}
	ErrChunkExt     = &Error{400, "chunk-extension", "RFC 9112 7.1.1", "a chunk extension is malformed or too long"}
	ErrChunkEnd     = &Error{400, "chunk-end", "RFC 9112 7.1", "chunk data is not followed by CR LF"}
	ErrTrailerField = &Error{400, "trailer-field", "RFC 9110 6.5.1", "a field is not allowed in a trailer"}

	ErrStatusLine = &Error{502, "status-line", "RFC 9112 4", "the status line is malformed"}
	ErrInterim    = &Error{502, "interim", "RFC 9110 15.2", "too many interim responses"}
	ErrUpgrade    = &Error{502, "upgrade", "RFC 9110 7.8", "the connection was switched to a protocol nobody asked for"}

	ErrHeadTimeout = &Error{408, "head-timeout", "RFC 9110 15.5.9", "the request head did not arrive in time"}
	ErrBodyTimeout = &Error{408, "body-timeout", "RFC 9110 15.5.9", "the request body did not arrive in time"}

	ErrHandler    = &Error{500, "handler", "RFC 9110 15.6.1", "the handler failed"}
	ErrBroken     = &Error{502, "broken", "RFC 9110 15.6.3", "the response's body could not be read"}
	ErrUnsendable = &Error{500, "unsendable", "RFC 9110 5.5", "a message to be sent has a byte that would change its meaning"}
)
