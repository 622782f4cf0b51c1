// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package steady makes property tests draw the same in every run, so that a
// change is not blamed for what another run would have found too. A test that
// imports it draws from the seed in POSTERN_SEED; 0 draws anew each time, as
// the long runs do.
package steady

import (
	"flag"
	"os"

	_ "pgregory.net/rapid" // its flags have to be there
)

func init() {
	seed := os.Getenv("POSTERN_SEED")
	if seed == "" {
		seed = "1"
	}
	if err := flag.Set("rapid.seed", seed); err != nil {
		panic("POSTERN_SEED: " + err.Error())
	}
}
