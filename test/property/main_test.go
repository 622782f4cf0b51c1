// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package property holds explain against reality. It draws small random
// configurations, starts a whole Postern for each, sends requests through real
// tunnels and over the internet segment, and compares what the caller saw, and
// what the engine that stopped it recorded, with what explain says.
//
// A disagreement is a bug of the first order. It is printed with its seed and
// written as a txtar file; put into testdata it is replayed for ever.
//
//	POSTERN_CASES=10000   how many requests are drawn (1500)
//	POSTERN_SEED=7        the first world's seed (1); further worlds count up
//	POSTERN_WORKERS=2     how many worlds run at once
package property

import (
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// setting reads a number from the environment.
func setting(t testing.TB, name string, or uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return or
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q is no number: %v", name, text, err)
	}
	return n
}
