// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import "strings"

// KeyID names a condition key by number, so that a request is read without a map.
type KeyID uint8

// The condition keys that a request carries in fields of its own. KeyOther is any
// other key: the request may carry it by name.
const (
	KeyOther KeyID = iota
	KeySourceVpce
	KeySourceVpc
	KeyVpcSourceIP
	KeySourceIP
	KeyCurrentTime
	KeyEpochTime
	KeyReferer
	KeyUserAgent
	KeySecureTransport
	KeySourceArn
	KeyViaDomainArn
	KeySourceEndpoint
	KeySourceNetwork
	KeySourceHost
	KeySourceLink
	KeySourceGateway
	KeyClientCertSubject
	KeyPrincipalArn
	KeyPrincipalAccount
	KeyPrincipalType
	KeyUserID
	KeyUsername
)

// Key is a condition key; keys compare without regard to case.
type Key struct {
	ID KeyID
	// Name is the key as documented if it is known, else as written.
	Name string
}

// KnownKey describes a condition key that API Gateway or Postern documents.
type KnownKey struct {
	ID   KeyID
	Name string
	// Prefix marks a family of keys: Name is followed by a name of the user's.
	Prefix bool
	// Many marks a key of several values, which needs ForAllValues or ForAnyValue
	// and cannot be a variable.
	Many bool
	// Identity marks a key that is present only for a caller who signed.
	Identity bool
}

var keys = []KnownKey{
	{ID: KeySourceVpce, Name: "aws:SourceVpce"},
	{ID: KeySourceVpc, Name: "aws:SourceVpc"},
	{ID: KeyVpcSourceIP, Name: "aws:VpcSourceIp"},
	{ID: KeySourceIP, Name: "aws:SourceIp"},
	{ID: KeyCurrentTime, Name: "aws:CurrentTime"},
	{ID: KeyEpochTime, Name: "aws:EpochTime"},
	{ID: KeyReferer, Name: "aws:Referer"},
	{ID: KeyUserAgent, Name: "aws:UserAgent"},
	{ID: KeySecureTransport, Name: "aws:SecureTransport"},
	{ID: KeySourceArn, Name: "aws:SourceArn"},
	{ID: KeyViaDomainArn, Name: "execute-api:viaDomainArn"},
	{ID: KeySourceEndpoint, Name: "postern:SourceEndpoint"},
	{ID: KeySourceNetwork, Name: "postern:SourceNetwork"},
	{ID: KeySourceHost, Name: "postern:SourceHost"},
	{ID: KeySourceLink, Name: "postern:SourceLink"},
	{ID: KeySourceGateway, Name: "postern:SourceGateway"},
	{ID: KeyClientCertSubject, Name: "postern:ClientCertSubject"},
	{ID: KeyPrincipalArn, Name: "aws:PrincipalArn", Identity: true},
	{ID: KeyPrincipalAccount, Name: "aws:PrincipalAccount", Identity: true},
	{ID: KeyPrincipalType, Name: "aws:PrincipalType", Identity: true},
	{ID: KeyUserID, Name: "aws:userid", Identity: true},
	{ID: KeyUsername, Name: "aws:username", Identity: true},
	{Name: "aws:TokenIssueTime", Identity: true},
	{Name: "aws:MultiFactorAuthPresent", Identity: true},
	{Name: "aws:MultiFactorAuthAge", Identity: true},
	{Name: "aws:PrincipalOrgID", Identity: true},
	{Name: "aws:PrincipalOrgPaths", Many: true, Identity: true},
	{Name: "aws:PrincipalTag/", Prefix: true, Identity: true},
	{Name: "aws:ResourceOrgID"},
	{Name: "aws:ResourceAccount"},
}

// KnownKeys returns every documented condition key.
func KnownKeys() []KnownKey { return append([]KnownKey(nil), keys...) }

// LookupKey returns the key of that name, whatever its case, and whether it is
// documented. An unknown name is KeyOther under the name given.
func LookupKey(name string) (Key, KnownKey, bool) {
	for _, k := range keys {
		if !k.Prefix && strings.EqualFold(k.Name, name) {
			return Key{ID: k.ID, Name: k.Name}, k, true
		}
		if k.Prefix && len(name) > len(k.Name) && strings.EqualFold(k.Name, name[:len(k.Name)]) {
			return Key{Name: k.Name + name[len(k.Name):]}, k, true
		}
	}
	return Key{Name: name}, KnownKey{}, false
}
