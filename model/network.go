// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

// Network is a private address space with its own hub, routes and resolver.
type Network struct {
	Head
	Spec NetworkSpec `json:"spec"`
}

// NetworkSpec is what is declared of a Network.
type NetworkSpec struct {
	CIDRs           []string    `json:"cidrs"`
	InternetGateway bool        `json:"internetGateway,omitempty"`
	DNS             *NetworkDNS `json:"dns,omitempty"`
}

// NetworkDNS says where names that Postern does not hold are asked.
type NetworkDNS struct {
	Forward []string `json:"forward,omitempty"`
}

// Subnet is a part of a Network's addresses.
type Subnet struct {
	Head
	Spec SubnetSpec `json:"spec"`
}

// SubnetSpec is what is declared of a Subnet.
type SubnetSpec struct {
	Network       string `json:"network"`
	CIDR          string `json:"cidr"`
	SecurityGroup string `json:"securityGroup,omitempty"`
	InternetRoute bool   `json:"internetRoute,omitempty"`
	DelegatedTo   string `json:"delegatedTo,omitempty"`
}

// SecurityGroup is a stateful filter on interfaces, Gateways' nodes or Subnets.
type SecurityGroup struct {
	Head
	Spec SecurityGroupSpec `json:"spec"`
}

// SecurityGroupSpec is what is declared of a SecurityGroup.
type SecurityGroupSpec struct {
	Network  string `json:"network"`
	Rules    []Rule `json:"rules,omitempty"`
	Defaults string `json:"defaults,omitempty"` // strict, azure, basic, enterprise
}

// Rule is one rule of a SecurityGroup, as written; ParsePorts and ParsePeer
// read its ports and peers.
type Rule struct {
	Name      string   `json:"name,omitempty"`
	Direction string   `json:"direction"`
	Action    string   `json:"action,omitempty"`
	Priority  int      `json:"priority,omitempty"`
	Protocol  string   `json:"protocol,omitempty"`
	Ports     []string `json:"ports,omitempty"`
	From      []string `json:"from,omitempty"`
	To        []string `json:"to,omitempty"`
}

// Host is a machine with one interface in a Subnet.
type Host struct {
	Head
	Spec HostSpec `json:"spec"`
}

// HostSpec is what is declared of a Host.
type HostSpec struct {
	Subnet         string   `json:"subnet"`
	Address        string   `json:"address,omitempty"`
	PublicKey      string   `json:"publicKey,omitempty"`
	SecurityGroups []string `json:"securityGroups,omitempty"`
}

// Link joins a site to a Network.
type Link struct {
	Head
	Spec LinkSpec `json:"spec"`
}

// LinkSpec is what is declared of a Link.
type LinkSpec struct {
	Network   string   `json:"network"`
	Type      string   `json:"type"` // direct-connect, vpn
	CIDRs     []string `json:"cidrs"`
	PublicKey string   `json:"publicKey,omitempty"`
	Endpoint  string   `json:"endpoint,omitempty"`
}

// Peering joins two Networks; it is not transitive.
type Peering struct {
	Head
	Spec PeeringSpec `json:"spec"`
}

// PeeringSpec is what is declared of a Peering.
type PeeringSpec struct {
	Networks []string `json:"networks"`
}

// Zone is a private DNS zone of one or more Networks.
type Zone struct {
	Head
	Spec ZoneSpec `json:"spec"`
}

// ZoneSpec is what is declared of a Zone.
type ZoneSpec struct {
	Networks []string `json:"networks"`
	Domain   string   `json:"domain"`
	Records  []Record `json:"records,omitempty"`
}

// Record is one record set of a Zone. Name is relative to the zone's domain;
// "@" or the empty string is the domain itself, "*" a wildcard first label.
type Record struct {
	Name   string   `json:"name"`
	Type   string   `json:"type"` // A, AAAA, CNAME, TXT, SRV, MX, PTR, NS
	TTL    int      `json:"ttl,omitempty"`
	Values []string `json:"values"`
}

// Kind returns KindNetwork.
func (*Network) Kind() Kind { return KindNetwork }

// Kind returns KindSubnet.
func (*Subnet) Kind() Kind { return KindSubnet }

// Kind returns KindSecurityGroup.
func (*SecurityGroup) Kind() Kind { return KindSecurityGroup }

// Kind returns KindHost.
func (*Host) Kind() Kind { return KindHost }

// Kind returns KindLink.
func (*Link) Kind() Kind { return KindLink }

// Kind returns KindPeering.
func (*Peering) Kind() Kind { return KindPeering }

// Kind returns KindZone.
func (*Zone) Kind() Kind { return KindZone }
