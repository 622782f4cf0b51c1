// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package setting

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const token = "GatewayKey edge-1&202612201200&c2lnbmF0dXJl"

// least are the settings that have to be there.
func least(more ...string) []string {
	return append([]string{"config.service.endpoint=corp.configuration.postern.internal", "config.service.auth=" + token}, more...)
}

func mustRead(t *testing.T, src Sources) (*Settings, []Note) {
	t.Helper()
	s, notes, err := Read(src)
	if err != nil {
		t.Fatal(err)
	}
	return s, notes
}

func TestADeploymentWrittenForTheOriginalIsRead(t *testing.T) {
	s, notes := mustRead(t, Sources{Environ: least(
		"PATH=/bin", "HOME=/root", "KUBERNETES_SERVICE_HOST=10.0.0.1", "GATEWAY_PORT_8080_TCP=tcp://10.0.0.2:8080",
		"config.service.integration.timeout=00:00:30", "neighborhood.host=edge.default.svc.cluster.local",
		"policy.rate-limit.sync.port=4290", "neighborhood.heartbeat.port=4291", "telemetry.logs.std.level=warn",
		"telemetry.metrics.cloud=false", "telemetry.logs.local=none",
	)})
	if len(notes) != 0 {
		t.Errorf("nothing is odd about these settings, but: %+v", notes)
	}
	if s.Name != "edge-1" || !s.Expires.Equal(time.Date(2026, 12, 20, 12, 0, 0, 0, time.UTC)) || s.Token.Reveal() != token {
		t.Errorf("the token was read as of %s until %s", s.Name, s.Expires)
	}
	if want := (Endpoint{Protocol: V2, Host: "corp.configuration.postern.internal", Port: 443}); s.Endpoint != want {
		t.Errorf("endpoint is %+v, want %+v", s.Endpoint, want)
	}
	if s.Timeout != 30*time.Second || s.Neighborhood == "" || s.NeighborhoodPort != 8080 || s.Log.Level != "warn" || s.HTTP != ":8080" || s.HTTPS != ":8081" || s.BackupDir != "/apim/config" {
		t.Errorf("settings are %+v", s)
	}
}

func TestFlagsComeBeforeTheEnvironmentAndThatBeforeFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gateway.env")
	write(t, file, "# made by hand\nCONFIG_SERVICE_ENDPOINT=\"from.file\"\ntelemetry.logs.std: 'json'\ngateway.name: edge-1\nnet.resolver: 10.0.0.2\n")
	f := func(flags map[string]string, environ []string, want string) {
		t.Helper()
		s, _ := mustRead(t, Sources{Flags: flags, Environ: append([]string{"config.service.auth=" + token}, environ...), Files: []string{file}})
		if s.Endpoint.Host != want || s.Log.Form != "json" || s.Resolver != "10.0.0.2:53" {
			t.Errorf("endpoint is %s, want %s; %+v", s.Endpoint.Host, want, s)
		}
	}
	f(nil, nil, "from.file")
	f(nil, []string{"CONFIG_SERVICE_ENDPOINT=from.upper"}, "from.upper")
	f(nil, []string{"config.service.endpoint=from.dots", "CONFIG_SERVICE_ENDPOINT=from.upper"}, "from.dots")
	f(map[string]string{"config.service.endpoint": "from.flag"}, []string{"config.service.endpoint=from.dots"}, "from.flag")
}

func TestAMountedFolderIsRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "..data"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config.service.endpoint"), "corp.configuration.x\n")
	write(t, filepath.Join(dir, "config.service.auth"), token+"\n")
	s, notes := mustRead(t, Sources{Files: []string{dir}})
	if s.Token.Reveal() != token || s.Endpoint.Host != "corp.configuration.x" || len(notes) != 0 {
		t.Errorf("read %+v, notes %+v", s, notes)
	}
}

func TestUnknownNamesAreNamedWithAHint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s")
	write(t, file, "neighbourhood.host: x\n")
	_, notes := mustRead(t, Sources{
		Environ: least("config.service.endpont=x", "TELEMETRY_LOGS_STD_LEVL=debug", "some.other.thing=1", "XDG_SESSION_ID=3"),
		Files:   []string{file},
	})
	var got []string
	for _, n := range notes {
		if !n.Unknown {
			t.Errorf("%s is not called unknown", n.Name)
		}
		got = append(got, n.Name+n.Message)
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{`neighbourhood.hostno setting has this name; did you mean "neighborhood.host"?`, `did you mean "config.service.endpoint"?`, `did you mean "TELEMETRY_LOGS_STD_LEVEL"?`} {
		if !strings.Contains(all, want) {
			t.Errorf("the notes lack %q:\n%s", want, all)
		}
	}
	if len(notes) != 3 {
		t.Errorf("%d notes, want 3:\n%s", len(notes), all)
	}
}

func TestWhatHasNoEffectIsSaid(t *testing.T) {
	_, notes := mustRead(t, Sources{Environ: least(
		"telemetry.logs.local=journal", "observability.opentelemetry.enabled=true", "k8s.ingress.enabled=false",
		protocols+"Tls12=false",
	)})
	var names []string
	for _, n := range notes {
		if n.Unknown || !strings.HasPrefix(n.Message, "it has no effect: ") {
			t.Errorf("note %+v", n)
		}
		names = append(names, n.Name)
	}
	if got, want := strings.Join(names, " "), "telemetry.logs.local observability.opentelemetry.enabled "+protocols+"Tls12"; got != want {
		t.Errorf("named are %s, want %s", got, want)
	}
}

func TestNoErrorRepeatsAToken(t *testing.T) {
	const leak = "c2lnbmF0dXJl"
	f := func(environ []string, file, want string) {
		t.Helper()
		var files []string
		if file != "" {
			name := filepath.Join(t.TempDir(), "s")
			write(t, name, file)
			files = []string{name}
		}
		s, notes, err := Read(Sources{Environ: environ, Files: files})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one that says %q", err, want)
		}
		if all := fmt.Sprintf("%v %+v %+v %#v", err, notes, s, s); strings.Contains(all, leak) {
			t.Errorf("the token is shown: %s", all)
		}
	}
	at := "config.service.endpoint=corp.configuration.x"
	f([]string{at}, "", "no valid authentication was configured")
	f([]string{at, "config.service.auth=Gatewaykey" + leak}, "", "GatewayKey NAME")
	f([]string{at, "config.service.auth=GatewayKey a&2026&" + leak}, "", "GatewayKey NAME")
	f([]string{at, "config.service.auth=key"}, "", "config.service.auth.key is empty")
	f([]string{at, "config.service.auth=certificate"}, "", "gateway.name has to be set")
	f([]string{at, "config.service.auth=certificate", "gateway.name=edge", "config.backup.path=none"}, "", "has to name the folder")
	f([]string{at, "config.service.auth=azureAdApp"}, "", "no Entra ID")
	f([]string{at, "config.service.auth=" + token, "gateway.name=other"}, "", "the token is of gateway edge-1")
	f([]string{at}, "GatewayKey\n"+leak+"\n", ":1: the line is not of the form")
}

func TestAuthenticationMechanisms(t *testing.T) {
	at := "config.service.endpoint=corp.configuration.x"
	s, _ := mustRead(t, Sources{Environ: []string{at, "config.service.auth=key", "config.service.auth.key=" + token}})
	if s.Token.Reveal() != token {
		t.Error("the mechanism key does not take config.service.auth.key")
	}
	s, _ = mustRead(t, Sources{Environ: []string{at, "config.service.auth=certificate", "gateway.name=edge-1", "config.service.auth.enrolment=once", "config.backup.path=/b"}})
	if s.CertificateDir != "/b" || s.Enrolment.Reveal() != "once" || !s.Token.IsZero() {
		t.Errorf("with a certificate: %+v", s)
	}
	if _, _, err := Read(Sources{Environ: []string{at}}); !errors.Is(err, ErrNoAuth) {
		t.Errorf("without authentication: %v", err)
	}
}

func TestEndpointsOfBothProtocols(t *testing.T) {
	const path = "/subscriptions/0/resourceGroups/r/providers/Microsoft.ApiManagement/service/corp"
	f := func(text string, want Endpoint, shown string) {
		t.Helper()
		got, err := ParseEndpoint(text)
		if err != nil || got != want || got.String() != shown {
			t.Errorf("%s: %+v (%s), %v; want %+v (%s)", text, got, got, err, want, shown)
		}
	}
	f("Corp.Configuration.x", Endpoint{V2, "corp.configuration.x", 443, "", ""}, "corp.configuration.x:443")
	f("https://corp.configuration.x/", Endpoint{V2, "corp.configuration.x", 443, "", ""}, "corp.configuration.x:443")
	f("corp.management.x:3443", Endpoint{V2, "corp.management.x", 3443, "", ""}, "corp.management.x:3443")
	f("https://corp.management.x:3443"+path+"?api-version=2021-01-01-preview",
		Endpoint{V1, "corp.management.x", 3443, path, "api-version=2021-01-01-preview"},
		"https://corp.management.x:3443"+path+"?api-version=2021-01-01-preview")
	for _, bad := range []string{"", "http://corp.x", "https://", "corp.x/other", "https://u:p@corp.x", "corp.x:0", "corp.x:99999"} {
		if e, err := ParseEndpoint(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, e)
		}
	}
}

func TestDurations(t *testing.T) {
	f := func(text string, want time.Duration) {
		t.Helper()
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%s is read as %s, %v; want %s", text, got, err, want)
		}
	}
	f("00:01:40", 100*time.Second)
	f("01:30", 90*time.Minute)
	f("1.02:03:04.5", 26*time.Hour+3*time.Minute+4*time.Second+500*time.Millisecond)
	f("00:00:00.0000001", 100*time.Nanosecond)
	f("100s", 100*time.Second)
	for _, bad := range []string{"", "100", ":", "1:2:3:4", "24:00:00", "00:60:00", "00:00:60", "-00:00:01", "-1s", "00:00:00.", "00:00:00.12345678", "a:b:c", "1.:00", "99999999h"} {
		if d, err := ParseDuration(bad); err == nil {
			t.Errorf("%q is read as %s", bad, d)
		}
	}
}

func TestEveryValueThatIsWrongIsNamed(t *testing.T) {
	_, _, err := Read(Sources{Environ: least(
		"config.service.integration.timeout=soon", "telemetry.logs.std=xml", "net.server.http.address=8080",
		"neighborhood.port=0", "net.resolver=::1:", "net.server.tls.key=k.pem", "certificates.local.ca.enabled=maybe",
	)})
	if err == nil {
		t.Fatal("nothing is wrong?")
	}
	for _, name := range []string{serviceTimeout, logsStd, httpAddress, neighborhoodPort, resolver, serverCertificate, localCA} {
		if !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s is not named in:\n%v", name, err)
		}
	}
}

func TestEveryHonouredSettingSaysWhatItIsFor(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range All() {
		if (s.Usage == "") == (s.Without == "") {
			t.Errorf("%s has to have either a usage or a reason why it has no effect", s.Name)
		}
		if v := Variable(s.Name); seen[v] {
			t.Errorf("two settings have the variable %s", v)
		} else {
			seen[v] = true
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add("config.service.endpoint: a\nX=1\n")
	f.Add("export CONFIG_SERVICE_AUTH='GatewayKey a&202601010000&x'")
	f.Fuzz(func(t *testing.T, text string) {
		r := reader{values: values{}}
		_ = r.lines("f", []byte(text)) // whether it fails is not what is tried
		for name := range r.values {
			if find(name) == nil {
				t.Errorf("%q was taken and is no setting", name)
			}
		}
		if e, err := ParseEndpoint(text); err == nil {
			if again, err := ParseEndpoint(e.String()); err != nil || again != e {
				t.Errorf("%q is %+v, written %s and read again %+v, %v", text, e, e, again, err)
			}
		}
		_, _ = ParseDuration(text) // that it returns
	})
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAFileThatIsMissingIsAllThatIsTold(t *testing.T) {
	_, _, err := Read(Sources{Files: []string{filepath.Join(t.TempDir(), "gateway.env")}})
	if err == nil || !strings.Contains(err.Error(), "gateway.env") || strings.Contains(err.Error(), "config.service") {
		t.Errorf("what the file would have set is missed too: %v", err)
	}
}
