// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"postern.dev/postern/control/registry"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/store"
)

const (
	// maxAnswer bounds what an authority answers.
	maxAnswer = 1 << 20
	// patience bounds the wait for an authority to judge or to issue.
	patience = 2 * time.Minute
	// cleanup bounds what is tidied after the work itself has ended.
	cleanup = 10 * time.Second
)

// issuer asks one authority for certificates. certmagic's own would open
// sockets of its own for challenges; here the Gateway answers them.
type issuer struct {
	docs  Documents
	locks *locks
	dial  Dial
	spec  snapshot.ACME
}

var _ certmagic.Issuer = (*issuer)(nil)

// IssuerKey implements certmagic.Issuer: certificates are kept below it.
func (i *issuer) IssuerKey() string {
	sum := sha256.Sum256([]byte(i.spec.Directory))
	host := ""
	if u, err := url.Parse(i.spec.Directory); err == nil {
		host = u.Hostname()
	}
	return host + "-" + hex.EncodeToString(sum[:4])
}

// Issue implements certmagic.Issuer.
func (i *issuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	client, done, err := i.client()
	if err != nil {
		return nil, err
	}
	defer done()
	for forgotten := false; ; forgotten = true {
		account, err := i.account(ctx, client)
		if err != nil {
			return nil, err
		}
		order, err := acmez.OrderParametersFromCSR(account, csr)
		if err != nil {
			return nil, fmt.Errorf("acme: the order: %w", err)
		}
		chains, err := client.ObtainCertificate(ctx, order)
		if p, ok := errors.AsType[acme.Problem](err); ok && p.Type == acme.ProblemTypeAccountDoesNotExist && !forgotten {
			// The authority was set up anew: so is the account.
			if err := i.forget(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(chains) == 0 {
			return nil, errors.New("acme: the authority issued no certificate")
		}
		return &certmagic.IssuedCertificate{Certificate: chains[0].ChainPEM}, nil
	}
}

// client returns a client of the authority, and what closes its connections.
func (i *issuer) client() (*acmez.Client, func(), error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // none on this machine
	}
	if i.spec.Roots != "" && !roots.AppendCertsFromPEM([]byte(i.spec.Roots)) {
		return nil, nil, errors.New("spec.tls.acme.roots holds no certificate")
	}
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return nil, err
			}
			return i.dial(ctx, host, uint16(n))
		},
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConns:          2,
		MaxConnsPerHost:       4,
	}
	c := &acmez.Client{
		Client: &acme.Client{
			Directory: i.spec.Directory, UserAgent: "postern", PollTimeout: patience,
			HTTPClient: &http.Client{Transport: bounded{t}, Timeout: time.Minute},
		},
		ChallengeSolvers: map[string]acmez.Solver{},
	}
	if i.spec.HTTP01 {
		c.ChallengeSolvers[acme.ChallengeTypeHTTP01] = presenter{i.docs}
	}
	if i.spec.TLSALPN01 {
		c.ChallengeSolvers[acme.ChallengeTypeTLSALPN01] = presenter{i.docs}
	}
	return c, t.CloseIdleConnections, nil
}

// bounded ends answers that are too long.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = limitedBody{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

type limitedBody struct {
	io.Reader
	io.Closer
}

// account is what is kept of an account at the authority.
type account struct {
	Account acme.Account `json:"account"`
	Key     string       `json:"key"` // PEM
}

func (i *issuer) accountKey() store.Key {
	sum := sha256.Sum256([]byte(i.spec.Email))
	return fileKey("accounts/" + i.IssuerKey() + "/" + hex.EncodeToString(sum[:8]))
}

// account returns the account to use, registered by this or another server.
func (i *issuer) account(ctx context.Context, client *acmez.Client) (acme.Account, error) {
	key := i.accountKey()
	if a, ok, err := i.kept(key); ok || err != nil {
		return a, err
	}
	if err := i.locks.Lock(ctx, key.Name); err != nil {
		return acme.Account{}, err
	}
	a, err := i.register(ctx, client, key)
	return a, errors.Join(err, i.locks.Unlock(ctx, key.Name))
}

// register makes an account, unless another server was first. Whoever names an
// authority in a manifest has agreed to its terms; the documents say so.
func (i *issuer) register(ctx context.Context, client *acmez.Client, key store.Key) (acme.Account, error) {
	if a, ok, err := i.kept(key); ok || err != nil {
		return a, err
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return acme.Account{}, fmt.Errorf("acme: make a key: %w", err)
	}
	a := acme.Account{TermsOfServiceAgreed: true, PrivateKey: k}
	if i.spec.Email != "" {
		a.Contact = []string{"mailto:" + i.spec.Email}
	}
	if a, err = client.NewAccount(ctx, a); err != nil {
		return a, fmt.Errorf("acme: register an account: %w", err)
	}
	text, err := certmagic.PEMEncodePrivateKey(k)
	if err != nil {
		return a, err
	}
	data, err := json.Marshal(account{a, string(text)})
	if err != nil {
		return a, err
	}
	_, err = i.docs.Keep(ctx, store.Change{IfRevision: store.Any, Puts: []store.Put{{Key: key, IfRevision: store.Any, Data: data}}})
	return a, err
}

func (i *issuer) kept(key store.Key) (acme.Account, bool, error) {
	d, ok := i.docs.Head().Find(registry.KindACME, key.Name)
	if !ok {
		return acme.Account{}, false, nil
	}
	var a account
	err := json.Unmarshal(d.Data, &a)
	if err == nil {
		var k crypto.Signer
		k, err = certmagic.PEMDecodePrivateKey([]byte(a.Key))
		a.Account.PrivateKey = k
	}
	if err != nil {
		return acme.Account{}, false, errors.New("acme: the account that is kept does not parse; restore a backup")
	}
	return a.Account, true, nil
}

func (i *issuer) forget(ctx context.Context) error {
	_, err := i.docs.Keep(ctx, store.Change{IfRevision: store.Any, Deletes: []store.Delete{{Key: i.accountKey(), IfRevision: store.Any}}})
	return err
}
