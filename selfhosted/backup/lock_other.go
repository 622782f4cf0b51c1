// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package backup

import "os"

// tryLock does without: what is older is still refused; two processes that save
// in the same moment do not see each other.
func tryLock(*os.File) error { return nil }
