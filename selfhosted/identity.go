// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"postern.dev/postern/model"
	"postern.dev/postern/selfhosted/link"
)

// identityFile holds the client certificate and its key, in one file so that
// they are replaced together.
const identityFile = "gateway.pem"

// identity is the client certificate by which the management plane knows the
// gateway, where it has no token. The key never leaves the machine.
type identity struct {
	file string
	now  func() time.Time

	mu   sync.Mutex // guards cert
	cert *tls.Certificate
}

func newIdentity(dir string, now func() time.Time) (*identity, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("config.service.auth.certificate: %w", err)
	}
	// What is kept is read before it is needed; what is wrong with it keeps nobody
	// from serving.
	return &identity{file: filepath.Join(dir, identityFile), now: now}, nil
}

// load reads what is kept, which another instance may have renewed.
func (i *identity) load() error {
	b, err := os.ReadFile(i.file)
	if err != nil {
		return err
	}
	c, err := tls.X509KeyPair(b, b)
	if err != nil {
		return fmt.Errorf("%s: %w", i.file, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.cert == nil || !c.Leaf.NotAfter.Before(i.cert.Leaf.NotAfter) {
		i.cert = &c
	}
	return nil
}

// show is what handshakes ask.
func (i *identity) show(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.cert == nil {
		return &tls.Certificate{}, nil // there is none to show
	}
	return i.cert, nil
}

// due is when the next certificate is to be asked for: when a third of its time
// is left. Without a certificate it is now.
func (i *identity) due() (at time.Time, have bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.cert == nil {
		return i.now(), false
	}
	l := i.cert.Leaf
	return l.NotAfter.Add(-l.NotAfter.Sub(l.NotBefore) / 3), true
}

// keep writes a certificate and its key.
func (i *identity) keep(cert string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString(cert)
	if err := pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
		return err
	}
	made, err := tls.X509KeyPair(b.Bytes(), b.Bytes())
	if err != nil {
		return fmt.Errorf("the certificate that was issued does not fit: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(i.file), identityFile+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), i.file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cert = &made
	return nil
}

// ask gets a certificate for a new key: by the enrolment if there is none yet.
func (g *Gateway) ask(ctx context.Context, enrolment model.Secret) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: g.s.Name}}, key)
	if err != nil {
		return err
	}
	out, err := g.link.Enrol(ctx, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), enrolment)
	if err != nil {
		return err
	}
	if out.Name != g.s.Name {
		return fmt.Errorf("the enrolment is of gateway %s, and gateway.name is %s", out.Name, g.s.Name)
	}
	if err := g.identity.keep(out.Certificate, key); err != nil {
		g.log.Error("GatewayCertificateNotKept", "exception", err.Error())
		return err
	}
	g.log.Info("GatewayCertificateIssued", "expiresAtUtc", out.Expires, "renewAtUtc", out.Renew)
	return nil
}

// identify gets the first certificate, or renews one that is due, and reports
// false if ctx ended before there was any.
func (g *Gateway) identify(ctx context.Context) bool {
	for attempt := 1; ; attempt++ {
		if err := g.identity.load(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			g.log.Warn("GatewayCertificateUnreadable", "exception", err.Error(), "message", "what was received before is served; remove the file, and enrol again")
		}
		at, have := g.identity.due()
		if have && g.o.Now().Before(at) {
			return true
		}
		var err error
		switch {
		case have:
			err = g.ask(ctx, model.Secret{})
		case g.s.Enrolment.IsZero():
			err = errors.New("there is no certificate yet, and config.service.auth.enrolment is empty")
			if attempt == 1 {
				g.log.Error("GatewayStartup", "message", err.Error())
			}
		default:
			err = g.ask(ctx, g.s.Enrolment)
		}
		if err == nil || have && attempt > 1 {
			return true // with the one that there is, if need be
		}
		if !link.Wait(ctx, attempt, err) {
			return false
		}
	}
}

const (
	// renewEvery is how often it is looked whether a certificate is due.
	renewEvery = 10 * time.Minute
	// refusedEvery is how often it is looked whether it is refused.
	refusedEvery = time.Second
)

// renew keeps the certificate from ending, and replaces one that is refused if
// there is an enrolment for it.
func (g *Gateway) renew(ctx context.Context) {
	due, look := time.NewTicker(renewEvery), time.NewTicker(refusedEvery)
	defer due.Stop()
	defer look.Stop()
	for attempt, tried := 1, g.s.Enrolment.IsZero(); ; {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
			g.identify(ctx)
		case <-look.C:
			if f := g.link.State().Failure; tried || f == nil || f.Kind != link.KindToken {
				continue
			}
			// A certificate that was revoked, or is of a gateway that was made anew,
			// is of no more use. Whether the enrolment is, it tells once.
			err := g.ask(ctx, g.s.Enrolment)
			f, refused := errors.AsType[*link.Failure](err)
			if tried = err == nil || refused && f.Kind == link.KindToken; !tried {
				link.Wait(ctx, attempt, err)
				attempt++
			}
		}
	}
}

// connect keeps the connection to the management plane.
func (g *Gateway) connect(ctx context.Context) {
	if g.identity != nil {
		if !g.identify(ctx) {
			return
		}
		g.wait.Go(func() { g.renew(ctx) })
	}
	g.link.Run(ctx)
}
