// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package manifest reads resources from files, YAML or JSON, several to a file,
// and writes them as YAML. It is strict, reports everything that is wrong at
// its line and column, and is bounded in what it takes.
package manifest
