// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted

import (
	"bytes"
	"strings"
	"testing"

	"postern.dev/postern/selfhosted/setting"
)

func TestSettingsThatAreWrongAreOneEventInOneLine(t *testing.T) {
	var out bytes.Buffer
	err := Run(t.Context(), setting.Sources{}, &out, "test")
	if err == nil {
		t.Fatal("a gateway runs without any setting")
	}
	for _, text := range []string{out.String(), err.Error()} {
		first, second, ok := strings.Cut(text, "; config.service.auth: ")
		if !ok || !strings.Contains(first, "config.service.endpoint: ") || strings.Count(first+second, "\n") > 1 {
			t.Errorf("the two settings that lack are not told apart: %s", text)
		}
	}
}
