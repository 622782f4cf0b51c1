// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package labs

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// nobody is a user and a group without any right.
const nobody = 65534

// user is an unprivileged user of a machine, with a token that joins one Host.
type user struct {
	*machine
	l      *lab
	config string
}

// newUser gives nobody the client settings for one Host.
func (l *lab) newUser(m *machine, host string) *user {
	l.t.Helper()
	settings, err := os.ReadFile(l.config)
	if err != nil {
		l.t.Fatal(err)
	}
	token := strings.TrimSpace(l.ok("token", "create", "--role", "host", "--for", "host/"+host))
	line := regexp.MustCompile(`(?m)^token: .*$`)
	if !line.Match(settings) {
		l.t.Fatal("the client settings hold no token")
	}
	u := &user{machine: m, l: l, config: filepath.Join(m.dir, "home", "client.yaml")}
	home := filepath.Dir(u.config)
	if err := os.Mkdir(home, 0o700); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(u.config, line.ReplaceAll(settings, []byte("token: "+token)), 0o600); err != nil {
		l.t.Fatal(err)
	}
	for _, p := range []string{home, u.config} {
		if err := os.Chown(p, nobody, nobody); err != nil {
			l.t.Fatal(err)
		}
	}
	// The folders above are the test's own; the user has to get through them.
	for d := m.dir; d != filepath.Clean(os.TempDir()) && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			l.t.Fatal(err)
		}
	}
	return u
}

// postern is a command line of postern as that user, who has no capability.
func (u *user) postern(args ...string) []string {
	return append([]string{
		"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs",
		"env", "HOME=" + filepath.Dir(u.config), u.l.bin, "--config", u.config,
	}, args...)
}

// TestConnectRunsACommand joins a Host as an unprivileged user, in a namespace
// that reaches nothing but the server's UDP port and management API.
func TestConnectRunsACommand(t *testing.T) {
	t.Parallel()
	l := newOffice(t, "wg", "wg-quick", "wireguard-go", "curl", "setpriv", "ss")
	l.apply("SecurityGroup", "execute-api", `{network: corp, rules: [{direction: inbound, protocol: tcp, ports: ["443"], from: [group:laptop]}]}`)
	app, laptop := l.machine("app"), l.machine("laptop")
	app.tunnel(l.ok("config", "wireguard", "host/app"))
	app.serves("10.20.2.10:80")
	app.serves("10.20.2.10:22")
	u := l.newUser(laptop, "laptop")
	url, header := "https://"+l.status("endpoint", "corp").Host+"/test/pets", "x-apigw-api-id: "+l.status("api", "petstore").ID

	// through runs a shell's line through the Network.
	through := func(line string, args ...string) result {
		return laptop.run(u.postern(append([]string{"connect", "laptop", "--", "sh", "-c", line, "sh"}, args...)...)...)
	}
	const curl = `curl -sS -i --max-time ` + silence + ` --cacert "$POSTERN_CA_FILE" "$@"`

	t.Run("a private API by its private name", func(t *testing.T) {
		a := readAnswer(through(curl, "-H", header, url))
		l.agrees("host/laptop", url, []string{header}, a.symptom, "response 200", "backend/ok")
		if !strings.Contains(a.Body, `"type":"dog"`) {
			t.Errorf("%s", a.Body)
		}
		// Without the proxy this machine knows not even the name.
		if a := laptop.curl(l.ca, "-H", header, url); a.Kind != "nxdomain" {
			t.Errorf("without connect: %s", a)
		}
	})
	t.Run("a Host as its groups say", func(t *testing.T) {
		a := readAnswer(through(curl, "http://app.office.example/"))
		if a.Status != 200 || !strings.Contains(a.Body, "was called by 10.20.2.12:") {
			t.Errorf("port 80: %s", a.raw)
		}
		for port, want := range map[string]string{"22": "timeout", "81": "refused"} {
			if a := readAnswer(through(curl, "http://app.office.example:"+port+"/")); a.throughProxy() != want {
				t.Errorf("port %s: want %s: %s", port, want, a.raw)
			}
		}
		if a := readAnswer(through(curl, "http://nowhere.office.example/")); a.throughProxy() != "unreachable" {
			t.Errorf("a name that does not exist: %s", a.raw)
		}
	})
	t.Run("without any privilege", func(t *testing.T) {
		r := through(`id -u; grep CapEff /proc/self/status; exit 7`)
		if r.code != 7 || r.out != "65534\nCapEff:\t0000000000000000\n" {
			t.Errorf("%s", r)
		}
	})
	t.Run("a local port at the Host's address", func(t *testing.T) {
		laptop.serves("127.0.0.1:9000")
		p := laptop.start(laptop.command(context.Background(), u.postern("connect", "laptop", "--forward", "80:9000")...))
		if proxy := p.line(); !strings.HasPrefix(proxy, "socks5h://postern:") {
			t.Errorf("it prints %q", proxy)
		}
		p.says("offered: 127.0.0.1:9000 at 10.20.2.12:80")
		a := app.curl(l.ca, "http://laptop.office.example/")
		if a.Status != 200 || !strings.Contains(a.Body, "127.0.0.1:9000 was called by 127.0.0.1:") {
			t.Errorf("port 80: %s", a.raw)
		}
		// Admitted and not offered; and not admitted.
		if a := app.curl(l.ca, "http://10.20.2.12:81/"); a.Kind != "refused" {
			t.Errorf("port 81: %s, want refused", a.raw)
		}
		if a := app.curl(l.ca, "http://10.20.2.12:9000/"); a.Kind != "timeout" {
			t.Errorf("port 9000: %s, want timeout", a.raw)
		}
		// Only loopback is listened on: by the web server and the proxy.
		for _, s := range laptop.sockets() {
			if strings.HasPrefix(s, "tcp ") && !strings.HasPrefix(s, "tcp 127.0.0.1:") {
				t.Errorf("the machine listens on %s", s)
			}
		}
		p.stop()
		if a := app.curl(l.ca, "http://10.20.2.12/"); a.Kind == "response" {
			t.Errorf("after the end: %s", a.raw)
		}
	})
	t.Run("the token joins no other Host", func(t *testing.T) {
		r := laptop.run(u.postern("connect", "app", "--", "true")...)
		if r.code != 1 || !strings.HasPrefix(r.err, "postern: ") || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s", r)
		}
		if a := app.curl(l.ca, "--resolve", "x:80:10.20.2.10", "http://x/"); a.Status != 200 {
			t.Errorf("the Host app: %s", a.raw)
		}
	})
}
