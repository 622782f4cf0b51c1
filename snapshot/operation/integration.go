// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"regexp"
	"time"
)

// Kind says who answers an operation.
type Kind uint8

// The kinds of integration.
const (
	// None answers 500: nobody was named.
	None Kind = iota
	// Petstore answers by itself with sample data.
	Petstore
	// Mock answers from templates alone.
	Mock
	// HTTP sends a request to URI and maps what comes back.
	HTTP
	// HTTPProxy sends the request on as it is.
	HTTPProxy
)

// String returns the kind as documents spell it.
func (k Kind) String() string {
	return [...]string{"NONE", "PETSTORE", "MOCK", "HTTP", "HTTP_PROXY"}[k]
}

// Passthrough says what happens to a body whose media type has no template.
type Passthrough uint8

// The ways to pass a body through.
const (
	WhenNoMatch Passthrough = iota
	WhenNoTemplates
	Never
)

// Integration is who answers an operation, and how.
type Integration struct {
	Kind Kind
	// Backend is the name of the Backend that URI leads to, if it names one;
	// URI then begins with the path.
	Backend string
	// Method is the method towards the backend; empty: the caller's.
	Method string
	// URI is where the request goes. Scheme and host are part of it unless
	// Backend is set.
	URI Template
	// AppendPath says that the path of the request follows URI.
	AppendPath bool
	// Timeout is 0 where the default applies.
	Timeout time.Duration
	// Insecure leaves the backend's certificate unverified.
	Insecure    bool
	Passthrough Passthrough
	// Request maps parts of the request, RequestTemplates its body.
	Request          []Mapping
	RequestTemplates []MediaTemplate
	// Responses are tried in order; a nil one in Default means an answer that
	// nothing selects is a configuration error.
	Responses []Response
	Default   *Response
}

// Response maps what a backend answered.
type Response struct {
	// Select is the pattern over the backend's status code as it was written,
	// Pattern its compiled form unless Select is a plain number.
	Select  string
	Pattern *regexp.Regexp
	// Status is the status towards the caller.
	Status    int
	Headers   []Mapping
	Templates []MediaTemplate
}

// MediaTemplate is the template for one media type.
type MediaTemplate struct {
	Type     string
	Template Template
}

// Place is a part of a request or response that a Mapping reads or writes.
type Place uint8

// The places.
const (
	PlaceStatic Place = iota
	PlacePath
	PlaceQuery
	PlaceMultiQuery
	PlaceHeader
	PlaceMultiHeader
	PlaceBody
	PlaceStageVariable
	PlaceContext
)

// Mapping sets one value from another.
type Mapping struct {
	// To and Name say what is set: a path parameter, query parameter or header.
	To   Place
	Name string
	// From and Source say where the value is from. Source is the static text,
	// a name, or the path into a JSON body.
	From   Place
	Source string
}

// PieceKind says what a Piece of a Template stands for.
type PieceKind uint8

// The pieces.
const (
	PieceText          PieceKind = iota // Value itself
	PieceContext                        // $context.Value
	PieceStageVariable                  // $stageVariables.Value
	PieceBody                           // $input.body
	PieceParam                          // $input.params('Value'): path, query, header; {Value} in a URI
	PieceJSON                           // $input.json('Value')
	PieceError                          // $context.error.Value
)

// Piece is a part of a Template.
type Piece struct {
	Kind  PieceKind
	Value string
}

// Template is text with values put in.
type Template struct {
	// Source is the text as written.
	Source string
	Pieces []Piece
}

// Constant returns the text of a template without variable pieces.
func (t *Template) Constant() (string, bool) {
	switch {
	case len(t.Pieces) == 0:
		return "", true
	case len(t.Pieces) == 1 && t.Pieces[0].Kind == PieceText:
		return t.Pieces[0].Value, true
	}
	return "", false
}
