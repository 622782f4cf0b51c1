// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	_ "embed"
	"sync"
)

// Petstore names the example API, which answers by itself.
const Petstore = "example:petstore"

// petstore is its document.
//
//go:embed petstore.yaml
var petstore []byte

// petstoreTree reads it once: trees are not written to.
var petstoreTree = sync.OnceValues(func() (value, error) { return parseYAML(petstore) })

// PetstoreDocument returns the document of the example API, in YAML.
func PetstoreDocument() []byte { return append([]byte(nil), petstore...) }
