// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"postern.dev/postern/compile"
	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// referenceEnv is set for a process that is the server under test: to the program
// of the suite's own server, which is its backend.
const referenceEnv = "POSTERN_CONNECT_REFERENCE"

// The suite's certificate is for localhost and 127.0.0.1, and no Domain may be
// called either: it is compiled under another name and renamed.
const compiled = "conformance.example"

// name is what the suite's clients call: an address, which they need not resolve.
// Certificates of clients are asked for by name.
func (w *wanted) name() string {
	if len(w.clientCA) > 0 {
		return "localhost"
	}
	return "127.0.0.1"
}

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// serve is a server under test: a Gateway before the suite's own server, of the
// version of HTTP that the suite asks for, and until it says that it is enough.
func serve(reference string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	b, err := readMessage(os.Stdin)
	if err != nil {
		return fmt.Errorf("reading what is asked for: %w", err)
	}
	w, err := parseWanted(b)
	if err != nil {
		return err
	}
	to, kill, err := backend(w, reference)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kill()) }()
	g, public, err := open(&w, &to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	port, shut, err := listen(ctx, g, public, &w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shut()) }()
	at := served{host: w.name(), port: uint64(port), cert: w.cert}
	if !w.tls {
		at.cert = nil
	}
	if err := writeMessage(os.Stdout, at.append()); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// backend starts the suite's own server. The Gateway has seen the certificate of
// a client, the backend does not ask for it.
func backend(w wanted, program string) (at served, end func() error, err error) {
	w.clientCA = nil
	if w.version == http3 {
		w.version = http2
	}
	cmd := exec.Command(program)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return at, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return at, nil, err
	}
	if err := cmd.Start(); err != nil {
		return at, nil, err
	}
	end = func() error {
		if err := cmd.Process.Kill(); err != nil {
			return err
		}
		_ = cmd.Wait() // it was killed
		return nil
	}
	err = errors.Join(writeMessage(in, w.append()), in.Close())
	if err == nil {
		var b []byte
		if b, err = readMessage(out); err == nil {
			at, err = parseServed(b)
		}
	}
	if err != nil {
		return at, nil, errors.Join(fmt.Errorf("the reference server: %w", err), end())
	}
	return at, end, nil
}

// backendProtocol is how the Gateway calls the backend, and whether under TLS beside.
func (w *wanted) backendProtocol() (protocol string, secure bool) {
	switch {
	case w.version == http1 && w.tls:
		return "https", false
	case w.version == http1:
		return "http", false
	case w.tls:
		return "grpc", true
	case w.protocol == protocolGRPC:
		return "grpc", false
	}
	return "h2c", false
}

// manifests are the resources of the Gateway.
func manifests(w *wanted, to *served) ([]byte, error) {
	protocol, secure := w.backendProtocol()
	target := map[string]any{"host": to.host, "port": to.port}
	if secure {
		target["tls"] = true
	}
	domain := map[string]any{"type": "regional", "mappings": []any{map[string]any{"api": "conformance", "stage": "live"}}}
	if len(w.clientCA) > 0 {
		authority, err := anAuthority()
		if err != nil {
			return nil, err
		}
		domain["clientCA"] = map[string]any{"bundle": authority, "mode": "required"}
	}
	operation := map[string]any{"responses": map[string]any{"default": map[string]any{"description": "as the service says"}}}
	var out []byte
	for _, r := range []struct {
		kind, name string
		spec       map[string]any
	}{
		{"Gateway", "main", map[string]any{"region": "eu-1", "http": "serve"}},
		{"Backend", "reference", map[string]any{"protocol": protocol, "targets": []any{target}}},
		{"API", "conformance", map[string]any{
			"gateway": "main", "type": "regional", "backend": "reference",
			"openapi": map[string]any{
				"openapi": "3.1.0", "info": map[string]any{"title": "Conformance", "version": "1"},
				"paths": map[string]any{"/{service}/{method}": map[string]any{
					"parameters": []any{
						map[string]any{"name": "service", "in": "path", "required": true, "schema": map[string]any{"type": "string"}},
						map[string]any{"name": "method", "in": "path", "required": true, "schema": map[string]any{"type": "string"}},
					},
					"x-amazon-apigateway-any-method": operation,
				}},
			},
		}},
		{"Stage", "conformance.live", map[string]any{"autoDeploy": true}},
		{"Domain", compiled, domain},
	} {
		b, err := json.Marshal(map[string]any{"apiVersion": "postern/v1", "kind": r.kind, "metadata": map[string]any{"name": r.name}, "spec": r.spec})
		if err != nil {
			return nil, err
		}
		out = append(append(out, b...), "\n---\n"...)
	}
	return out, nil
}

// anAuthority is a certificate that a Domain may be given.
func anAuthority() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Callers"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), nil
}

// open makes an engine of the manifests, as a server does. It tells the Gateway's
// public address.
func open(w *wanted, to *served) (*gateway.Engine, netip.Addr, error) {
	text, err := manifests(w, to)
	if err != nil {
		return nil, netip.Addr{}, err
	}
	objects, err := manifest.Decode("conformance.yaml", text)
	if err != nil {
		return nil, netip.Addr{}, err
	}
	set, _, err := model.Admit(model.NewSet(), model.Change{Puts: objects}, model.Options{IDs: model.NamedIDs(), Base: model.DefaultBase, Deployments: true})
	if err != nil {
		return nil, netip.Addr{}, err
	}
	result := new(compile.Compiler).Compile(set, compile.Options{
		Base: model.DefaultBase, Segment: []netip.Prefix{model.DefaultInternet}, AsWritten: true, Egress: []netip.Prefix{loopback},
	})
	for _, o := range set.Objects() {
		ref := model.Ref{Kind: o.Kind(), Name: o.Base().Metadata.Name}
		if ok, c := result.Ready(ref); !ok {
			return nil, netip.Addr{}, fmt.Errorf("%s is not ready: %s", ref, c.Message)
		}
	}
	options := gateway.Options{Certificate: func(string) (*tls.Certificate, error) { return nil, errors.New("there is no TLS") }}
	if w.tls {
		pair, err := tls.X509KeyPair(w.cert, w.key)
		if err != nil {
			return nil, netip.Addr{}, err
		}
		options.Certificate = func(string) (*tls.Certificate, error) { return &pair, nil }
		options.Roots = x509.NewCertPool()
		options.Roots.AppendCertsFromPEM(to.cert)
	}
	hosts := result.Snapshot.Gateways["main"].Hosts
	h := hosts[compiled]
	delete(hosts, compiled)
	h.Name, h.Domain.Name = w.name(), w.name()
	hosts[w.name()] = h
	if ca := h.Domain.ClientCA; ca != nil {
		// The suite's certificate is its own issuer and no authority, which a Domain
		// would not be given.
		ca.Pool, ca.Bundle = x509.NewCertPool(), string(w.clientCA)
		ca.Pool.AppendCertsFromPEM(w.clientCA)
	}
	g := gateway.New(options)
	g.Swap(result.Snapshot)
	return g, result.Snapshot.Gateways["main"].Public[0], nil
}

// listen serves a port of the loopback as if it were the public address of the
// Gateway.
func listen(ctx context.Context, g *gateway.Engine, public netip.Addr, w *wanted) (port int, end func() error, err error) {
	stands := uint16(80)
	if w.tls {
		stands = 443
	}
	origin := func(from netip.AddrPort) *snapshot.Origin {
		return &snapshot.Origin{Local: netip.AddrPortFrom(public, stands), Source: from}
	}
	if w.version == http3 {
		return packets(ctx, g, origin)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, nil, err
	}
	port = l.Addr().(*net.TCPAddr).Port
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			o := origin(c.RemoteAddr().(*net.TCPAddr).AddrPort())
			wait.Go(func() { _ = g.ServeConn(ctx, c, o) }) // clients tell how it went
		}
	})
	return port, func() error {
		err := l.Close()
		wait.Wait()
		return err
	}, nil
}

// packets serves HTTP/3.
func packets(ctx context.Context, g *gateway.Engine, origin func(netip.AddrPort) *snapshot.Origin) (port int, end func() error, err error) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- g.ServeSocket(ctx, pc, func(from netip.AddrPort) (*snapshot.Origin, func(), bool) {
			o := origin(from)
			o.QUIC = true
			return o, func() {}, true
		})
	}()
	return pc.LocalAddr().(*net.UDPAddr).Port, func() error {
		cancel()
		return <-done
	}, nil
}
