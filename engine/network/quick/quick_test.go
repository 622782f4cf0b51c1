// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package quick

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const (
	key1 = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="
	key2 = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
	full = `# laptop
[Interface]
PrivateKey = ` + key1 + `
Address = 10.0.0.5/24, fd00::5
address=10.0.1.5
DNS = 10.0.0.2, corp.example   # the resolver
MTU = 1380
ListenPort = 51820

[Peer]
PublicKey = ` + key2 + `
PresharedKey = ` + key1 + `
Endpoint = hub.example.com:51820
AllowedIPs = 10.0.0.9/16, fd00::/48
PersistentKeepalive = 25

[peer]
PublicKey = ` + key1 + `
Endpoint = [2001:db8::1]:51820
AllowedIPs =
`
)

func TestEverySettingIsRead(t *testing.T) {
	c, err := Parse([]byte(strings.ReplaceAll(full, "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	i := c.Interface
	if got := fmt.Sprint(i.Addresses, i.DNS, i.Search, i.MTU, i.ListenPort); got != "[10.0.0.5/24 fd00::5/128 10.0.1.5/32] [10.0.0.2] [corp.example] 1380 51820" {
		t.Errorf("interface = %s", got)
	}
	if i.PrivateKey.Reveal() != key1 {
		t.Error("private key differs")
	}
	if len(c.Peers) != 2 {
		t.Fatalf("%d peers", len(c.Peers))
	}
	p := c.Peers[0]
	if p.PublicKey.String() != key2 || p.PresharedKey.Reveal() != key1 || p.Endpoint != "hub.example.com:51820" || p.Keepalive != 25*time.Second {
		t.Errorf("peer = %+v", p)
	}
	if fmt.Sprint(p.AllowedIPs) != "[10.0.0.0/16 fd00::/48]" {
		t.Errorf("allowed = %v", p.AllowedIPs)
	}
	if p := c.Peers[1]; p.Endpoint != "[2001:db8::1]:51820" || len(p.AllowedIPs) != 0 || !p.PresharedKey.IsZero() {
		t.Errorf("second peer = %+v", p)
	}
}

func TestWhatIsPrintedReadsTheSame(t *testing.T) {
	c, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(c.Reveal())
	if err != nil {
		t.Fatalf("%v in\n%s", err, c)
	}
	if string(again.Reveal()) != string(c.Reveal()) {
		t.Errorf("round trip differs:\n%s\n%s", c, again)
	}
}

func TestSecretsArePrintedOnlyByReveal(t *testing.T) {
	c, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	c.Peers = c.Peers[:1] // the second one's public key is the secret's text
	for _, s := range []string{c.String(), fmt.Sprint(c), fmt.Sprintf("%+v", *c), fmt.Sprintf("%#v", *c)} {
		if strings.Contains(s, key1) {
			t.Errorf("the private key is printed: %s", s)
		}
	}
}

func TestMistakesNameTheirLine(t *testing.T) {
	iface := "[Interface]\nPrivateKey = " + key1 + "\n"
	for _, tt := range []struct {
		file string
		line int
		want string
	}{
		{"", 1, "no [Interface]"},
		{"[Interface]\n", 2, "lacks PrivateKey"},
		{"PrivateKey = " + key1, 1, "before any section"},
		{iface + "[Pear]", 3, "unknown section"},
		{iface + "Colour = blue", 3, "unknown key"},
		{iface + "PublicKey = " + key2, 3, "unknown key"},
		{iface + "PostUp = rm -rf /", 3, "no effect"},
		{iface + "MTU = 1400\nMTU = 1400", 4, "set twice"},
		{iface + "MTU = 12", 3, "576..65535"},
		{iface + "MTU =", 3, "no value"},
		{iface + "nonsense", 3, "Key = Value"},
		{iface + "Address = 10.0.0.300", 3, "not an address"},
		{iface + "DNS = no_such!name", 3, "neither"},
		{iface + "ListenPort = 70000", 3, "1..65535"},
		{"[Interface]\nPrivateKey = " + key1[:40], 2, "not a key"},
		{iface + "[Interface]", 3, "second [Interface]"},
		{iface + "\n[Peer]\nEndpoint = a:1", 4, "lacks PublicKey"},
		{iface + "[Peer]\nPublicKey = " + key2 + "\nEndpoint = 2001:db8::1:51820", 5, "host:port"},
		{iface + "[Peer]\nPublicKey = " + key2 + "\nEndpoint = hub:0", 5, "1..65535"},
		{iface + "[Peer]\nPublicKey = " + key2 + "\nAllowedIPs = 10.0.0.0/33", 5, "not an address"},
		{iface + "[Peer]\nPublicKey = " + key2 + "\n[Peer]\nPublicKey = " + key2, 5, "second [Peer]"},
		{iface + strings.Repeat("x", 5000), 3, "longer than"},
	} {
		_, err := Parse([]byte(tt.file))
		var e *Error
		if !errors.As(err, &e) || e.Line != tt.line || !strings.Contains(e.Msg, tt.want) {
			t.Errorf("Parse(%q) = %v, want line %d: ...%s...", tt.file, err, tt.line, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), key1[:40]) {
			t.Errorf("error quotes the key: %v", err)
		}
	}
}

func TestAllMistakesAreReported(t *testing.T) {
	_, err := Parse([]byte("[Interface]\nPrivateKey = x\nMTU = 1\n[Peer]\nAllowedIPs = y\n"))
	for _, want := range []string{"line 2", "line 3", "line 4", "line 5"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %s", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(full)
	f.Add("[Interface]\nPrivateKey=" + key1 + "\nDNS=a,1.2.3.4\n[Peer]\nPublicKey=" + key2 + "\nEndpoint=[::1%eth0]:5\nPersistentKeepalive=off")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse([]byte(s))
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Line < 1 {
				t.Fatalf("error without a line: %v", err)
			}
			return
		}
		again, err := Parse(c.Reveal())
		if err != nil {
			t.Fatalf("%v in what was printed for %q", err, s)
		}
		if string(again.Reveal()) != string(c.Reveal()) {
			t.Fatalf("round trip of %q differs", s)
		}
		for _, p := range c.Peers {
			for _, a := range p.AllowedIPs {
				if a != a.Masked() || a == (netip.Prefix{}) {
					t.Fatalf("allowed %v", a)
				}
			}
		}
	})
}
