// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package wg

import (
	"net"
	"net/netip"
)

// controlSize is zero: no control messages are used here.
const controlSize = 0

// source is empty: the kernel picks the source address.
type source struct{}

func setOptions(*net.UDPConn, netip.Addr) (gso, gro bool) { return false, false }
func gsoRefused(error) bool                               { return false }
func trainTooWide(error) bool                             { return false }
func appendSegmentSize(oob []byte, _ int) []byte          { return oob }
func appendSource(oob []byte, _ *endpoint) []byte         { return oob }
func parseControl([]byte) (size int, src source)          { return 0, source{} }
