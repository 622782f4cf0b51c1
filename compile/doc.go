// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package compile turns a set of resources into the snapshot that engines eat.
// It is pure and deterministic: the same resources give the same snapshot
// whatever their order. A resource that cannot be compiled gets a condition
// that says why; the rest compiles.
//
// What is slow to read (policies, OpenAPI documents, security groups) is
// compiled in a folder of its own and remembered by a Compiler between runs,
// so that a change of one resource costs little in a large set.
package compile
