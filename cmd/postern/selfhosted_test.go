// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/selfhosted"
	"postern.dev/postern/selfhosted/setting"
)

const shopWorld = world + `---
apiVersion: postern/v1
kind: SelfHostedGateway
metadata: {name: shop}
spec: {gateway: gw, apis: [pets], attach: link/hq, location: Ulm}
`

func TestTokenOfASelfHostedGatewayComesWithItsSettings(t *testing.T) {
	sh := newShell(t)
	sh.answer = answer.Answer{Verdict: answer.Allow}
	sh.ok("apply", "-f", sh.file("shop.yaml", shopWorld))
	out := sh.ok("token", "create", "--role", "selfhosted", "--for", "shop")
	for _, want := range []string{
		"SelfHostedGateway/shop. Token", "signed with the primary key",
		"\nconfig.service.endpoint=gw.configuration.postern.internal\n",
		"\n#config.service.endpoint=https://gw.management.postern.internal/subscriptions/",
		"\nconfig.service.auth=GatewayKey shop&20",
		"\n# The private CA: postern config ca > ca.pem\nconfig.service.ca=ca.pem\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if r := sh.run("token", "create", "--role", "selfhosted", "--for", "selfhosted/shop", "--key", "secondary", "--settings", "shop.env"); r.code != 0 || strings.Contains(r.out, "GatewayKey") {
		t.Errorf("%+v", r)
	}
	b, err := os.ReadFile("shop.env")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat("shop.env"); err != nil || info.Mode().Perm() != 0o600 || !strings.Contains(string(b), "config.service.auth=GatewayKey shop&") {
		t.Errorf("%v %v\n%s", info, err, b)
	}
	// A file that there is is not lost by mistake; no token is made for nothing.
	again := []string{"token", "create", "--role", "selfhosted", "--for", "shop", "--key", "secondary", "--settings", "shop.env"}
	sh.fails(again, "--force")
	if now, err := os.ReadFile("shop.env"); err != nil || string(now) != string(b) {
		t.Errorf("%v\n%s", err, now)
	}
	list := sh.ok("token", "list")
	if strings.Count(list, "selfhosted/shop") != 2 || !strings.Contains(list, "secondary") {
		t.Errorf("list\n%s", list)
	}
	sh.fails([]string{"token", "create", "--role", "selfhosted", "--for", "shop", "--enrol"}, "enrol")
	if out := sh.ok("token", "rotate", "shop", "--key", "primary"); !strings.Contains(out, "ended with the old one: 1") {
		t.Errorf("rotate: %s", out)
	}
	if list := sh.ok("token", "list"); strings.Count(list, "selfhosted/shop") != 1 {
		t.Errorf("after the rotation\n%s", list)
	}
	if out := sh.ok(append(again, "--force")...); !strings.Contains(out, "\nnext: postern config ca > ca.pem; postern gateway --settings shop.env --config.backup.path backup\n") {
		t.Errorf("overwritten: %s", out)
	}
	if now, err := os.ReadFile("shop.env"); err != nil || string(now) == string(b) || !strings.Contains(string(now), "config.service.auth=GatewayKey shop&") {
		t.Errorf("it is not overwritten: %v\n%s", err, now)
	}
	if r := sh.run("--config", "postern-data/client.yaml", "token", "create", "--role", "selfhosted", "--for", "shop", "--settings", "the shop's.env"); r.code != 0 ||
		!strings.Contains(r.out, "\nnext: postern --config postern-data/client.yaml config ca > ca.pem; postern gateway --settings 'the shop'\\''s.env' --config.backup.path backup\n") {
		t.Errorf("with other settings: %+v", r)
	}
	sh.fails([]string{"token", "rotate", "absent", "--key", "primary"}, "SelfHostedGateway/absent")
	sh.fails([]string{"token", "rotate", "shop", "--key", "third"}, "primary or secondary")
	sh.fails([]string{"token", "create", "--role", "selfhosted", "--for", "absent"}, "SelfHostedGateway/absent")
	sh.fails([]string{"token", "create", "--role", "viewer", "--key", "primary"}, "leave it out")
}

// TestWhereNoWayLeadsItsOwnAddressIsAskedOf has one that calls from an address that
// the management plane does not know, and one that is attached.
func TestWhereNoWayLeadsItsOwnAddressIsAskedOf(t *testing.T) {
	sh := newShell(t)
	sh.answer = answer.Answer{Verdict: answer.Deny}
	create := []string{"token", "create", "--role", "selfhosted", "--for", "shop"}
	const own = "--from selfhosted/shop/IP asks for its own address"
	sh.ok("apply", "-f", sh.file("shop.yaml", shopWorld))
	if r := sh.run(create...); !strings.Contains(r.err, "no way leads") || strings.Contains(r.err, own) {
		t.Errorf("attached: %s", r.err)
	}
	sh.ok("apply", "-f", sh.file("shop.yaml", strings.Replace(shopWorld, "attach: link/hq, ", "", 1)))
	if r := sh.run(create...); !strings.Contains(r.err, "no way leads") || !strings.Contains(r.err, own) {
		t.Errorf("on the internet: %s", r.err)
	}
}

// TestTheFirstStartIsAsItIsPrinted reads the settings as the gateway does.
func TestTheFirstStartIsAsItIsPrinted(t *testing.T) {
	sh := newShell(t)
	sh.ok("apply", "-f", sh.file("shop.yaml", shopWorld))
	sh.ok("token", "create", "--role", "selfhosted", "--for", "shop", "--settings", "gateway.env")
	s, notes, err := setting.Read(setting.Sources{Files: []string{"gateway.env"}})
	if err != nil || len(notes) > 0 || s.CA != "ca.pem" || s.Name != "shop" || s.Endpoint.Protocol != setting.V2 {
		t.Fatalf("%+v, %+v, %v", s, notes, err)
	}
	if err := os.WriteFile(s.CA, []byte(sh.ok("config", "ca")), 0o600); err != nil {
		t.Fatal(err)
	}
	s.HTTP, s.HTTPS, s.BackupDir = "127.0.0.1:0", "127.0.0.1:0", ""
	g, err := selfhosted.Start(t.Context(), selfhosted.Options{Settings: s, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("nobody is there")
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if text := settingsText(wire.CreatedToken{Settings: &wire.GatewaySettings{}}, false); !strings.Contains(text, "\n#config.service.ca=ca.pem\n") {
		t.Errorf("with a certificate that the system trusts:\n%s", text)
	}
}

func TestTokenTellsWhatKeepsItsGatewayAway(t *testing.T) {
	sh := newShell(t)
	sh.answer = answer.Answer{Verdict: answer.Deny, Code: "sg/no-inbound-rule", Hops: []answer.Hop{{Reason: "no rule admits 192.168.0.5"}}}
	sh.ok("apply", "-f", sh.file("shop.yaml", shopWorld))
	r := sh.run("token", "create", "--role", "selfhosted", "--for", "shop")
	for _, want := range []string{"by protocol v2", "by protocol v1", "gw.management.postern.internal:3443: sg/no-inbound-rule no rule admits", "postern explain --from selfhosted/shop"} {
		if !strings.Contains(r.err, want) {
			t.Errorf("%q is missing in\n%s", want, r.err)
		}
	}
}

func TestSelfHostedGatewaysAreListed(t *testing.T) {
	sh := newShell(t)
	sh.ok("apply", "-f", sh.file("shop.yaml", shopWorld))
	out := sh.ok("get", "selfhosted")
	for _, want := range []string{"GATEWAY", "APIS", "INSTANCES", "shop", "0/0", "pets"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	g := &model.SelfHostedGateway{Spec: model.SelfHostedGatewaySpec{Gateway: "gw", APIs: []string{"pets", "orders"}}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	g.Status.Instances = []model.Instance{
		{Name: "a", Version: "v2", Revision: 9, Age: 1, Seen: at, Connected: true, LastError: "of yesterday", Recovered: true},
		{Name: "b", Version: "v1", Revision: 7, Age: 90, Seen: at.Add(-time.Hour), Offline: true, LastError: "no\nluck", ErrorSeen: at.Add(-2 * time.Hour)},
		{Name: "c", Version: "v1", Revision: 8, Seen: at}, // its stream has just ended
	}
	if got, want := selfHosted(g), []string{"gw", "pets,orders", "1/3", "v1,v2", "7", "1m30s", "2026-01-02T03:04:05Z", "b: no luck, heard 2026-01-02T01:04:05Z"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if out := sh.ok("describe", "selfhosted/shop"); !strings.Contains(out, "NotDeployed") || !strings.Contains(out, "location: Ulm") {
		t.Errorf("describe\n%s", out)
	}
}
