// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Command pebble is Let's Encrypt's ACME authority for tests, with a name
// server that says of every name that it is at 127.0.0.1. It validates for
// real, at the ports it is given, and serves until its input ends. One line of
// JSON on its output says where.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

func main() {
	httpPort := flag.Int("http", 80, "port at which http-01 is validated")
	tlsPort := flag.Int("tls", 443, "port at which tls-alpn-01 is validated")
	validity := flag.Uint64("validity", 3600, "seconds that a certificate is valid")
	blocked := flag.String("blocked", "blocked.example", "a name that no certificate is issued for")
	flag.Parse()
	if err := run(*httpPort, *tlsPort, *validity, *blocked); err != nil {
		fmt.Fprintln(os.Stderr, "pebble:", err)
		os.Exit(1)
	}
}

func run(httpPort, tlsPort int, validity uint64, blocked string) error {
	if err := os.Setenv("PEBBLE_VA_NOSLEEP", "1"); err != nil {
		return err
	}
	resolver, err := resolve()
	if err != nil {
		return err
	}
	logger := log.New(os.Stderr, "", log.Lmicroseconds)
	memory := db.NewMemoryStore()
	if err := memory.AddBlockedDomain(blocked); err != nil {
		return err
	}
	authority := ca.New(logger, memory, "", "ecdsa", 0, 1, map[string]ca.Profile{
		"default": {Description: "the only one", ValidityPeriod: validity},
	})
	front := wfe.New(logger, memory, va.New(logger, httpPort, tlsPort, true, resolver, memory), authority, []string{"pebble.test"}, true, false, 1, 1)

	own, roots, err := selfSigned()
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12})
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: front.Handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: logger}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	err = json.NewEncoder(os.Stdout).Encode(map[string]string{
		"directory": "https://" + l.Addr().String() + wfe.DirectoryPath, "roots": roots,
		"issuer": string(authority.GetRootCert(0).PEM()),
	})
	if err != nil {
		return err
	}
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		done <- errors.Join(err, srv.Close())
	}()
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// resolve starts the name server and returns its address.
func resolve() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1},
				A:   net.IPv4(127, 0, 0, 1),
			}}
		}
		if err := w.WriteMsg(m); err != nil {
			log.Print("name server: ", err)
		}
	})}
	go func() {
		if err := srv.ActivateAndServe(); err != nil {
			log.Print("name server: ", err)
		}
	}()
	return l.Addr().String(), nil
}

// selfSigned makes the certificate of the directory, which stands for itself.
func selfSigned() (tls.Certificate, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(text), nil
}
