// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/operation"
)

// routes lists a table as "METHOD path -> integration".
func routes(t *operation.Table) []string {
	var out []string
	for i := range t.Operations {
		o := &t.Operations[i]
		s := fmt.Sprintf("%s %s -> %s %s%s", o.Method, o.Path, o.Integration.Kind, o.Integration.Backend, o.Integration.URI.Source)
		if o.Integration.AppendPath {
			s += " +path"
		}
		if o.KeyRequired {
			s += " key"
		}
		out = append(out, strings.TrimRight(s, " "))
	}
	return out
}

func mustImport(t testing.TB, doc string, o Options) *Document {
	t.Helper()
	d, err := Import([]byte(doc), o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestThePetstoreAnswersByItself(t *testing.T) {
	d := mustImport(t, `"example:petstore"`, Options{})
	want := []string{
		"GET / -> PETSTORE",
		"GET /pets -> PETSTORE",
		"OPTIONS /pets -> MOCK",
		"POST /pets -> PETSTORE",
		"GET /pets/{petId} -> PETSTORE",
		"OPTIONS /pets/{petId} -> MOCK",
	}
	if diff := cmp.Diff(want, routes(d.Table)); diff != "" {
		t.Error(diff)
	}
	if d.Table.Title != "PetStore" || len(d.Findings) > 0 {
		t.Errorf("title %q, findings %v", d.Table.Title, d.Findings)
	}
}

func TestEveryVersionAndFormIsRead(t *testing.T) {
	for name, doc := range map[string]string{
		"3.0 JSON":         `{"openapi":"3.0.1","paths":{"/a":{"get":{}}},"servers":[{"url":"https://up.example/v1/"}]}`,
		"3.1 JSON":         `{"openapi":"3.1.0","paths":{"/a":{"get":{}}},"servers":[{"url":"https://up.example/{v}","variables":{"v":{"default":"v1"}}}]}`,
		"2.0 JSON":         `{"swagger":"2.0","host":"up.example","basePath":"/v1","schemes":["wss","https"],"paths":{"/a":{"get":{}}}}`,
		"YAML":             "openapi: 3.0.0\nservers:\n- url: https://up.example/v1\npaths:\n  /a:\n    get: {}\n",
		"2.0 YAML":         "swagger: '2.0'\nhost: up.example\nbasePath: /v1\npaths:\n  /a:\n    get: {}\n",
		"YAML in a string": `"openapi: 3.0.0\nservers: [{url: 'https://up.example/v1'}]\npaths: {/a: {get: {}}}"`,
		"JSON in a string": `"{\"openapi\":\"3.0.1\",\"paths\":{\"/a\":{\"get\":{}}},\"servers\":[{\"url\":\"https://up.example/v1\"}]}"`,
		"by reference":     `{"openapi":"3.0.1","paths":{"/a":{"$ref":"#/x-items/a~1b"}},"x-items":{"a/b":{"get":{}}},"servers":[{"url":"https://up.example/v1"}]}`,
		"server of path":   `{"openapi":"3.0.1","paths":{"/a":{"servers":[{"url":"https://up.example/v1"}],"get":{}}},"servers":[{"url":"https://other"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			d := mustImport(t, doc, Options{})
			if diff := cmp.Diff([]string{"GET /a -> HTTP_PROXY https://up.example/v1 +path"}, routes(d.Table)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheBackendOfAnOperation(t *testing.T) {
	const doc = `{"openapi":"3.0.1","servers":[{"url":"https://server"}],"paths":{
		"/own":{"get":{"x-amazon-apigateway-integration":{"type":"http_proxy","uri":"backend://orders/v1/{id}"}}},
		"/any":{"x-amazon-apigateway-any-method":{}},
		"/shared":{"get":{"x-amazon-apigateway-integration":{"$ref":"#/components/x-amazon-apigateway-integrations/one"}}}},
		"components":{"x-amazon-apigateway-integrations":{"one":{"type":"HTTP","httpMethod":"POST","uri":"http://${stageVariables.host}/x","timeoutInMillis":500}}}}`
	d := mustImport(t, doc, Options{})
	want := []string{"GET /own -> HTTP_PROXY orders/v1/{id}", "ANY /any -> HTTP_PROXY https://server +path", "GET /shared -> HTTP http://${stageVariables.host}/x"}
	if diff := cmp.Diff(want, routes(d.Table)); diff != "" {
		t.Error(diff)
	}
	d = mustImport(t, doc, Options{Backend: "store", KeyRequired: true})
	want = []string{"GET /own -> HTTP_PROXY orders/v1/{id} key", "ANY /any -> HTTP_PROXY store +path key", "GET /shared -> HTTP http://${stageVariables.host}/x key"}
	if diff := cmp.Diff(want, routes(d.Table)); diff != "" {
		t.Error(diff)
	}
	d = mustImport(t, `{"openapi":"3.0.1","paths":{"/a":{"get":{}}}}`, Options{})
	if d.Table.Operations[0].Integration.Kind != operation.None || len(d.Findings) != 1 {
		t.Errorf("no backend: %v, findings %v", routes(d.Table), d.Findings)
	}
}

func TestNothingIsSilentlyLeftOut(t *testing.T) {
	d := mustImport(t, `{"openapi":"3.0.1",
		"x-amazon-apigateway-policy":{"Version":"2012-10-17","Statement":[]},
		"x-amazon-apigateway-api-key-source":"HEADER",
		"x-amazon-apigateway-binary-media-types":["image/png"],
		"x-amazon-apigateway-minimum-compression-size":0,
		"x-vendor":1,
		"security":[{"k":[]}],
		"servers":[{"url":"/v1","x-amazon-apigateway-endpoint-configuration":{"vpcEndpointIds":["vpce-1"],"disableExecuteApiEndpoint":true}}],
		"components":{"securitySchemes":{"k":{"type":"apiKey","name":"x-api-key","in":"header"},"b":{"type":"http","scheme":"bearer"}}},
		"paths":{"x-note":1,"/a":{"get":{"security":[{"k":[]},{"b":[]}],"x-amazon-apigateway-request-validator":"all","x-odd":1,
			"x-amazon-apigateway-integration":{"type":"http_proxy","uri":"http://u","connectionType":"VPC_LINK","credentials":"arn"}},
			"post":{"x-amazon-apigateway-integration":{"type":"aws_proxy","uri":"arn:aws:lambda"}}}}}`, Options{})
	var at []string
	for _, f := range d.Findings {
		at = append(at, strings.TrimPrefix(f.Path, "spec.openapi."))
	}
	want := []string{
		"security",
		"servers[0].x-amazon-apigateway-endpoint-configuration.vpcEndpointIds",
		"servers[0].x-amazon-apigateway-endpoint-configuration.disableExecuteApiEndpoint",
		"x-amazon-apigateway-minimum-compression-size",
		"x-vendor",
		"paths.x-note",
		"paths./a.get.security",
		"paths./a.get.x-amazon-apigateway-request-validator",
		"paths./a.get.x-odd",
		"paths./a.get.x-amazon-apigateway-integration.connectionType",
		"paths./a.get.x-amazon-apigateway-integration.credentials",
		"paths./a.post.x-amazon-apigateway-integration.type",
	}
	if diff := cmp.Diff(want, at); diff != "" {
		t.Error(diff)
	}
	if string(d.Policy) != `{"Version":"2012-10-17","Statement":[]}` || !d.Table.Operations[0].KeyRequired ||
		len(d.Endpoints) != 1 || len(d.Table.BinaryTypes) != 1 {
		t.Errorf("policy %s, %+v, endpoints %v", d.Policy, routes(d.Table), d.Endpoints)
	}
}

func TestAWrongDocumentNamesEveryPlace(t *testing.T) {
	integration := func(in string) string {
		return `{"openapi":"3.0.1","paths":{"/a":{"get":{"x-amazon-apigateway-integration":` + in + `}}}}`
	}
	const in = "spec.openapi.paths./a.get.x-amazon-apigateway-integration"
	for _, x := range []struct{ name, doc, want string }{
		{"not JSON", `{"openapi":"3.0.1",}`, "spec.openapi: line 1, column 20: a key in quotes is missing here"},
		{"twice", `{"openapi":"3.0.1","openapi":"3.0.1"}`, `spec.openapi: line 1, column 38: the key "openapi" stands twice in one object`},
		{"no version", `{}`, "spec.openapi: openapi (3.0, 3.1) or swagger (2.0) must say which version the document has"},
		{"empty", ``, "spec.openapi: no document; write one, or example:petstore"},
		{"example", `"example:zoo"`, "spec.openapi: there is no example:zoo; the example is example:petstore"},
		{"outside", `{"openapi":"3.0.1","paths":{"/a":{"$ref":"https://x/y"}}}`, `spec.openapi.paths./a: $ref "https://x/y" leads out of the document; only references that begin with #/ are followed`},
		{"file", `{"openapi":"3.0.1","paths":{"/a":{"$ref":"./y.yaml"}}}`, `spec.openapi.paths./a: $ref "./y.yaml" leads out of the document; only references that begin with #/ are followed`},
		{"circle", `{"openapi":"3.0.1","paths":{"/a":{"$ref":"#/paths/~1a"}}}`, `spec.openapi.paths./a: $ref goes in a circle`},
		{"greedy", `{"openapi":"3.0.1","paths":{"/{p+}/a":{"get":{}}}}`, `spec.openapi.paths./{p+}/a.get: {p+} must be the last segment`},
		{"partial", `{"openapi":"3.0.1","paths":{"/a{p}":{"get":{}}}}`, `spec.openapi.paths./a{p}.get: "a{p}": a parameter is a whole segment, as {name} or {name+}`},
		{"same", `{"openapi":"3.0.1","paths":{"/{a}":{"get":{}},"/{b}":{"get":{}}}}`, `spec.openapi.paths./{b}.get: /{a} has the same form`},
		{"type", integration(`{"type":"lambda"}`), in + `.type: "lambda" is no integration; HTTP, HTTP_PROXY and MOCK are`},
		{"uri", integration(`{"type":"http","uri":"ftp://x"}`), in + `.uri: "ftp://x": a backend is http://, https:// or backend://NAME/`},
		{"no uri", integration(`{"type":"http"}`), in + `.uri: the integration leads nowhere; write a uri or spec.backend`},
		{"variable", integration(`{"type":"http","uri":"http://${context.x}/"}`), in + `.uri: ${context.x}/: only ${stageVariables.name} may stand in a URI`},
		{"host", integration(`{"type":"http","uri":"http://{proxy}/"}`), in + `.uri: "http://{proxy}/": a parameter cannot name the host; callers would choose where the gateway goes`},
		{"time-out", integration(`{"type":"http","uri":"http://x","timeoutInMillis":5}`), in + `.timeoutInMillis: "5": a time-out is from 50 to 300000 milliseconds`},
		{"VTL", integration(`{"type":"mock","requestTemplates":{"application/json":"#if($x)1#end"}}`), in + `.requestTemplates.application/json: #if in a template: directives are not carried out, only $context.x, $stageVariables.x, $input.body, $input.params('x') and $input.json('$') are replaced`},
		{"set", integration(`{"type":"mock","responses":{"default":{"statusCode":200,"responseTemplates":{"a/b":"#set($x=1)"}}}}`), in + `.responses.default.responseTemplates.a/b: #set in a template: directives are not carried out, only $context.x, $stageVariables.x, $input.body, $input.params('x') and $input.json('$') are replaced`},
		{"util", integration(`{"type":"mock","requestTemplates":{"a/b":"$util.x('1')"}}`), in + `.requestTemplates.a/b: $util.x in a template is not known; $context.x, $stageVariables.x, $input.body, $input.params('x') and $input.json('$') are`},
		{"mapping", integration(`{"type":"http","uri":"http://x","requestParameters":{"integration.request.cookie.a":"'1'"}}`), in + `.requestParameters.integration.request.cookie.a: nothing can be set by that name`},
		{"regex", integration(`{"type":"http","uri":"http://x","responses":{"4(":{"statusCode":400}}}`), in + ".responses.4(: not a regular expression: error parsing regexp: missing closing ): `^(?:4()$`"},
		{"auth", `{"openapi":"3.0.1","paths":{"/a":{"get":{"x-amazon-apigateway-auth":{"type":"AWS_IAM"}}}}}`, `spec.openapi.paths./a.get.x-amazon-apigateway-auth: callers cannot be authenticated by "AWS_IAM"; the operation would be open. Take it out, or protect the API by its policy`},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, err := Import([]byte(x.doc), Options{})
			var errs model.Errors
			if !errors.As(err, &errs) || err.Error() != x.want {
				t.Errorf("got  %v\nwant %s", err, x.want)
			}
		})
	}
}

func TestADocumentIsBounded(t *testing.T) {
	if _, err := Import(make([]byte, 101), Options{MaxBytes: 100}); err == nil {
		t.Error("a document above the limit of bytes was read")
	}
	doc := `{"openapi":"3.0.1","paths":{"/a":{"get":{}},"/b":{"get":{}}}}`
	if _, err := Import([]byte(doc), Options{MaxResources: 1}); err == nil {
		t.Error("a document above the limit of paths was read")
	}
	if _, err := Import([]byte(strings.Repeat("[", 100_000)), Options{}); err == nil {
		t.Error("a document nested without end was read")
	}
	bomb := "openapi: 3.0.0\na: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+p+",", 9), ","))
	}
	if _, err := Import([]byte(bomb), Options{}); err == nil {
		t.Error("aliases of aliases were written out without end")
	}
}

// FuzzImport: whatever comes in, Import returns; and what it takes as JSON,
// encoding/json takes too.
func FuzzImport(f *testing.F) {
	f.Add([]byte(`"example:petstore"`))
	f.Add(petstore)
	f.Add([]byte(large(3)))
	f.Add([]byte(`{"swagger":"2.0","paths":{"/{p+}":{"x-amazon-apigateway-any-method":{"x-amazon-apigateway-integration":{"type":"mock","requestTemplates":{"a/b":"${context.x} $input.json('$.a')"}}}}}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if v, err := parseJSON(string(doc)); (err == nil) != json.Valid(doc) {
			// Ours refuses more: broken UTF-8, repeated keys, depth.
			if err == nil {
				t.Fatalf("%q was taken, as %v", doc, v.kind())
			}
		} else if err == nil {
			if out := v.appendJSON(nil); !json.Valid(out) {
				t.Fatalf("%q was written as %q", doc, out)
			}
		}
		if d, err := Import(doc, Options{}); err == nil && len(d.Table.Nodes) == 0 {
			t.Fatal("a table without a tree")
		}
	})
}

// large is a document of n operations on n/2 paths, as an API team writes it.
func large(n int) string {
	var b strings.Builder
	b.WriteString(`{"openapi":"3.0.1","info":{"title":"Orders","version":"1"},"servers":[{"url":"https://orders.example.internal/v1"}],"paths":{`)
	for i := range n / 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"/resource%d/{id}":{"get":{"operationId":"get%d","parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"string"}}],"responses":{"200":{"description":"one","content":{"application/json":{"schema":{"$ref":"#/components/schemas/Thing"}}}}}},`, i, i)
		fmt.Fprintf(&b, `"put":{"operationId":"put%d","parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"string"}}],"responses":{"200":{"description":"one"}},"x-amazon-apigateway-integration":{"type":"http_proxy","httpMethod":"PUT","uri":"https://orders.example.internal/v1/resource%d/{id}","requestParameters":{"integration.request.path.id":"method.request.path.id"}}}}`, i, i)
	}
	b.WriteString(`},"components":{"schemas":{"Thing":{"type":"object","properties":{"id":{"type":"string"},"name":{"type":"string"}}}}}}`)
	return b.String()
}

func BenchmarkImport20Routes(b *testing.B) {
	doc := []byte(large(20))
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Import(doc, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkImportPetstore(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Import([]byte(`"example:petstore"`), Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkImport10000 is a gateway's whole load from nothing, on one
// processor.
func BenchmarkImport10000(b *testing.B) {
	doc := []byte(large(20))
	for b.Loop() {
		for range 10_000 {
			if _, err := Import(doc, Options{}); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func TestPathsThatNoRequestIsForAreNoted(t *testing.T) {
	for path, want := range map[string]string{
		"/a/{b}/{c+}": "", "/.well-known/x:y@z;v=1": "", "/caf%C3%A9": "", "/a%2Fb": "",
		"/café": "write /caf%C3%A9", "/a b": "write /a%20b", "/a%2fb": "write /a%2Fb", "/%7Eu": "write /~u", "/../x": "write /x",
		"/a?x=1": "no query", "/a#b": "no query",
	} {
		d, err := Import([]byte(`{"openapi":"3.0.1","servers":[{"url":"http://x"}],"paths":{"`+path+`":{"get":{}}}}`), Options{})
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		switch {
		case want == "" && len(d.Findings) > 0:
			t.Errorf("%s: %v", path, d.Findings)
		case want != "" && (len(d.Findings) != 1 || !strings.Contains(d.Findings[0].Message, want)):
			t.Errorf("%s: %v", path, d.Findings)
		}
	}
}
