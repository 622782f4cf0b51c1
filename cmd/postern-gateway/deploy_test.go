// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/selfhosted"
	"postern.dev/postern/selfhosted/setting"
)

const deploy = "../../deploy/"

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(deploy + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTheManifestsSetWhatThereIs reads the settings in the manifests as the
// process does. That they are what Kubernetes takes is deploy/check's to tell.
func TestTheManifestsSetWhatThereIs(t *testing.T) {
	var environ []string
	manifest := read(t, "kubernetes/postern-gateway.yaml")
	for _, doc := range bytes.Split(manifest, []byte("\n---\n")) {
		var o struct {
			Kind     string
			Metadata struct{ Name string }
			Data     map[string]string
			Strings  map[string]string `yaml:"stringData"`
		}
		if err := yaml.Unmarshal(doc, &o); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(o.Metadata.Name, "-ca") || strings.HasSuffix(o.Metadata.Name, "-key") {
			continue // files
		}
		for _, m := range []map[string]string{o.Data, o.Strings} {
			for k, v := range m {
				if k == "config.service.auth" {
					v = "GatewayKey edge&203001010000&c2ln"
				}
				environ = append(environ, k+"="+v)
			}
		}
	}
	s, notes, err := setting.Read(setting.Sources{Environ: environ})
	if err != nil || len(notes) > 0 {
		t.Fatalf("%v, %+v", err, notes)
	}
	if s.BackupDir == "" || !strings.Contains(string(manifest), "mountPath: "+s.BackupDir+"}") {
		t.Errorf("the backup is in %q, where nothing is mounted", s.BackupDir)
	}
	if !strings.Contains(string(manifest), "mountPath: "+filepath.Dir(s.CA)+",") {
		t.Errorf("the authority is in %q, where nothing is mounted", s.CA)
	}
	if !strings.Contains(string(manifest), "mountPath: "+filepath.Dir(s.BackupKey)+",") {
		t.Errorf("the key of the backup is in %q, where nothing is mounted", s.BackupKey)
	}
	for _, probe := range []string{"livenessProbe:\n            httpGet: {path: " + request.StatusPath + ",", "readinessProbe:\n            httpGet: {path: " + selfhosted.ReadyPath + ","} {
		if !strings.Contains(string(manifest), probe) {
			t.Errorf("the manifest lacks\n%s", probe)
		}
	}
}

var flagName = regexp.MustCompile(`--([a-zA-Z.]+)`)

func TestTheUnitStartsItWithFlagsThatThereAre(t *testing.T) {
	_, rest, ok := strings.Cut(string(read(t, "systemd/postern-gateway.service")), "\nExecStart=/usr/local/bin/postern-gateway ")
	if !ok {
		t.Fatal("the unit starts something else")
	}
	line, _, _ := strings.Cut(rest, "\n")
	// What is read as a credential is loaded, and the key of the backup is among it.
	unit := string(read(t, "systemd/postern-gateway.service"))
	credentials := regexp.MustCompile(`\$\{CREDENTIALS_DIRECTORY\}/(\S+)`).FindAllStringSubmatch(line, -1)
	for _, c := range credentials {
		if !strings.Contains(unit, "\nLoadCredential="+c[1]+":/etc/postern/"+c[1]+"\n") {
			t.Errorf("%s is not loaded", c[1])
		}
	}
	if !strings.Contains(line, "--config.backup.key ${CREDENTIALS_DIRECTORY}/") || len(credentials) != 3 {
		t.Errorf("the key of the backup is none of the credentials %v", credentials)
	}
	known := map[string]bool{"settings": true}
	for _, s := range setting.All() {
		known[s.Name] = s.Without == ""
	}
	found := flagName.FindAllStringSubmatch(line, -1)
	for _, m := range found {
		if !known[m[1]] {
			t.Errorf("there is no flag %s", m[0])
		}
	}
	if len(found) == 0 {
		t.Error("it is started without any flag")
	}
}
