// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sg holds the compiled form of security groups.
package sg

// Set is the merge of all groups on one interface, or a Subnet's group.
type Set struct{}
