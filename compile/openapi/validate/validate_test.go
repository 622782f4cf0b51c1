// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"testing"

	"postern.dev/postern/compile/openapi"
)

func TestDocumentsAreHeldToTheStandard(t *testing.T) {
	for name, x := range map[string]struct {
		doc   string
		valid bool
	}{
		"the example":         {`"example:petstore"`, true},
		"3.0":                 {`{"openapi":"3.0.1","info":{"title":"a","version":"1"},"paths":{"/a/{b}":{"get":{"parameters":[{"name":"b","in":"path","required":true,"schema":{"type":"string"}}],"responses":{"200":{"description":"ok"}}}}}}`, true},
		"3.1":                 {`{"openapi":"3.1.0","info":{"title":"a","version":"1"},"paths":{"/a":{"get":{"responses":{"200":{"description":"ok","content":{"application/json":{"schema":{"type":["string","null"]}}}}}}}}}`, true},
		"2.0":                 {`{"swagger":"2.0","info":{"title":"a","version":"1"},"paths":{"/a":{"get":{"responses":{"200":{"description":"ok"}}}}}}`, true},
		"no info":             {`{"openapi":"3.0.1","paths":{}}`, false},
		"no responses":        {`{"openapi":"3.0.1","info":{"title":"a","version":"1"},"paths":{"/a":{"get":{}}}}`, false},
		"schema type":         {`{"openapi":"3.0.1","info":{"title":"a","version":"1"},"paths":{},"components":{"schemas":{"a":{"type":"strnig"}}}}`, false},
		"network reference":   {`{"openapi":"3.0.1","info":{"title":"a","version":"1"},"paths":{},"components":{"schemas":{"a":{"$ref":"http://127.0.0.1:1/x"}}}}`, false},
		"file reference":      {`{"openapi":"3.0.1","info":{"title":"a","version":"1"},"paths":{},"components":{"schemas":{"a":{"$ref":"/etc/passwd"}}}}`, false},
		"what Import refuses": {`{"openapi":"3.0.1","info":{"title":"a","version":"1"},"paths":{"/{a+}/b":{"get":{"responses":{"200":{"description":"ok"}}}}}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := Document(t.Context(), []byte(x.doc), openapi.Options{}); (err == nil) != x.valid {
				t.Errorf("%v", err)
			}
		})
	}
}

func BenchmarkExample(b *testing.B) {
	for b.Loop() {
		if err := Document(b.Context(), []byte(`"example:petstore"`), openapi.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
