// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/selfhosted/setting"
)

// trust is who is believed.
type trust struct {
	name string
	// roots sign documents; none are known where only the system's are trusted.
	roots []*x509.Certificate
	// endpoint is trusted for the management plane, backends for these.
	endpoint, backends *x509.CertPool
	insecure           bool
	now                func() time.Time
}

func (t *trust) plane() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: t.endpoint,
		InsecureSkipVerify: t.insecure, //nolint:gosec // as config.service.endpoint.disableCertificateValidation asks
	}
}

// newTrust reads whom the settings trust.
func newTrust(s *setting.Settings, log *slog.Logger, now func() time.Time) (*trust, error) {
	t := &trust{name: s.Name, insecure: s.Insecure, now: now}
	t.endpoint, t.backends = systemRoots(), systemRoots()
	if s.CA != "" {
		b, err := os.ReadFile(s.CA)
		if err != nil {
			return nil, fmt.Errorf("config.service.ca: %w; postern config ca > %s makes it, where the management plane is known", err, s.CA)
		}
		if t.roots, err = certificatesIn(b); err != nil {
			return nil, fmt.Errorf("config.service.ca: %s: %w", s.CA, err)
		}
		for _, c := range t.roots {
			t.endpoint.AddCert(c)
		}
		// The private CA also issues for what Postern itself serves.
		for _, c := range t.roots {
			t.backends.AddCert(c)
		}
	}
	if s.LocalCA != "" {
		n, err := t.mounted(s.LocalCA)
		if err != nil {
			return nil, fmt.Errorf("certificates.local.ca.path: %w", err)
		}
		log.Info("LocalCertificatesLoaded", "path", s.LocalCA, "certificates", n)
	}
	if t.insecure {
		log.Warn("CertificateValidationDisabled", "message", "anybody on the way can take the management plane's place, read the token and send a configuration")
	}
	if !t.verifies() {
		log.Warn("SignatureNotVerified", "message", "config.service.ca names no authority: a configuration is believed because of the connection that it comes by, and a backup because it is sealed")
	}
	return t, nil
}

func systemRoots() *x509.CertPool {
	p, err := x509.SystemCertPool()
	if err != nil {
		return x509.NewCertPool() // a system without any
	}
	return p
}

// mounted trusts the authorities in a folder.
func (t *trust) mounted(dir string) (int, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range list {
		if ext := strings.ToLower(filepath.Ext(e.Name())); ext != ".crt" && ext != ".pem" && ext != ".cer" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return n, err
		}
		cs, err := certificatesIn(b)
		if err != nil {
			return n, fmt.Errorf("%s: %w", e.Name(), err)
		}
		for _, c := range cs {
			t.endpoint.AddCert(c)
			t.backends.AddCert(c)
			n++
		}
	}
	return n, nil
}

// certificatesIn reads PEM.
func certificatesIn(b []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for len(bytes.TrimSpace(b)) > 0 {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		b = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no certificate (PEM) in it")
	}
	return out, nil
}

// verifies reports whether signatures can be.
func (t *trust) verifies() bool { return len(t.roots) > 0 }

// judge refuses a document that is not for this gateway or not signed by whom it
// trusts.
func (t *trust) judge(d *configuration.Document) error {
	if d.For != t.name {
		return fmt.Errorf("the configuration is of gateway %s, and this is %s", d.For, t.name)
	}
	if !t.verifies() {
		return nil
	}
	if t.signer(d) != nil {
		return nil
	}
	return fmt.Errorf("%w; config.service.ca has to hold what postern config ca prints", configuration.ErrSignature)
}

// signer is the authority that signed d; nil if none that is known did.
func (t *trust) signer(d *configuration.Document) *x509.Certificate {
	for _, root := range t.roots {
		if d.Verify(root) == nil {
			return root
		}
	}
	return nil
}

// follow judges whether next may take the place of held, which judge took both.
// It holds whoever brings next, and however the connection was trusted.
func (t *trust) follow(held, next *configuration.Document) (configuration.Step, error) {
	return configuration.Follow(held, next, t.signer(held) == t.signer(next), t.now())
}
