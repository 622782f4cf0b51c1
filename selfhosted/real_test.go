// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/client"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/instance"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
	"postern.dev/postern/selfhosted"
	"postern.dev/postern/selfhosted/eventlog"
	"postern.dev/postern/selfhosted/setting"
)

// real is a whole Postern, with gateways that reach it over its internet
// segment.
type real struct {
	t   *testing.T
	i   *instance.Instance
	api *client.Client
	ca  string
	now func() time.Time // of gateways
}

func newReal(t *testing.T, manifests string) *real {
	t.Helper()
	w := &real{t: t, ca: filepath.Join(t.TempDir(), "ca.pem")}
	var err error
	if w.i, err = instance.Start(t.Context(), instance.Options{Data: t.TempDir(), Management: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.i.Close(); err != nil {
			t.Error(err)
		}
	})
	s := w.i.Settings()
	if err := os.WriteFile(w.ca, []byte(s.CA), 0o600); err != nil {
		t.Fatal(err)
	}
	if w.api, err = client.New(client.Options{Address: s.Address, CA: s.CA, Token: s.Token}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.api.Close)
	w.apply(manifests)
	return w
}

func (w *real) apply(manifests string) {
	w.t.Helper()
	objects, err := manifest.Decode("test.yaml", []byte(manifests))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.api.Apply(w.t.Context(), objects, false); err != nil {
		w.t.Fatal(err)
	}
}

func (w *real) token(key string) wire.CreatedToken {
	w.t.Helper()
	made, err := w.api.CreateToken(w.t.Context(), wire.NewToken{Role: "selfhosted", Subject: "selfhosted/edge", Key: key})
	if err != nil {
		w.t.Fatal(err)
	}
	return made
}

// dial connects as a machine on the internet.
func (w *real) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(host, "127.") {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	for _, z := range w.i.Snapshot().Public.Zones {
		for _, set := range z.Names[host] {
			for _, a := range set.Addrs {
				return w.i.Network().DialInternet(ctx, netip.MustParseAddr("192.0.2.9"), netip.MustParseAddrPort(net.JoinHostPort(a.String(), port)))
			}
		}
	}
	return nil, &net.DNSError{Name: host, IsNotFound: true}
}

func (w *real) gateway(token, endpoint string, settings ...string) *node {
	w.t.Helper()
	s, notes, err := setting.Read(setting.Sources{Environ: append([]string{
		"config.service.endpoint=" + endpoint, "config.service.auth=" + token, "config.service.ca=" + w.ca,
		"net.server.http.address=127.0.0.1:0", "net.server.https.address=127.0.0.1:0", "config.backup.path=none",
	}, settings...)})
	if err != nil {
		w.t.Fatal(err)
	}
	n := &node{t: w.t, log: &buffer{}}
	if n.Gateway, err = selfhosted.Start(w.t.Context(), selfhosted.Options{Settings: s, Notes: notes, Version: "test", Log: eventlog.New(n.log, s.Log, false), Dial: w.dial, Now: w.now}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := n.Close(); err != nil {
			w.t.Error(err)
		}
	})
	a, b := n.Addresses()
	n.plain, n.secure = a.String(), b.String()
	return n
}

// becomes waits until a path answers so.
func (n *node) becomes(path, want string) {
	n.t.Helper()
	got := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		if got = n.get(path); got == want {
			return
		}
	}
	n.t.Fatalf("%s answers %s, want %s; %s", path, got, want, n.log)
}

const edge = `
apiVersion: postern/v1
kind: API
metadata: {name: orders}
spec: {gateway: corp, type: regional, path: orders, openapi: "example:petstore"}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: orders.prod}
spec: {autoDeploy: true}
---
apiVersion: postern/v1
kind: SelfHostedGateway
metadata: {name: edge}
spec: {gateway: corp, apis: [orders]}
`

const open = `
apiVersion: postern/v1
kind: Gateway
metadata: {name: corp}
spec: {region: eu-1}
---` + edge

// inside is a Gateway in internal mode, whose group admits %s to 3443.
const inside = `
apiVersion: postern/v1
kind: Network
metadata: {name: net}
spec: {cidrs: [10.20.0.0/16], internetGateway: true}
---
apiVersion: postern/v1
kind: SecurityGroup
metadata: {name: nsg}
spec: {network: net, rules: [{name: manage, direction: inbound, protocol: tcp, ports: ["3443"], from: ["SOURCE"]}]}
---
apiVersion: postern/v1
kind: Subnet
metadata: {name: gateways}
spec: {network: net, cidr: 10.20.1.0/28, internetRoute: true}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: corp}
spec: {region: eu-1, networkMode: internal, subnet: gateways, securityGroups: [nsg]}
---` + edge

func TestWithAWholePostern(t *testing.T) {
	t.Parallel()
	w := newReal(t, open)
	made := w.token("primary")
	n := w.gateway(made.Value, made.Settings.V2)
	n.logs("[ConfigConnected], protocol: v2, endpoint: corp.configuration.postern.internal:443, why: as set")
	n.logs("[ConfigApplied], source: plane")
	if got := n.get("/orders/pets/1"); !strings.HasPrefix(got, "200 ") {
		t.Errorf("the API answers %s", got)
	}
	const forbidden = `403 {"message":"Forbidden"}`
	w.apply(strings.Replace(open, "apis: [orders]", "apis: []", 1))
	n.becomes("/orders/pets/1", forbidden)
	w.apply(open)
	for end := time.Now().Add(time.Minute); ; <-time.After(10 * time.Millisecond) {
		if strings.HasPrefix(n.get("/orders/pets/1"), "200 ") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it is not served again: %s", n.log)
		}
	}
	r, err := w.api.Get(t.Context(), model.Ref{Kind: model.KindSelfHosted, Name: "edge"})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Status.Instances; len(got) != 1 || got[0].Version != "test" || !got[0].Connected {
		t.Errorf("the management plane does not know of it: %+v", got)
	}

	// Rotation without a gap: an instance with a token of the other key, then the
	// first key goes.
	second := w.token("secondary")
	m := w.gateway(second.Value, second.Settings.V2)
	m.logs("[ConfigApplied], source: plane")
	if _, err := w.api.RotateKey(t.Context(), "edge", "primary"); err != nil {
		t.Fatal(err)
	}
	n.logs("401 (Unauthorized)")
	if got := n.get("/orders/pets/1"); !strings.HasPrefix(got, "200 ") {
		t.Errorf("with a token that is not good any more: %s", got)
	}
	if s := m.Link(); !s.Connected {
		t.Errorf("the other token suffers: %+v", s)
	}
}

// TestACertificateIsTheAlternativeToAToken enrols once, starts again with what
// that gave, and renews it when it is due.
func TestACertificateIsTheAlternativeToAToken(t *testing.T) {
	t.Parallel()
	w := newReal(t, open)
	made, err := w.api.CreateToken(t.Context(), wire.NewToken{Role: "selfhosted", Subject: "selfhosted/edge", Enrol: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	by := func(more ...string) *node {
		return w.gateway("certificate", made.Settings.V2, append([]string{"gateway.name=edge", "config.service.auth.certificate=" + dir}, more...)...)
	}
	n := by("config.service.auth.enrolment=" + made.Value)
	n.logs("[GatewayCertificateIssued]")
	n.logs("[ConfigApplied], source: plane")
	if got := n.get("/orders/pets/1"); !strings.HasPrefix(got, "200 ") {
		t.Errorf("the API answers %s", got)
	}
	file := filepath.Join(dir, "gateway.pem")
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key can be read by others: %v, %v", info.Mode(), err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	// Again, with the enrolment that is used up still in its settings.
	n = by("config.service.auth.enrolment=" + made.Value)
	n.logs("[ConfigApplied], source: plane")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	w.now = func() time.Time { return time.Now().Add(21 * 24 * time.Hour) }
	n = by()
	n.logs("[GatewayCertificateIssued]")
	n.logs("[ConfigApplied], source: plane")
	second, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(first) == string(second) {
		t.Error("with ten days left it was not renewed")
	}
	w.now = nil

	// The enrolment is good once.
	other := w.gateway("certificate", made.Settings.V2, "gateway.name=edge", "config.service.auth.certificate="+t.TempDir(), "config.service.auth.enrolment="+made.Value)
	other.logs("401 (Unauthorized)")
	if got := other.get("/orders/pets/1"); !strings.HasPrefix(got, "503 ") {
		t.Errorf("without a certificate it answers %s", got)
	}
	for _, x := range []*node{n, other} {
		if strings.Contains(x.log.String(), made.Value) {
			t.Errorf("the enrolment is in the log:\n%s", x.log)
		}
	}
}

// TestANewEnrolmentReplacesACertificateThatIsRefused has the file of the one
// that was revoked still in its folder.
func TestANewEnrolmentReplacesACertificateThatIsRefused(t *testing.T) {
	t.Parallel()
	w := newReal(t, open)
	dir := t.TempDir()
	by := func() *node {
		made, err := w.api.CreateToken(t.Context(), wire.NewToken{Role: "selfhosted", Subject: "selfhosted/edge", Enrol: true})
		if err != nil {
			t.Fatal(err)
		}
		return w.gateway("certificate", made.Settings.V2, "gateway.name=edge", "config.service.auth.certificate="+dir, "config.service.auth.enrolment="+made.Value)
	}
	n := by()
	n.logs("[ConfigApplied], source: plane")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	ts, err := w.api.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range ts {
		if x.Subject == "selfhosted/edge" {
			if err := w.api.RevokeToken(t.Context(), x.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	n = by()
	n.logs("401 (Unauthorized)")
	n.logs("[GatewayCertificateIssued]")
	n.logs("[ConfigApplied], source: plane")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}

	// A file that is damaged keeps nobody from starting, as from a backup.
	if err := os.WriteFile(filepath.Join(dir, "gateway.pem"), []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	n = by()
	n.logs("[GatewayCertificateUnreadable]")
	n.logs("[ConfigApplied], source: plane")
}

func TestFromOutsideAnInternalGatewayOffers3443Alone(t *testing.T) {
	t.Parallel()
	w := newReal(t, strings.Replace(inside, "SOURCE", "0.0.0.0/0", 1))
	made := w.token("primary")
	two := w.gateway(made.Value, "corp.configuration.postern.internal")
	two.logs("[ConfigConnected], protocol: v2, endpoint: corp.management.postern.internal:3443")
	two.logs("[ConfigApplied], source: plane")
	one := w.gateway(made.Value, made.Settings.V1)
	one.logs("[ConfigConnected], protocol: v1, endpoint: corp.management.postern.internal:3443")
	one.logs("[ConfigApplied], source: plane")
	for _, n := range []*node{one, two} {
		if got := n.get("/orders/pets/1"); !strings.HasPrefix(got, "200 ") {
			t.Errorf("the API answers %s", got)
		}
	}
	wrong := w.gateway(made.Value, strings.Replace(made.Settings.V1, ":3443", "", 1))
	wrong.logs("[ConfigInitialSyncFailed], kind: refused, endpoint: corp.management.postern.internal:443, exception: ")

	// The rule is narrowed: a stream that is there lives on, a new one does not
	// come about.
	w.apply(strings.Replace(inside, "SOURCE", "tag:ApiManagement", 1))
	w.apply(strings.Replace(strings.Replace(inside, "SOURCE", "tag:ApiManagement", 1), "apis: [orders]", "apis: []", 1))
	two.becomes("/orders/pets/1", `403 {"message":"Forbidden"}`)
	late := w.gateway(made.Value, "corp.configuration.postern.internal")
	late.logs("[ConfigInitialSyncFailed]")
	if s := late.Link(); s.Connected || !strings.Contains(s.Failure.Error(), "3443: no answer") {
		t.Errorf("where the rule is narrow: %+v", s)
	}
}
