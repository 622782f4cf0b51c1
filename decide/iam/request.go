// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"net/netip"
	"strings"
	"time"
)

// Request is one call to be decided. The zero value of a field that a condition
// key reads means that the key is missing, SecureTransport excepted.
type Request struct {
	Principal Principal
	// Action is what is asked for, as "execute-api:Invoke".
	Action   string
	Resource Resource
	Context  Context
}

// PrincipalKind says what kind of caller a request comes from.
type PrincipalKind uint8

// The kinds of caller.
const (
	Anonymous PrincipalKind = iota
	Identity                // an account's root, a user, or a role's session
	Service                 // a service calling on its own behalf
	Federated               // a user vouched for by an identity provider
	Canonical               // a canonical user
)

// Principal is who calls. The zero value is the anonymous caller, whom only "*"
// names.
type Principal struct {
	Kind PrincipalKind
	// ARN names an Identity: root, user, role session or federated user.
	ARN string
	// Role is the ARN of the role whose session ARN is, for such a session.
	Role    string
	Account string
	// Name is the name of a service, or the identifier of a provider or a
	// canonical user.
	Name string
	// Type, UserID and UserName are the aws:PrincipalType, aws:userid and
	// aws:username keys.
	Type, UserID, UserName string
}

// Resource is what is asked for, in parts so that no ARN is built to decide.
type Resource struct {
	Region, Account string
	API, Stage      string
	Method          string
	// Path is the request's path after the stage. A leading "/" is supplied where
	// it is absent, so the root is "" or "/".
	Path string
	// Domain, as "name+id", asks about a private custom domain: full ARNs are then
	// matched against the domain's, short forms against stage, method and path.
	Domain string
}

// Context holds the condition keys of a request.
type Context struct {
	Time            time.Time // aws:CurrentTime, aws:EpochTime
	SourceIP        netip.Addr
	VpcSourceIP     netip.Addr
	SourceVpce      string
	SourceVpc       string
	Referer         string
	UserAgent       string
	SourceArn       string
	ViaDomainArn    string
	SecureTransport bool // always present
	// The names that Postern gives to where a request comes from.
	SourceEndpoint, SourceNetwork, SourceHost, SourceLink, SourceGateway string
	// ClientCertSubject is the distinguished name (RFC 2253) in a certificate that
	// the caller showed and the Domain's authorities verified.
	ClientCertSubject string
	// Extra carries keys that have no field, such as aws:PrincipalTag/team.
	Extra []Attribute
}

// Attribute is a condition key without a field of its own.
type Attribute struct {
	// Key compares without regard to case.
	Key string
	// Values are the key's values; a key whose values are all empty is missing.
	Values []string
}

// arnService is the service whose resources these are.
const (
	arnPartition = "aws"
	arnService   = "execute-api"
	domainPrefix = "/domainnames/"
)

// last returns the pieces of the ARN's last section.
func (s *Resource) last() [7]string {
	if s.Domain != "" {
		return [7]string{domainPrefix, s.Domain}
	}
	p := s.call()
	return [7]string{s.API, p[0], p[1], p[2], p[3], p[4], p[5]}
}

// call returns the pieces of "/stage/METHOD/path".
func (s *Resource) call() [6]string {
	slash := ""
	if s.Path == "" || s.Path[0] != '/' {
		slash = "/"
	}
	return [6]string{"/", s.Stage, "/", s.Method, slash, s.Path}
}

// ARN returns the resource's ARN.
func (s *Resource) ARN() string { return s.arn(s.Account) }

// MaskedARN returns the resource's ARN with all but the last four digits of the
// account hidden, as error bodies show it.
func (s *Resource) MaskedARN() string {
	tail := s.Account
	if len(tail) > 4 {
		tail = tail[len(tail)-4:]
	}
	return s.arn("********" + tail)
}

func (s *Resource) arn(account string) string {
	var b strings.Builder
	for _, p := range [...]string{"arn:", arnPartition, ":", arnService, ":", s.Region, ":", account, ":"} {
		b.WriteString(p)
	}
	for _, p := range s.last() {
		b.WriteString(p)
	}
	return b.String()
}
