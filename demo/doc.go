// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package demo runs the walk-throughs: real configurations, changed step by
// step, with real requests through real tunnels, each told beside its
// explanation.
package demo
