// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"strings"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"postern.dev/postern/control/registry"
	"postern.dev/postern/store"
)

// presenter puts challenges where every server of the cluster finds them: the
// authority may ask any of them. There is one for each name and type at most,
// so that what a crash leaves behind is bounded and overwritten.
type presenter struct{ docs Documents }

func challengeName(kind, name string) string { return "challenges/" + kind + "/" + name }

// Present implements acmez.Solver.
func (p presenter) Present(ctx context.Context, c acme.Challenge) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	key := fileKey(challengeName(c.Type, strings.ToLower(c.Identifier.Value)))
	_, err = p.docs.Keep(ctx, store.Change{IfRevision: store.Any, Puts: []store.Put{{Key: key, IfRevision: store.Any, Data: data}}})
	return err
}

// CleanUp implements acmez.Solver.
func (p presenter) CleanUp(ctx context.Context, c acme.Challenge) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
	defer cancel()
	key := fileKey(challengeName(c.Type, strings.ToLower(c.Identifier.Value)))
	_, err := p.docs.Keep(ctx, store.Change{IfRevision: store.Any, Deletes: []store.Delete{{Key: key, IfRevision: store.Any}}})
	return err
}

func (k *Keeper) challenge(kind, name string) (c acme.Challenge, ok bool) {
	d, ok := k.opts.Documents.Head().Find(registry.KindACME, challengeName(kind, name))
	if !ok {
		return c, false
	}
	return c, json.Unmarshal(d.Data, &c) == nil
}

// HTTP01 returns what a GET of /.well-known/acme-challenge/TOKEN at a host is
// answered with (RFC 8555, 8.3); ok is false if no such challenge is open.
func (k *Keeper) HTTP01(host, token string) (keyAuthorization string, ok bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	c, ok := k.challenge(acme.ChallengeTypeHTTP01, hostName(host))
	if !ok || c.Token != token {
		return "", false
	}
	return c.KeyAuthorization, true
}

// TLSALPN returns the certificate for a handshake with the protocol acme-tls/1
// (RFC 8737); ok is false if no such challenge is open for the name.
func (k *Keeper) TLSALPN(name string) (*tls.Certificate, bool) {
	c, ok := k.challenge(acme.ChallengeTypeTLSALPN01, hostName(name))
	if !ok {
		return nil, false
	}
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		k.opts.Log.Error("a certificate for a challenge could not be made", "domain", name, "error", err)
		return nil, false
	}
	return cert, true
}

func hostName(s string) string { return strings.TrimSuffix(strings.ToLower(s), ".") }
