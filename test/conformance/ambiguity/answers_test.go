// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package ambiguity

import "testing"

const enoughAnswers = 0

func answers(t testing.TB) []sample { return nil }
