// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package gateway runs the gateways that are compared, each as a process of its
// own, configured to do the same: the README of the folder above says why each
// is configured as it is.
package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"
)

// Host is the name that all requests are for.
const Host = "main.postern.internal"

// Task is what a gateway has to do.
type Task struct {
	Backend string // host:port
	APIs    int    // each at a prefix of its own
	Keys    int    // 0: none is asked for. Else one more is made, to see the limit by
	Rate    int    // what each key may call a second, and at once; it is not reached
	TLS     bool
	HTTP2   bool
	Root    string // of the module
	Bin     string // folder of what is built
	Dir     string // for everything else that is made
	Conns   int    // at most, of clients
	Profile bool   // Postern can be asked for a profile
}

// Prefix is the path that API i is at. In each there is one operation, /items.
func Prefix(i int) string { return fmt.Sprintf("/api%04d", i) }

// Running is a gateway that is ready.
type Running struct {
	*Process
	Name string
	Addr string
	Keys []string // one more than asked for
	// AccessLog is the file of its access log, where there has to be one.
	AccessLog string
}

// Gateway is one that can be compared.
type Gateway struct {
	Name string
	// About says what it is, in a line.
	About string
	start func(ctx context.Context, t *Task) (*Running, error)
	fit   func(t *Task) string // what it cannot do of a task; nil: everything
}

// All are the gateways, in the order of the table.
var All = []Gateway{
	{Name: "nginx", About: "Debian package nginx", start: startNginx},
	{Name: "haproxy", About: "Debian package haproxy", start: startHAProxy},
	{Name: "postern", About: "postern server, built from this tree", start: startPostern},
	{Name: "caddy", About: "Go module, with mholt/caddy-ratelimit", start: startCaddy},
	{Name: "lura", About: "Go module: the engine of KrakenD", start: startLura},
	{Name: "fasthttp", About: "Go module: a reverse proxy of a few lines, to compare with", start: startFasthttp, fit: noFasthttp},
	{Name: "nethttp", About: "httputil.ReverseProxy of the standard library, to compare with", start: startNetHTTP, fit: plainOnly},
}

// ErrUnfit is why Start does not start what cannot do a task.
var ErrUnfit = errors.New("is not made for this")

// Start starts a gateway in a folder of its own.
func (g Gateway) Start(ctx context.Context, t *Task) (*Running, error) {
	if g.fit != nil {
		if why := g.fit(t); why != "" {
			return nil, fmt.Errorf("%w: %s", ErrUnfit, why)
		}
	}
	own := *t
	own.Dir = filepath.Join(t.Dir, g.Name)
	if err := os.MkdirAll(own.Dir, 0o755); err != nil {
		return nil, err
	}
	r, err := g.start(ctx, &own)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", g.Name, err)
	}
	r.Name = g.Name
	return r, nil
}

// files is how many files a process may have open: enough for 10,000 connections
// of clients, and as many to the backend, which HAProxy insists on.
const files = 65536

// Connections raises the bound of open files for everything that is started
// from now on, as far as it may, and returns how many connections of clients
// fit in.
func Connections() (int, error) {
	limit := syscall.Rlimit{Cur: files, Max: files}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return 0, err
		}
		limit.Cur = limit.Max
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return 0, err
		}
	}
	return int(min(limit.Cur, files))/2 - 200, nil
}

// find looks for a program of a Debian package.
func find(program, packet string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} { // not in the PATH of everybody
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not here: apt-get install %s, or leave it out with -gateways", program, packet)
}

// build builds a program of the folder peers, or of this module.
func build(ctx context.Context, dir, pkg, out string, flags ...string) error {
	args := append([]string{"build", "-C", dir, "-trimpath", "-o", out}, flags...)
	c := exec.CommandContext(ctx, "go", append(args, pkg)...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// peer builds a program of the module in programs.
func (t *Task) peer(ctx context.Context, name string) (string, error) {
	out := filepath.Join(t.Bin, name)
	return out, build(ctx, filepath.Join(t.Root, "test", "bench", "peers", "programs"), "./"+name, out)
}

//go:embed conf
var texts embed.FS

// configure writes a configuration from its template.
func (t *Task) configure(name string, values any) (string, error) {
	tmpl, err := template.New(name).Funcs(template.FuncMap{"port": port}).ParseFS(texts, "conf/"+name)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := tmpl.Execute(&b, values); err != nil {
		return "", err
	}
	return t.write(name, b.String())
}

func (t *Task) write(name, text string) (string, error) {
	path := filepath.Join(t.Dir, name)
	return path, os.WriteFile(path, []byte(text), 0o644)
}

// values are what the templates are filled in with.
type values struct {
	*Task
	Addr, Host       string
	Keys             []string // none if none is asked for
	APIs             []string // their prefixes
	Certificate, Key string   // files
	Metrics          string   // host:port
	AccessLog        string
	Workers          int
	WithKeys         bool
}

// fill makes what most gateways are configured from.
func (t *Task) fill() (*values, error) {
	v := &values{Task: t, Host: Host, Workers: Workers, WithKeys: t.Keys > 0, AccessLog: filepath.Join(t.Dir, "access.log")}
	var err error
	if v.Addr, err = freeAddress(); err != nil {
		return nil, err
	}
	if v.Metrics, err = freeAddress(); err != nil {
		return nil, err
	}
	for i := range t.APIs {
		v.APIs = append(v.APIs, Prefix(i))
	}
	if v.WithKeys {
		for range t.Keys + 1 {
			v.Keys = append(v.Keys, strings.ToLower(rand.Text()))
		}
	}
	if t.TLS {
		err = v.certify()
	}
	return v, err
}

// running is a gateway that was configured with these values.
func (v *values) running(p *Process) *Running {
	r := &Running{Process: p, Addr: v.Addr, Keys: v.Keys}
	if v.WithKeys {
		r.AccessLog = v.AccessLog
	}
	return r
}

// Workers is how many threads or processes each gateway works with.
const Workers = 2

// certify makes a certificate as Postern's own CA does: ECDSA over P-256.
func (v *values) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: Host}, DNSNames: []string{Host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	if v.Certificate, err = v.write("certificate.pem", certificate); err != nil {
		return err
	}
	if v.Key, err = v.write("key.pem", text); err != nil {
		return err
	}
	// HAProxy wants both in one.
	_, err = v.write("both.pem", certificate+text)
	return err
}
