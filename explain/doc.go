// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package explain says why a request gets through or does not, hop by hop, and
// what would change that. It has no rules of its own: it asks the functions
// below decide, as the engines do, and keeps every answer.
//
// A question is traced (trace.go, flow.go, http.go): from the name through
// routes and groups to the API, its policy and its backend. For every blocker
// changes are proposed (fix_*.go), each is tried on a copy of the resources by
// compiling it and tracing again, and only what then lets the request through
// is offered. Reach asks for all callers and URLs at once.
package explain
