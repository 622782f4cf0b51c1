// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package configuration

// Way is a place at which the management plane may answer a self-hosted gateway.
type Way struct {
	Host string
	Port uint16
}

// Ways are the places of a Gateway in the order in which protocol v2 tries them.
// Those at the management host name, all but the first, are protocol v1's too.
func Ways(gateway, base string) []Way {
	management := gateway + ".management." + base
	return []Way{{gateway + ".configuration." + base, 443}, {management, 443}, {management, 3443}}
}
