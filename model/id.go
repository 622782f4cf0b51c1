// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"crypto/sha256"
	"fmt"
	"io"
	"regexp"
)

// IDs makes the ids of resources. It is asked again with a higher attempt if
// an id is taken.
type IDs interface {
	NewID(r Ref, attempt int) (string, error)
}

// RandomIDs makes ids of what src yields, which should be crypto/rand.Reader.
func RandomIDs(src io.Reader) IDs { return randomIDs{src} }

type randomIDs struct{ src io.Reader }

// NewID reads the random source.
func (g randomIDs) NewID(r Ref, _ int) (string, error) {
	var b [32]byte
	if _, err := io.ReadFull(g.src, b[:]); err != nil {
		return "", fmt.Errorf("cannot read the random source: %w", err)
	}
	return formatID(r.Kind, b), nil
}

// NamedIDs makes ids that depend on nothing but the resource's kind and name.
func NamedIDs() IDs { return namedIDs{} }

type namedIDs struct{}

// NewID hashes the name.
func (namedIDs) NewID(r Ref, attempt int) (string, error) {
	return formatID(r.Kind, sha256.Sum256(fmt.Appendf(nil, "postern id %s %d", r, attempt))), nil
}

const (
	hexDigits  = "0123456789abcdef"
	idAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
)

// apiIDLength is the length of an API's id.
const apiIDLength = 10

var idPrefixes = map[Kind]string{
	KindNetwork: "vpc-", KindSubnet: "subnet-", KindSecurityGroup: "sg-", KindEndpoint: "vpce-",
	KindHost: "host-", KindLink: "link-", KindPeering: "pcx-", KindGateway: "gw-", KindBackend: "backend-",
	KindDeployment: "deployment-", KindStage: "stage-", KindDomain: "domain-", KindZone: "zone-", KindAuthorization: "gsgr-",
	KindSelfHosted: "shg-", KindProduct: "product-", KindSubscription: "sub-",
}

// formatID makes an id of 32 random bytes. An API's id takes two bytes a
// character, so that no character is noticeably likelier than another.
func formatID(k Kind, b [32]byte) string {
	if k == KindAPI {
		return alphanumeric(b, apiIDLength)
	}
	id := make([]byte, 17)
	for i := range id {
		id[i] = hexDigits[b[i]&15]
	}
	return idPrefixes[k] + string(id)
}

func alphanumeric(b [32]byte, n int) string {
	id := make([]byte, n)
	for i := range id {
		id[i] = idAlphabet[(int(b[2*i])<<8|int(b[2*i+1]))%len(idAlphabet)]
	}
	return string(id)
}

var (
	apiID   = regexp.MustCompile(`^[a-z0-9]{10}$`)
	hexPart = regexp.MustCompile(`^[0-9a-f]{17}$`)
)

// checkID says what is wrong with id as that of a resource of kind k.
func checkID(k Kind, id string) error {
	p := idPrefixes[k]
	switch {
	case k == KindAPI && !apiID.MatchString(id):
		return fmt.Errorf("%q is no id of an API, ten of a-z and 0-9; remove it to have one made", id)
	case k != KindAPI && (len(id) < len(p) || id[:len(p)] != p || !hexPart.MatchString(id[len(p):])):
		return fmt.Errorf("%q is no id of a %s, %s and 17 of 0-9 and a-f; remove it to have one made", id, k, p)
	}
	return nil
}

// EndpointLabel is the first label of an Endpoint's host name: its id and
// eight characters that follow from the id.
func EndpointLabel(id string) string {
	return id + "-" + alphanumeric(sha256.Sum256([]byte("postern endpoint "+id)), 8)
}

// DefaultBase is the base domain unless another is configured.
const DefaultBase = "postern.internal"

// hostOf returns the host name of o, empty if it has none. It depends on o's
// id and, for APIs and Endpoints, on the Gateway's region.
func hostOf(o Object, s *Set, base string) string {
	region := func(gateway string) string {
		if g, ok := Get[*Gateway](s, gateway); ok {
			return g.Spec.Region
		}
		return ""
	}
	switch o := o.(type) {
	case *Gateway:
		return o.Metadata.Name + "." + base
	case *Domain:
		return o.Metadata.Name
	case *API:
		if r := region(o.Spec.Gateway); r != "" {
			return o.Status.ID + ".execute-api." + r + "." + base
		}
	case *Endpoint:
		if r := region(o.Spec.Gateway); r != "" {
			return EndpointLabel(o.Status.ID) + ".execute-api." + r + ".vpce." + base
		}
	}
	return ""
}
