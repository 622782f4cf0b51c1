// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"postern.dev/postern/compile"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
)

func TestEveryExampleCompilesWithoutAdvice(t *testing.T) {
	folders, err := os.ReadDir("../examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		t.Run(f.Name(), func(t *testing.T) {
			objects, err := manifest.Load(nil, filepath.Join("../examples", f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			set, refs, err := model.Admit(model.NewSet(), model.Change{Puts: objects}, model.Options{IDs: model.RandomIDs(rand.Reader), Base: model.DefaultBase, Internet: model.DefaultInternet})
			if err != nil {
				t.Fatal(err)
			}
			var c compile.Compiler
			if err := c.Check(set, refs); err != nil {
				t.Error(err)
			}
			opts := options
			opts.AsWritten = true
			for _, ref := range refs {
				for _, x := range c.Compile(set, opts).Conditions[ref] {
					if x.Type == compile.ConditionAdvice || x.Type == compile.ConditionReady && !x.Status {
						t.Errorf("%s: %+v", ref, x)
					}
				}
			}
		})
	}
}
