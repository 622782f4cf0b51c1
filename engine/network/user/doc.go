// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package user is the network engine that needs no privilege: one WireGuard
// hub for each Network, and the internet segment on which Gateways have public
// addresses, all in one process.
//
// A packet that comes out of a tunnel or a stack belongs to a flow that is
// known, or opens one; only the latter is judged, by decide/flow. What a flow's
// packets are to be done with, in each direction, stands in the flow tables:
//
//	peer ──> hub ──┬──> peer                the same Network, or a peered one
//	               ├──> the hub's stack     Endpoints, Gateways' nodes, the resolver
//	               └──> segment (NAT) ──┬──> the segment's stack: Gateways
//	                                    └──> the server's own stack: beyond
//
// What a Gateway opens from its address in a Network comes out of the hub's stack
// and goes the same ways.
//
// The engine vouches for where a connection came from: it hands each one on
// with its Origin, taken from the flow and not from the packet.
package user
