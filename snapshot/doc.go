// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package snapshot holds the compiled form of a whole configuration: what the
// engines eat and what every decision is made over. A Snapshot is built once by
// compile, never changed afterwards, and shared freely between goroutines.
//
// Nothing in here decides. Whether a packet, a name or a request is let through
// is asked of the functions below decide, by the engines and by explain alike.
package snapshot
