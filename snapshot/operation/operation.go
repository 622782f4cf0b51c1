// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package operation holds the compiled form of an API's operations: what
// compile/openapi makes of an OpenAPI document, decide/operation routes in and
// the gateway acts on. A Table is immutable and may serve many Deployments.
package operation

// Any is the method of an operation that serves every method without an
// operation of its own.
const Any = "ANY"

// MaxParams bounds the path parameters of one operation, so that a match keeps
// them in an array.
const MaxParams = 12

// Table finds the operation that serves a method and path.
//
// What a look-up reads stands first, so that it is in one line of memory.
type Table struct {
	// Nodes is the routing tree; Nodes[0] is "/", if there is any node.
	Nodes []Node
	// Operations are in the order of the document, methods of one path sorted.
	Operations []Operation
	// Keyed tells whether any operation needs an API key.
	Keyed bool
	// Title is the document's info.title.
	Title string
	// BinaryTypes are the media types that are binary.
	BinaryTypes []string
	// KeySource is HEADER or AUTHORIZER.
	KeySource string
	// Responses replace the answers that the gateway makes itself, by type
	// such as MISSING_AUTHENTICATION_TOKEN or DEFAULT_4XX.
	Responses map[string]*GatewayResponse
}

// Node is one place in the routing tree. Children and operations are indexes;
// 0 stands for none as a child, -1 as an operation.
type Node struct {
	// Static are the fixed segments below, sorted by Segment.
	Static []Child
	// Param is the child for any one segment, Greedy the operation set for one
	// or more segments.
	Param, Greedy int32
	// Methods are the operations here, sorted by method; AnyMethod serves the
	// rest.
	Methods   []Method
	AnyMethod int32
}

// Serves reports whether any operation is at the node.
func (n *Node) Serves() bool { return len(n.Methods) > 0 || n.AnyMethod >= 0 }

// Child is a fixed segment and the node behind it.
type Child struct {
	Segment string
	Node    int32
}

// Method is an operation of a node.
type Method struct {
	Name      string
	Operation int32
}

// Operation is what one method of one path does.
type Operation struct {
	// Method is an HTTP method or Any.
	Method string
	// Path is the template, such as /pets/{petId} or /{proxy+}.
	Path string
	// ID is the operationId, if there is one.
	ID string
	// Params names the path parameters in the order of the template, without
	// the "+" of a greedy one.
	Params []string
	// KeyRequired says that a caller needs an API key.
	KeyRequired bool
	// Index is its place in the Table's Operations.
	Index       int
	Integration Integration
}

// GatewayResponse replaces an answer that the gateway makes itself.
type GatewayResponse struct {
	// Status is 0 where the built-in one stays.
	Status    int
	Headers   []Mapping
	Templates []MediaTemplate
}
