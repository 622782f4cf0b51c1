// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package accesslog reads the formats of access logs: text with $context
// variables in it, as AWS has them. What a format yields is for the gateway to
// fill in; here is what may stand in one, and how each value is to be escaped.
package accesslog

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"postern.dev/postern/model/near"
)

// Place is where a variable stands, which decides how its value is escaped.
type Place uint8

// The places.
const (
	// Bare is text outside quotes: a value must not look like two.
	Bare Place = iota
	// Quoted is between quotes: a value must not end them.
	Quoted
	// Value is where JSON has a value: text is quoted, nothing is null.
	Value
)

// Piece is text, or a variable if Text is empty.
type Piece struct {
	Text  string
	Var   Variable
	Place Place
}

// Format is a format that has been read. It is immutable.
type Format struct {
	Pieces []Piece
	// Source is what was read.
	Source string
}

// The bounds of a format: of its length, and of its variables.
const (
	MaxLength    = 4096
	MaxVariables = 64
)

// Default is the format where none is given: a JSON object with the common
// variables.
const Default = `{"requestTime":"$context.requestTime","requestId":"$context.requestId","sourceIp":"$context.identity.sourceIp","caller":$context.postern.caller,` +
	`"httpMethod":"$context.httpMethod","domainName":"$context.domainName","path":"$context.path","protocol":"$context.protocol",` +
	`"gateway":$context.postern.gateway,"api":$context.postern.api,"stage":$context.stage,"resourcePath":$context.resourcePath,` +
	`"status":$context.status,"code":$context.postern.code,"responseLength":$context.responseLength,"responseLatency":$context.responseLatency,` +
	`"integrationStatus":$context.integration.status,"integrationLatency":$context.integrationLatency,"integrationError":$context.integrationErrorMessage,` +
	`"error":$context.error.message,"errorType":$context.error.responseType,"apiKeyId":$context.identity.apiKeyId,` +
	`"userAgent":$context.identity.userAgent,"traceId":$context.postern.traceId}`

const prefix = "$context."

var (
	errLong     = fmt.Errorf("has more than %d bytes", MaxLength)
	errMany     = fmt.Errorf("has more than %d variables", MaxVariables)
	errLines    = errors.New("has several lines; write it in one, a request is one line of the log")
	errControl  = errors.New("has a control character; a line of a log has none")
	errNothing  = errors.New("has no variable; write at least $context.requestId")
	errEmptyVar = errors.New("has $context. without a name behind it")
)

// Parse reads a format. Its error begins in the middle of a sentence: what the
// format has.
func Parse(s string) (*Format, error) {
	text := strings.TrimRight(s, "\r\n")
	switch {
	case len(text) > MaxLength:
		return nil, errLong
	case strings.ContainsAny(text, "\r\n"):
		return nil, errLines
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return nil, errControl
	}
	f := &Format{Source: s}
	quoted, sample, n := false, strings.Builder{}, 0
	literal := func(t string) {
		if t == "" {
			return
		}
		for i := 0; i < len(t); i++ {
			switch t[i] {
			case '\\':
				i++
			case '"':
				quoted = !quoted
			}
		}
		f.Pieces = append(f.Pieces, Piece{Text: t})
		sample.WriteString(t)
	}
	for rest := text; rest != ""; {
		i := strings.IndexByte(rest, '$')
		for i >= 0 && (i+1 == len(rest) || !letter(rest[i+1])) {
			k := strings.IndexByte(rest[i+1:], '$')
			if k < 0 {
				i = -1
				break
			}
			i += 1 + k
		}
		if i < 0 {
			literal(rest)
			break
		}
		literal(rest[:i])
		name, err := variable(rest[i:])
		if err != nil {
			return nil, err
		}
		v, _ := lookup(name)
		p := Piece{Var: v}
		if quoted {
			p.Place = Quoted
		}
		sample.WriteByte('0')
		f.Pieces = append(f.Pieces, p)
		rest = rest[i+len(prefix)+len(name):]
		if n++; n > MaxVariables {
			return nil, errMany
		}
	}
	if n == 0 {
		return nil, errNothing
	}
	if t := strings.TrimLeft(text, " \t"); t[0] == '{' && json.Valid([]byte(sample.String())) {
		for i := range f.Pieces {
			if p := &f.Pieces[i]; p.Text == "" && p.Place == Bare {
				p.Place = Value
			}
		}
	}
	return f, nil
}

// MustParse is Parse for formats that are known to be right.
func MustParse(s string) *Format {
	f, err := Parse(s)
	if err != nil {
		panic("accesslog: the format " + err.Error())
	}
	return f
}

// variable reads the name of the variable that s begins with.
func variable(s string) (string, error) {
	if !strings.HasPrefix(s, prefix) {
		end := 1
		for end < len(s) && (letter(s[end]) || digit(s[end]) || s[end] == '.') {
			end++
		}
		return "", fmt.Errorf("has %s; there is nothing but $context variables, such as $context.requestId", strings.TrimRight(s[:end], "."))
	}
	end := len(prefix)
	for end < len(s) && (letter(s[end]) || digit(s[end]) || s[end] == '_' || s[end] == '.') {
		end++
	}
	for end > len(prefix) && s[end-1] == '.' {
		end-- // the end of a sentence
	}
	name := s[len(prefix):end]
	if name == "" {
		return "", errEmptyVar
	}
	if _, ok := lookup(name); ok {
		return name, nil
	}
	for n, why := range refused {
		if name == n || strings.HasPrefix(name, n+".") {
			return "", fmt.Errorf("has $context.%s, which %s", name, why)
		}
	}
	all := Names()
	hint := ""
	if m := near.To(name, all); m != "" {
		hint = `; did you mean "$context.` + m + `"?`
	}
	return "", fmt.Errorf("has $context.%s, which is no variable%s", name, hint)
}

func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func digit(c byte) bool  { return '0' <= c && c <= '9' }
