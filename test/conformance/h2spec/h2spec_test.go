// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package h2spec asks a Postern on the loopback all that h2spec knows to ask of
// an HTTP/2 server. README.md says how to run it.
package h2spec

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern.dev/postern/client"
	"postern.dev/postern/instance"
	"postern.dev/postern/model"
)

// The Domain that is called, and what at it.
const (
	name = "echo.example"
	path = "/echo"
)

// cases is how many there are in the pinned version.
const cases = 145

// freePorts finds ports that nothing listens on.
func freePorts(t *testing.T, n int) []uint16 {
	t.Helper()
	out := make([]uint16, n)
	for i := range out {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all at once, so that they differ
		out[i] = l.Addr().(*net.TCPAddr).AddrPort().Port()
	}
	return out
}

// start starts a Postern with a backend behind name, and returns the port of
// its https. The backend answers when it has the whole request: some of the
// cases break a request that is to be under way.
func start(t *testing.T) uint16 {
	t.Helper()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, io.MultiReader(r.Body, strings.NewReader("answer"))); err != nil {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(backend.Close)
	document, err := json.Marshal(map[string]any{
		"openapi": "3.0.1", "info": map[string]any{"title": "echo", "version": "1"},
		"paths": map[string]any{path: map[string]any{"x-amazon-apigateway-any-method": map[string]any{
			"x-amazon-apigateway-integration": map[string]any{"type": "http_proxy", "httpMethod": "ANY", "uri": backend.URL + path},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 2)
	p, err := instance.Start(t.Context(), instance.Options{
		Data: t.TempDir(), Management: "127.0.0.1:0", Public: netip.MustParseAddr("127.0.0.1"),
		PublicPorts: map[uint16]uint16{443: ports[0], 3443: ports[1]},
		AllowEgress: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, // to the backend
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	set := p.Settings()
	c, err := client.New(client.Options{Address: set.Address, CA: set.CA, Token: set.Token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	head := func(name string) model.Head { return model.Head{Metadata: model.Metadata{Name: name}} }
	if _, err := c.Apply(t.Context(), []model.Object{
		&model.Gateway{Head: head("main"), Spec: model.GatewaySpec{Region: "eu-1"}},
		&model.API{Head: head("echo"), Spec: model.APISpec{Gateway: "main", Type: model.Regional, OpenAPI: document}},
		&model.Stage{Head: head("echo.prod"), Spec: model.StageSpec{AutoDeploy: true}},
		&model.Domain{Head: head(name), Spec: model.DomainSpec{Type: model.Regional, Mappings: []model.Mapping{{API: "echo", Stage: "prod"}}}},
	}, false); err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

// report is what h2spec writes down, as JUnit does.
type report struct {
	Suites []struct {
		Name  string `xml:"name,attr"`
		Cases []struct {
			Package   string  `xml:"package,attr"`
			ClassName string  `xml:"classname,attr"`
			Failure   *string `xml:"failure"`
			Error     *string `xml:"error"`
			Skipped   *string `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

func TestEveryCasePasses(t *testing.T) {
	if os.Getenv("POSTERN_H2SPEC") == "" {
		t.Skip("SKIPPED: h2spec has to be downloaded. Run it with make h2spec; nothing was proved about the 145 cases of HTTP/2.")
	}
	dir := t.TempDir()
	program, file := filepath.Join(dir, "h2spec"), filepath.Join(dir, "report.xml")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "suite", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program, name, fmt.Sprint(start(t)), path, file)
	out, err := cmd.CombinedOutput()
	text, rerr := os.ReadFile(file)
	if rerr != nil {
		t.Fatalf("%v, %v:\n%s", err, rerr, out)
	}
	var r report
	if err := xml.Unmarshal(text, &r); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	passed := 0
	for _, s := range r.Suites {
		for _, c := range s.Cases {
			if c.Failure == nil && c.Error == nil && c.Skipped == nil {
				passed++
				continue
			}
			t.Errorf("%s %s: failed", c.Package, c.ClassName)
		}
	}
	if passed != cases || err != nil {
		t.Errorf("%d of %d pass (%v)\n%s", passed, cases, err, out)
	}
}
