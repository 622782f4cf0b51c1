// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package operation holds the compiled form of an API's operations.
package operation

// Table finds the operation that serves a method and path.
type Table struct{}
