// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package robust holds the gateway to what it has to stand: a configuration that
// changes all the time, callers and backends that mean it ill, thousands of
// connections at rest, and a long day of all of that. The engine is the real one,
// on real sockets of the loopback; callers and backends are in the same process.
//
//	POSTERN_SWAPS=2000   how often the configuration changes under load (200)
//	POSTERN_SOAK=600     for how many seconds everything goes on at once (10)
//	POSTERN_IDLE=10000   how many connections rest (1000)
//
// Nothing here depends on how fast anything is: what is waited for is an event,
// and the time for it is generous.
package robust

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(restEnv); what != "" {
		if err := resting(what); err != nil {
			fmt.Fprintln(os.Stderr, "idle connections:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// quic-go writes to standard error where the system does not grant its buffers.
	if err := os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// setting reads a number from the environment.
func setting(t testing.TB, name string, or int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return or
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is no number above 0", name, text)
	}
	return n
}

// patience is longer than anything takes that is going to happen, on however slow
// a machine.
const patience = 2 * time.Minute
