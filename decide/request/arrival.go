// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"crypto/x509"
	"errors"
	"time"

	"postern.dev/postern/decide/limit"
	"postern.dev/postern/snapshot"
)

// Account is the account in every ARN.
const Account = "000000000000"

// Arrival is one HTTP request as it reached a Gateway, and all that is known of
// where it came from.
type Arrival struct {
	Gateway *snapshot.Gateway
	// Endpoint is the one it came through; nil on the public address.
	Endpoint *snapshot.Endpoint
	Origin   *snapshot.Origin
	// Listens are the components that share the port.
	Listens snapshot.Components

	// TLS tells whether the connection is TLS; SNI is the name its handshake
	// asked for.
	TLS bool
	SNI string
	// ClientCert is the certificate that the caller showed and that was
	// verified; nil if it showed none.
	ClientCert *ClientCert
	// Unvouched is why the authorities of the Domain that the handshake names do
	// not vouch for the certificate that the caller is to show; nil if they do, or
	// none is asked for. A question has it: such a handshake never ends.
	Unvouched error
	// Verify says that the caller still has to be content with the certificate.
	// A question sets it; for a request that was received the caller has been.
	Verify bool
	// Asked says that the handshake is yet to come, whether the caller verifies
	// or not: the arrival is a question.
	Asked bool

	// Host is the Host field, with or without a port. At a real socket Port is the
	// port that it names, if any.
	Host string
	Port string
	// APIID is the field x-apigw-api-id, if HasAPIID.
	APIID    string
	HasAPIID bool
	// Key is the field x-api-key, if HasKey; ShowKey sets them. KeyRepeated says
	// that it came more than once.
	Key         string
	HasKey      bool
	KeyRepeated bool
	// Subscription is the one whose key the caller is taken to show, in place of
	// Key. A question has it: nobody knows a key but who uses it.
	Subscription *snapshot.Subscription
	// KeyMeter counts for the key of Subscription; nil if that is not known.
	KeyMeter *limit.Meter
	// Meters count what is limited, by the index that a Key or Stage has. Without
	// them nothing is used up.
	Meters []*limit.Meter
	Method string
	// Override is the field X-HTTP-Method-Override; a method there counts
	// instead of Method.
	Override string
	// Path and Query are as received, the path percent-encoded.
	Path, Query        string
	UserAgent, Referer string
	// ForwardedFor are the values of the fields X-Forwarded-For, in order.
	ForwardedFor []string
	// Accept is the field Accept, which chooses between an API's own texts.
	Accept string
	Now    time.Time
	// RequestID and ExtendedID are the ids that the answer carries, for texts
	// of an API's own; Header reads any field for them. All may be left out.
	RequestID, ExtendedID string
	Header                func(name string) (string, bool)
}

// ClientCert is a caller's verified certificate.
type ClientCert struct {
	// Domain is the name of the Domain whose authorities verified it.
	Domain string
	// Subject is its distinguished name (RFC 2253).
	Subject string
}

// ShowKey notes a field x-api-key. Several are no key, whatever is in them: fields
// of one name are one list (RFC 9110, 5.3), and to choose from it would let a
// caller be one to the proxy before a Gateway, and another to the Gateway.
func (a *Arrival) ShowKey(value string) {
	a.KeyRepeated = a.HasKey
	a.Key, a.HasKey = value, true
}

// shown reports whether the caller has shown a certificate that the authorities
// of d verified.
func (a *Arrival) shown(d *snapshot.Domain) bool {
	return a.ClientCert != nil && a.ClientCert.Domain == d.Name
}

// Present notes the certificates that the caller is to show in the handshake, its
// own first. They come to nothing where the name in the handshake is that of no
// Domain which asks for one.
func (a *Arrival) Present(chain []*x509.Certificate) {
	d := Authority(a.Gateway, a.Endpoint, a.SNI)
	if d == nil || !a.TLS || len(chain) == 0 {
		return
	}
	if a.Unvouched = Vouch(d.ClientCA.Pool, chain, a.Now); a.Unvouched == nil {
		a.ClientCert = &ClientCert{Domain: d.Name, Subject: chain[0].Subject.String()}
	}
}

// errNoAuthorities is why nobody's certificate is taken.
var errNoAuthorities = errors.New("the Domain has no authorities")

// Vouch tells why authorities do not vouch for a client's certificates, as a TLS
// server judges them that verifies one: for any that is shown, whether it has to
// be or not. now is the present if it is zero.
func Vouch(authorities *x509.CertPool, chain []*x509.Certificate, now time.Time) error {
	if authorities == nil { // Verify would take the system's
		return errNoAuthorities
	}
	o := x509.VerifyOptions{
		Roots: authorities, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(o)
	return err
}

// effective returns the method that counts. An override that could not be sent
// on as a method is none.
func (a *Arrival) effective() string {
	if n := len(a.Override); n == 0 || n > 16 {
		return a.Method
	}
	for i := range len(a.Override) {
		if c := a.Override[i]; c < 'A' || c > 'Z' {
			return a.Method
		}
	}
	return a.Override
}
