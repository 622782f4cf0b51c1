// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package labs

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// newOffice starts a server with the private API and the Hosts of
// testdata/office.yaml.
func newOffice(t *testing.T, tools ...string) *lab {
	t.Helper()
	l := newLab(t, tools...)
	l.ok("apply", "-f", absolute(t, privateAPI), "-f", absolute(t, "testdata/office.yaml"))
	l.ok("deploy", "petstore", "--stage", "test")
	return l
}

// TestHostsReachEachOtherAsGroupsSay joins two Hosts with stock clients.
func TestHostsReachEachOtherAsGroupsSay(t *testing.T) {
	t.Parallel()
	l := newOffice(t, "wg", "wg-quick", "wireguard-go", "curl", "ping", "nslookup")
	app, db := l.machine("app"), l.machine("db")
	app.tunnel(l.ok("config", "wireguard", "host/app"))
	db.tunnel(l.ok("config", "wireguard", "db")) // there is no Link of that name
	atApp, atDB := strings.Join(l.status("host", "app").Addresses, " "), strings.Join(l.status("host", "db").Addresses, " ")
	if atApp != "10.20.2.10" || atDB != "10.20.2.11" {
		t.Fatalf("app has %q, db %q", atApp, atDB)
	}
	db.serves(atDB + ":8080")
	db.serves(atDB + ":22")
	app.serves(atApp + ":8080")

	for _, c := range []struct {
		name    string
		from    *machine
		source  string
		to      string
		want    string
		code    string
		reached bool // explain knows no more than that
	}{
		{"an admitted port", app, "host/app", atDB + ":8080", "response 200", "listen/accepted", true},
		{"an admitted port that is closed", app, "host/app", atDB + ":9090", "refused", "listen/accepted", true},
		{"an open port that is not admitted", app, "host/app", atDB + ":22", "timeout", "sg/no-inbound-rule", false},
		{"the other direction", db, "host/db", atApp + ":8080", "timeout", "sg/no-outbound-rule", false},
		{"an address that nobody has", app, "host/app", "10.20.2.99:8080", "timeout", "route/none", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := c.from.curl(l.ca, "http://"+c.to+"/")
			if a.String() != c.want {
				t.Errorf("the caller sees %s %s, want %s", a, a.raw, c.want)
			}
			e := l.explain(c.source, "tcp://"+c.to)
			if e.Code != c.code {
				t.Errorf("explain says %s, want %s: %+v", e.Code, c.code, e.Hops)
			}
			want := c.want
			if c.reached {
				want = "connected"
			}
			if e.Symptom.String() != want {
				t.Errorf("explain says %s, want %s", e.Symptom.symptom, want)
			}
		})
	}
	t.Run("the callee sees the caller's address", func(t *testing.T) {
		if a := app.curl(l.ca, "http://"+atDB+":8080/"); !strings.Contains(a.Body, "was called by "+atApp+":") {
			t.Errorf("%s", a.Body)
		}
	})
	t.Run("ping as groups say", func(t *testing.T) {
		ping(t, app, atDB, true)
		ping(t, db, atApp, false)
	})
	t.Run("private names through wg-quick's DNS", func(t *testing.T) {
		if out := app.ok("nslookup", "db.office.example"); !strings.Contains(out, "Address: "+atDB+"\n") {
			t.Errorf("nslookup: %s", out)
		}
		if a := app.curl(l.ca, "http://db.office.example:8080/"); a.Status != 200 {
			t.Errorf("by name: %s %s", a, a.raw)
		}
	})
	t.Run("a private API", func(t *testing.T) {
		url, header := "https://"+l.status("endpoint", "corp").Host+"/test/pets", "x-apigw-api-id: "+l.status("api", "petstore").ID
		a := app.curl(l.ca, "-H", header, url)
		l.agrees("host/app", url, []string{header}, a.symptom, "timeout", "sg/no-inbound-rule")
		l.apply("SecurityGroup", "execute-api", `{network: corp, rules: [{direction: inbound, protocol: tcp, ports: ["443"], from: [group:app]}]}`)
		a = app.curl(l.ca, "-H", header, url)
		l.agrees("host/app", url, []string{header}, a.symptom, "response 200", "backend/ok")
		a = db.curl(l.ca, "-H", header, url)
		l.agrees("host/db", url, []string{header}, a.symptom, "timeout", "sg/no-outbound-rule")
	})
	t.Run("full packets both ways", func(t *testing.T) {
		file := filepath.Join(app.dir, "large")
		if err := os.WriteFile(file, make([]byte, large), 0o644); err != nil {
			t.Fatal(err)
		}
		url := "http://" + atDB + ":8080/"
		out := app.ok("curl", "-sS", "--max-time", "30", "-o", file, "-w", "%{size_download} bytes in %{time_total} s", url+"large")
		if !strings.HasPrefix(out, strconv.Itoa(large)+" ") {
			t.Errorf("down: %s", out)
		}
		t.Log("down:", out)
		out = app.ok("curl", "-sS", "--max-time", "30", "--data-binary", "@"+file, "-w", "%{size_upload} bytes in %{time_total} s", url)
		if !strings.Contains(out, "with "+strconv.Itoa(large)+" bytes\n") {
			t.Errorf("up: %s", out)
		}
		t.Log("up:", out)
	})
	t.Run("a rule that is gone lets nobody in", func(t *testing.T) {
		l.apply("SecurityGroup", "db", "{network: corp, rules: []}")
		if a := app.curl(l.ca, "http://"+atDB+":8080/"); a.Kind != "timeout" {
			t.Errorf("%s %s", a, a.raw)
		}
	})
}

// TestHostsAndASiteReachEachOther calls from the Network into the site as well,
// and with addresses that are not the site's.
func TestHostsAndASiteReachEachOther(t *testing.T) {
	t.Parallel()
	l := newOffice(t, "wg", "wg-quick", "wireguard-go", "curl")
	l.apply("SecurityGroup", "app", `{network: corp, rules: [{direction: inbound, protocol: tcp, ports: ["80"], from: [0.0.0.0/0]}]}`)
	app := l.machine("app")
	iface := strings.TrimSuffix(filepath.Base(app.tunnel(l.ok("config", "wireguard", "host/app"))), ".conf")
	app.serves("10.20.2.10:80")
	router, desk := l.site(l.ok("config", "wireguard", "onprem")) // there is no Host of that name
	desk.serves(deskAddress + ":8000")

	// The stock client routes the Network's and the Link's prefixes, no others.
	if _, ips, _ := strings.Cut(app.ok("wg", "show", iface, "allowed-ips"), "\t"); ips != "10.20.0.0/16 192.168.50.0/24\n" {
		t.Errorf("the Host's AllowedIPs: %s", ips)
	}
	if a := desk.curl(l.ca, "http://10.20.2.10/"); a.Status != 200 || !strings.Contains(a.Body, "called by "+deskAddress+":") {
		t.Errorf("from the desk: %s", a.raw)
	}
	if e := l.explain(fromDesk, "tcp://10.20.2.10:80"); e.Verdict != "allow" || e.Symptom.Kind != "connected" {
		t.Errorf("from the desk: %+v", e)
	}
	if a := app.curl(l.ca, "http://"+deskAddress+":8000/"); a.Status != 200 || !strings.Contains(a.Body, "called by 10.20.2.10:") {
		t.Errorf("to the desk: %s", a.raw)
	}
	if e := l.explain("host/app", "tcp://"+deskAddress+":8000"); e.Verdict == "deny" || e.Symptom.Kind != "connected" {
		t.Errorf("to the desk: %+v", e)
	}
	// The group admits everybody; an address beyond the Link is nobody's.
	router.ip("addr", "add", "192.168.51.1/24", "dev", "lan0")
	desk.ip("addr", "add", "192.168.51.10/24", "dev", "eth0")
	if a := desk.curl(l.ca, "--interface", "192.168.51.10", "http://10.20.2.10/"); a.Kind != "timeout" {
		t.Errorf("with an address that is not the site's: %s", a.raw)
	}
	// Nor is one of the Network's own.
	router.ip("addr", "add", "10.20.2.200/32", "dev", "lan0")
	if a := router.curl(l.ca, "--interface", "10.20.2.200", "http://10.20.2.10/"); a.Kind != "timeout" {
		t.Errorf("with an address of the Network: %s", a.raw)
	}
}
