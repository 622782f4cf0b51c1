// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request_test

import (
	"testing"

	"postern.dev/postern/decide/request"
)

func TestPassesAreCounted(t *testing.T) {
	for value, want := range map[string]int{
		"":                              0,
		"postern":                       1,
		"Postern":                       1,
		"other, postern ;a=b,\tpostern": 2,
		"postern.example, my-postern":   0,
		",,postern,":                    1,
	} {
		if got := request.Passes(value); got != want {
			t.Errorf("%q: %d, want %d", value, got, want)
		}
	}
}
