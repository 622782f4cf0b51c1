// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package mem_test

import (
	"testing"

	"go.uber.org/goleak"

	"postern.dev/postern/store"
	"postern.dev/postern/store/mem"
	"postern.dev/postern/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Harness{Open: func(t *testing.T, l store.Limits) store.Store {
		s := mem.New(l)
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}})
}
