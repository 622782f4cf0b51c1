// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWhatIsPlayedBackIsNotServed serves documents from before, validly signed,
// by the management plane's own name, with its certificate checked or not.
func TestWhatIsPlayedBackIsNotServed(t *testing.T) {
	t.Parallel()
	for _, validation := range []string{"config.service.endpoint.disableCertificateValidation=false", "config.service.endpoint.disableCertificateValidation=true"} {
		t.Run(validation, func(t *testing.T) {
			t.Parallel()
			ca, dir := newAuthority(t), t.TempDir()
			begin := time.Now().Add(-time.Hour)
			before := ca.signAt(t, assigned(t, 3, map[string]string{"orders": backend(t, "what was withdrawn")}), begin)
			p := newPlane(t, ca, before)
			n := start(t, ca, p, validation, "config.backup.path="+dir)
			p.acked()
			p.publish(ca.signAt(t, assigned(t, 4, map[string]string{"orders": backend(t, "orders here")}), begin.Add(time.Minute)))
			p.acked()
			p.replace(before)
			if a := p.acked(); a.Revision != 4 || !strings.Contains(a.Error, "older than the one that is held: revision 3") {
				t.Errorf("acknowledged with %+v", a)
			}
			n.logs("[ConfigSyncFailed], kind: older")
			if got := n.get("/orders"); got != "200 orders here" {
				t.Errorf("what was played back is served: %s", got)
			}
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			// Started again, it holds what the backup holds.
			again := start(t, ca, p, validation, "config.backup.path="+dir)
			if a := p.acked(); a.Revision != 4 || !strings.Contains(a.Error, "older") {
				t.Errorf("started again, it acknowledges with %+v", a)
			}
			if got := again.get("/orders"); got != "200 orders here" {
				t.Errorf("started again, what was played back is served: %s", got)
			}
		})
	}
}

func TestAManagementPlaneThatWasPutBackServesAgain(t *testing.T) {
	t.Parallel()
	ca, dir := newAuthority(t), t.TempDir()
	begin := time.Now().Add(-time.Hour)
	latest := ca.signAt(t, assigned(t, 90, map[string]string{"orders": backend(t, "what the backup of the store has not")}), begin)
	p := newPlane(t, ca, latest)
	n := start(t, ca, p, "config.backup.path="+dir)
	p.acked()
	p.replace(ca.signAt(t, assigned(t, 40, map[string]string{"orders": backend(t, "put back")}), begin.Add(time.Minute)))
	if a := p.acked(); a.Revision != 40 || a.Error != "" {
		t.Errorf("acknowledged with %+v", a)
	}
	n.logs("[ConfigFromEarlierRevision], revision: 40, served: 90")
	if got := n.get("/orders"); got != "200 put back" {
		t.Errorf("it serves %s", got)
	}
	// It counts on from there; what was signed before it was put back is over.
	p.publish(ca.signAt(t, assigned(t, 41, map[string]string{"orders": backend(t, "and on")}), begin.Add(30*time.Minute)))
	if a := p.acked(); a.Revision != 41 || a.Error != "" {
		t.Errorf("acknowledged with %+v", a)
	}
	p.replace(latest)
	if a := p.acked(); a.Revision != 41 || !strings.Contains(a.Error, "older") {
		t.Errorf("acknowledged with %+v", a)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	again := start(t, ca, nil, "config.backup.path="+dir)
	again.logs("[ConfigLoadedFromBackup], revision: 41")
	if got := again.get("/orders"); got != "200 and on" {
		t.Errorf("from the backup: %s", got)
	}
}

// TestAnInstanceThatLagsLeavesTheBackupAlone has two instances share a folder,
// one of which gets its configuration from a server that lags.
func TestAnInstanceThatLagsLeavesTheBackupAlone(t *testing.T) {
	t.Parallel()
	ca, dir := newAuthority(t), t.TempDir()
	begin := time.Now().Add(-time.Hour)
	doc := ca.signAt(t, assigned(t, 1, map[string]string{"orders": backend(t, "first")}), begin)
	p, slow := newPlane(t, ca, doc), newPlane(t, ca, doc)
	one, two := start(t, ca, p, "config.backup.path="+dir), start(t, ca, slow, "config.backup.path="+dir)
	p.acked()
	slow.acked()
	second := ca.signAt(t, assigned(t, 2, map[string]string{"orders": backend(t, "second")}), begin.Add(time.Minute))
	third := ca.signAt(t, assigned(t, 3, map[string]string{"orders": backend(t, "third")}), begin.Add(2*time.Minute))
	p.publish(third)
	p.acked()
	slow.publish(second)
	if a := slow.acked(); a.Revision != 2 || a.Error != "" {
		t.Errorf("acknowledged with %+v", a)
	}
	two.logs("[BackupKept]")
	if got := two.get("/orders"); got != "200 second" {
		t.Errorf("what lags does not serve what it received: %s", got)
	}
	for _, n := range []*node{one, two} {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if log := n.log.String(); strings.Contains(log, "BackupFailed") || strings.Count(log, "BackupKept") > 1 {
			t.Errorf("the log says\n%s", log)
		}
	}
	again := start(t, ca, nil, "config.backup.path="+dir)
	again.logs("[ConfigLoadedFromBackup], revision: 3")
	if got := again.get("/orders"); got != "200 third" {
		t.Errorf("from the backup: %s", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "configuration.lock")); err != nil {
		t.Error(err)
	}
	p.refuse(http.StatusServiceUnavailable)
}
