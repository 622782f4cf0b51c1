// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package labs

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Where the server is reached, by every machine over a cable of its own.
const (
	hubAddress = "203.0.113.1"
	management = hubAddress + ":3443"
	hubPorts   = "51820-51829"
	public     = "203.0.113.2" // real sockets of what Gateways publish
	resolver   = "10.20.0.2"
)

// lab is a server and the machines around it.
type lab struct {
	t      *testing.T
	prefix string
	bin    string
	hub    *machine
	server *process
	flags  []string // of the server, beside those that all labs have
	cables int
	ca     string // file
	config string // file
}

// newLab starts a server in a namespace of its own.
func newLab(t *testing.T, tools ...string) *lab {
	t.Helper()
	return newLabWith(t, nil, tools...)
}

// newLabWith is newLab for a server with further flags.
func newLabWith(t *testing.T, flags []string, tools ...string) *lab {
	t.Helper()
	needs(t, tools...)
	l := &lab{t: t, prefix: unique(), bin: binary(t), flags: flags}
	l.hub = newMachine(t, l.prefix+"-hub")
	l.hub.ip("addr", "add", hubAddress+"/32", "dev", "lo")
	l.hub.ip("addr", "add", public+"/32", "dev", "lo")
	// Whatever gets from one machine to another went through Postern.
	l.hub.sysctl("ipv4/ip_forward", "0")
	l.config = filepath.Join(l.hub.dir, "data", "client.yaml")
	l.serve()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server's log:\n%s", l.server.stderr())
		}
	})
	settings, err := os.ReadFile(l.config)
	if err != nil {
		t.Fatal(err)
	}
	pem := regexp.MustCompile(`(?s)-----BEGIN.*?-----END CERTIFICATE-----`).FindString(string(settings))
	l.ca = filepath.Join(l.hub.dir, "ca.pem")
	if err := os.WriteFile(l.ca, []byte(strings.ReplaceAll(pem, "\n  ", "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return l
}

// serve starts the server and waits until it is ready.
func (l *lab) serve() {
	l.t.Helper()
	l.server = l.hub.start(l.hub.command(context.Background(), append([]string{
		l.bin, "server",
		"--data", filepath.Dir(l.config), "--management", management, "--wireguard", hubAddress + ":" + hubPorts,
	}, l.flags...)...))
	if line := l.server.line(); line != "postern is ready: https://"+management {
		l.t.Fatalf("the server: %s", line)
	}
}

// machine makes a machine with a cable to the server's.
func (l *lab) machine(name string) *machine {
	l.t.Helper()
	m := newMachine(l.t, l.prefix+"-"+name)
	wire(l.hub, "to-"+name, m, "up0")
	near, far := fmt.Sprintf("198.51.100.%d", 4*l.cables+1), fmt.Sprintf("198.51.100.%d", 4*l.cables+2)
	l.cables++
	l.hub.ip("addr", "add", near+"/30", "dev", "to-"+name)
	m.ip("addr", "add", far+"/30", "dev", "up0")
	m.ip("route", "add", hubAddress, "via", near)
	m.ip("route", "add", public, "via", near)
	return m
}

// site makes a router with a tunnel, and a desk on the network behind it,
// which is the machine returned second.
func (l *lab) site(conf string) (router, desk *machine) {
	l.t.Helper()
	router = l.machine("site")
	router.sysctl("ipv4/ip_forward", "1")
	desk = newMachine(l.t, l.prefix+"-desk")
	wire(router, "lan0", desk, "eth0")
	router.ip("addr", "add", "192.168.50.1/24", "dev", "lan0")
	desk.ip("addr", "add", deskAddress+"/24", "dev", "eth0")
	desk.ip("route", "add", "default", "via", "192.168.50.1")
	desk.resolver(resolver)
	router.tunnel(conf)
	return router, desk
}

const deskAddress = "192.168.50.10"

// postern runs the command as the administrator.
func (l *lab) postern(args ...string) result {
	l.t.Helper()
	return l.hub.run(append([]string{l.bin, "--config", l.config}, args...)...)
}

// ok is postern for a call that has to succeed.
func (l *lab) ok(args ...string) string {
	l.t.Helper()
	r := l.postern(args...)
	if r.code != 0 {
		l.t.Fatalf("postern %s: %s", strings.Join(args, " "), r)
	}
	return r.out
}

// apply applies a manifest: kind, name and spec.
func (l *lab) apply(kind, name, spec string) {
	l.t.Helper()
	text := fmt.Sprintf("apiVersion: postern/v1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n", kind, name, spec)
	if r := l.hub.feed(text, l.bin, "--config", l.config, "apply", "-f", "-"); r.code != 0 {
		l.t.Fatalf("apply %s: %s", text, r)
	}
}

// status is a resource's as scripts read it.
type status struct {
	ID           string
	Host         string
	Addresses    []string
	GrantedRules []grantedRule
	Conditions   []condition
}

type grantedRule struct {
	Name, Authorization, Gateway, Ports string
	From                                []string
	Orphan                              bool
}

type condition struct {
	Type, Reason, Message string
	Status                bool
}

// condition is the one of a type; an empty one if there is none.
func (s status) condition(kind string) condition {
	for _, c := range s.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return condition{}
}

func (l *lab) status(kind, name string) status {
	l.t.Helper()
	var o struct{ Status status }
	if out := l.ok("get", kind, name, "-o", "json"); json.Unmarshal([]byte(out), &o) != nil {
		l.t.Fatalf("get %s %s: %s", kind, name, out)
	}
	return o.Status
}

// symptom is what a caller sees.
type symptom struct {
	Kind   string
	Status int
	Body   string
}

func (s symptom) String() string {
	if s.Status != 0 {
		return s.Kind + " " + strconv.Itoa(s.Status)
	}
	return s.Kind
}

// explained is what scripts read of an explanation.
type explained struct {
	Verdict string
	Code    string
	Symptom struct {
		symptom
		Addresses []string
	}
	DecidedBy int
	Hops      []hop
	Findings  []struct{ Code, Component, Message string }
	Fixes     []struct {
		Summary  string
		Verified bool
	}
}

// hop is one gate of an explanation.
type hop struct {
	Layer, Component, Outcome, Code, Reason, Evidence string
	Rule                                              struct{ Resource string }
}

// decided is the hop that decides; an empty one if there is none.
func (e *explained) decided() hop {
	if e.DecidedBy < 0 || e.DecidedBy >= len(e.Hops) {
		return hop{}
	}
	return e.Hops[e.DecidedBy]
}

func (e *explained) finds(code string) bool {
	for _, f := range e.Findings {
		if f.Code == code {
			return true
		}
	}
	return false
}

// explain asks the server, and holds the exit code against the verdict.
func (l *lab) explain(from, url string, headers ...string) explained {
	l.t.Helper()
	args := []string{"explain", "-o", "json", "--from", from}
	for _, h := range headers {
		args = append(args, "-H", h)
	}
	r := l.postern(append(args, url)...)
	var e explained
	if err := json.Unmarshal([]byte(r.out), &e); err != nil {
		l.t.Fatalf("explain %s from %s: %v %s", url, from, err, r)
	}
	want, ok := map[string]int{"allow": 0, "deny": 3, "unknown": 4}[e.Verdict]
	if !ok || r.code != want {
		l.t.Errorf("explain %s from %s: verdict %s and %s", url, from, e.Verdict, r)
	}
	for _, h := range e.Hops {
		// Whether a backend answers is tried rather than decided.
		if h.Evidence != "enforced" && (h.Layer != "backend" || h.Evidence != "probe") {
			l.t.Errorf("explain %s: hop %s has evidence %q, want enforced", url, h.Layer, h.Evidence)
		}
	}
	return e
}

// agrees holds what was seen against what was expected and what explain says.
func (l *lab) agrees(from, url string, headers []string, saw symptom, want, code string) explained {
	l.t.Helper()
	if saw.String() != want {
		l.t.Errorf("the caller sees %s %s, want %s", saw, saw.Body, want)
	}
	e := l.explain(from, url, headers...)
	if e.Code != code {
		l.t.Errorf("explain says %s, want %s: %+v", e.Code, code, e.Hops)
	}
	// What a backend answers, the petstore included, explain does not foretell.
	if e.Code == "backend/ok" && e.Symptom.Status == 0 && saw.Status == 200 {
		e.Symptom.Status = saw.Status
	}
	if e.Symptom.String() != saw.String() {
		l.t.Errorf("the caller sees %s, explain says %s (%s)", saw, e.Symptom.symptom, e.Code)
	}
	// Explain gives the body of answers that the gateway makes itself.
	if e.Symptom.Body != "" && e.Symptom.Body != saw.Body {
		l.t.Errorf("the caller reads %q, explain says %q", saw.Body, e.Symptom.Body)
	}
	// What is wrong with a backend itself is out of the model's reach.
	if e.Verdict == "deny" && !strings.HasPrefix(e.Code, "backend/") && (len(e.Fixes) == 0 || !e.Fixes[0].Verified) {
		l.t.Errorf("%s: no verified fix is offered: %+v", e.Code, e.Fixes)
	}
	return e
}
