// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package eventlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	"postern.dev/postern/model"
	"postern.dev/postern/selfhosted/setting"
)

func TestLinesAreAsTheOriginalWritesThem(t *testing.T) {
	var b bytes.Buffer
	log := New(&b, setting.Log{Form: "text", Level: "info"}, false)
	log.Error("ConfigInitialSyncFailed", "exception", errors.New("Connection refused\nand [Info]forged"), "token", model.NewSecret("GatewayKey x"))
	log.Debug("Quiet")
	log.With("gateway", "edge").WithGroup("link").Warn("HeartbeatError", "port", 3443)
	want := regexp.MustCompile(`^\[Error\]\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} \[ConfigInitialSyncFailed\], exception: Connection refused and \[Info\]forged, token: \[redacted\]
\[Warning\]\S+ \[HeartbeatError\], gateway: edge, link\.port: 3443
$`)
	if !want.MatchString(b.String()) {
		t.Errorf("the log is\n%s", b.String())
	}
}

func TestLevelsAndForms(t *testing.T) {
	f := func(form, level string, lines int) string {
		t.Helper()
		var b bytes.Buffer
		log := New(&b, setting.Log{Form: form, Level: level, Color: true}, true)
		log.Debug("D")
		log.Info("I", "a", 1)
		log.Warn("W")
		log.Error("E")
		if n := strings.Count(b.String(), "\n"); n != lines {
			t.Errorf("%s at %s writes %d lines, want %d:\n%s", form, level, n, lines, b.String())
		}
		return b.String()
	}
	f("text", "debug", 4)
	f("text", "warn", 2)
	f("none", "debug", 0)
	if s := f("text", "error", 1); !strings.HasPrefix(s, "[\x1b[31mError\x1b[0m]") {
		t.Errorf("no colour in %q", s)
	}
	for line := range strings.Lines(f("json", "info", 3)) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil || m["eventId"] == nil || m["timestamp"] == nil || m["level"] == nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}
