// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user_test

import "testing"

func BenchmarkGatewayDialsAnEndpoint(b *testing.B) {
	l := newLab(b)
	l.inject()
	dial := l.by("in", "app", l.endpoint()+":443")
	for b.Loop() {
		c, err := dial(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}
