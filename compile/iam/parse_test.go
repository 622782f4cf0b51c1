// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"postern.dev/postern/compile/iam"
	snapshot "postern.dev/postern/snapshot/iam"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var options = iam.Options{Region: "eu-west-1", Account: "000000000000", API: "a1b2c3d4e5"}

// TestGolden compiles each policy.json and compares what is wrong with it, or what
// it compiles to and what Lint finds, with the rest of the file. The comment of the
// file may name the use: "private", "unauthenticated", "identity", "any API".
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := golden(t, string(ar.Comment), ar.Files[0].Data)
			if *update {
				ar.Files = append(ar.Files[:1], txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(ar.Files) != 2 {
				t.Fatal("the file needs the sections policy.json and want; run with -update")
			}
			if d := cmp.Diff(string(ar.Files[1].Data), got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func golden(t *testing.T, comment string, doc []byte) string {
	t.Helper()
	o := options
	o.Identity = strings.Contains(comment, "identity")
	if strings.Contains(comment, "any API") {
		o.API = ""
	}
	var b strings.Builder
	p, err := iam.Parse(doc, o)
	if err != nil {
		var list iam.Errors
		if !errors.As(err, &list) {
			t.Fatalf("the error is a %T, not Errors", err)
		}
		for _, e := range list {
			fmt.Fprintf(&b, "error %s\n      %s\n", orWhole(e.Path), e.Msg)
		}
		return b.String()
	}
	for i := range p.Statements {
		s := &p.Statements[i]
		fmt.Fprintf(&b, "%s %s\n", s.Effect, s.Name())
		for _, r := range s.Resources.Patterns {
			fmt.Fprintf(&b, "  resource %s\n", r.Expanded)
		}
		for _, c := range s.Conditions {
			fmt.Fprintf(&b, "  condition %s %s %q\n", c.Operator.Name, c.Key.Name, c.Text)
		}
	}
	use := iam.Use{Private: strings.Contains(comment, "private"), Unauthenticated: strings.Contains(comment, "unauthenticated")}
	for _, f := range iam.Lint(p, use) {
		fmt.Fprintf(&b, "finding %s at %s\n      %s\n", f.Code, f.Path, f.Sentence)
	}
	return b.String()
}

func orWhole(path string) string {
	if path == "" {
		return "(document)"
	}
	return path
}

// refuses checks that one value in an otherwise good policy has one error.
func refuses(t *testing.T, doc, path, say string) {
	t.Helper()
	p, err := iam.Parse([]byte(doc), options)
	if err == nil {
		t.Errorf("%s is accepted as %+v", doc, p)
		return
	}
	list, ok := err.(iam.Errors) //nolint:errorlint // the type is the contract
	if !ok || len(list) != 1 {
		t.Errorf("%s: want one error, got:\n%v", doc, err)
		return
	}
	if list[0].Path != path || !strings.Contains(list[0].Msg, say) {
		t.Errorf("%s:\n got %s: %s\nwant %s: ...%s...", doc, list[0].Path, list[0].Msg, path, say)
	}
}

func TestRefusals(t *testing.T) {
	st := func(s string) string { return `{"Version":"2012-10-17","Statement":[` + s + `]}` }
	with := func(effect, principal, action, resource, condition string) string {
		return st(fmt.Sprintf(`{"Effect":%s,%s,%s,%s,"Condition":%s}`, effect, principal, action, resource, condition))
	}
	const all, invoke, any = `"Principal":"*"`, `"Action":"execute-api:Invoke"`, `"Resource":"execute-api:/*"`
	element := func(effect, principal, action, resource string) string {
		return with(effect, principal, action, resource, "{}")
	}
	condition := func(c string) string { return with(`"Deny"`, all, invoke, any, c) }
	f := func(name, doc, path, say string) {
		t.Helper()
		t.Run(name, func(t *testing.T) { t.Helper(); refuses(t, doc, path, say) })
	}
	f("empty document", ``, "", "not JSON")
	f("not an object", `"x"`, "", "write an object")
	f("cut short", `{"Statement":[`, "", "line 1, column 14")
	f("trailing comma", `{"Statement":[1,]}`, "", "line 1")
	f("trailing text", `{} {}`, "", "not JSON")
	f("invalid UTF-8", "{\"Id\":\"\xff\"}", "", "UTF-8")
	f("too deep", strings.Repeat("[", 40)+strings.Repeat("]", 40), "", "nested")
	f("no statement", `{"Version":"2012-10-17"}`, "Statement", "needs a Statement")
	f("empty statement list", `{"Statement":[]}`, "Statement", "at least one")
	f("version", `{"Version":"2012-10-18","Statement":`+`{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}`, "Version", "2012-10-17")
	f("unknown top element", `{"Statment":[],"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}`, "Statment", `did you mean "Statement"?`)
	f("statement is no object", st(`"x"`), "Statement[0]", "write an object")
	f("unknown element", st(`{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Conditon":{}}`), "Statement[0].Conditon", `did you mean "Condition"?`)
	f("duplicate element", st(`{"Effect":"Allow","Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}`), "Statement[0].Effect", "more than once")
	f("duplicate in another case", st(`{"Effect":"Allow","effect":"Deny","Principal":"*","Action":"*","Resource":"*"}`), "Statement[0].effect", "more than once")
	f("no effect", st(`{"Principal":"*","Action":"*","Resource":"*"}`), "Statement[0].Effect", "needs an Effect")
	f("effect's case", element(`"allow"`, all, invoke, any), "Statement[0].Effect", `did you mean "Allow"?`)
	f("effect is no string", element(`true`, all, invoke, any), "Statement[0].Effect", "true or false")
	f("no principal", st(`{"Effect":"Allow","Action":"*","Resource":"*"}`), "Statement[0]", "neither Principal nor NotPrincipal")
	f("both principals", st(`{"Effect":"Deny","Principal":"*","NotPrincipal":{"AWS":"*"},"Action":"*","Resource":"*"}`), "Statement[0]", "keep one")
	f("both actions", st(`{"Effect":"Deny","Principal":"*","Action":"*","NotAction":"*","Resource":"*"}`), "Statement[0]", "keep one")
	f("no resource", st(`{"Effect":"Deny","Principal":"*","Action":"*"}`), "Statement[0]", "execute-api:/*")
	f("duplicate Sid", st(`{"Sid":"a","Effect":"Deny","Principal":"*","Action":"*","Resource":"*"},{"Sid":"a","Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}`), "Statement[1].Sid", "Statement[0]")

	f("bare ARN", element(`"Deny"`, `"Principal":"arn:aws:iam::123456789012:root"`, invoke, any), "Statement[0].Principal", `write {"AWS"`)
	f("empty principal", element(`"Deny"`, `"Principal":{}`, invoke, any), "Statement[0].Principal", "names nobody")
	f("principal list", element(`"Deny"`, `"Principal":["*"]`, invoke, any), "Statement[0].Principal", "is a list")
	f("type of principal", element(`"Deny"`, `"Principal":{"Aws":"*"}`, invoke, any), "Statement[0].Principal.Aws", `did you mean "AWS"?`)
	f("partial wildcard", element(`"Deny"`, `"Principal":{"AWS":["*","arn:aws:iam::123456789012:user/*"]}`, invoke, any), "Statement[0].Principal.AWS[1]", "aws:PrincipalArn")
	f("group", element(`"Deny"`, `"Principal":{"AWS":"arn:aws:iam::123456789012:group/g"}`, invoke, any), "Statement[0].Principal.AWS", "groups")
	f("session without a name", element(`"Deny"`, `"Principal":{"AWS":"arn:aws:sts::123456789012:assumed-role/r"}`, invoke, any), "Statement[0].Principal.AWS", "names no session")
	f("short account", element(`"Deny"`, `"Principal":{"AWS":"12345"}`, invoke, any), "Statement[0].Principal.AWS", "not a principal")
	f("ARN without account", element(`"Deny"`, `"Principal":{"AWS":"arn:aws:iam::1:role/r"}`, invoke, any), "Statement[0].Principal.AWS", "twelve digits")
	f("service wildcard", element(`"Deny"`, `"Principal":{"Service":"*"}`, invoke, any), "Statement[0].Principal.Service", "amazonaws.com")

	f("action without service", element(`"Deny"`, all, `"Action":"Invoke"`, any), "Statement[0].Action", "execute-api:Invoke")
	f("wildcard service", element(`"Deny"`, all, `"Action":"*:Invoke"`, any), "Statement[0].Action", "service")
	f("empty action list", element(`"Deny"`, all, `"Action":[]`, any), "Statement[0].Action", "empty")
	f("action is a number", element(`"Deny"`, all, `"Action":["*",1]`, any), "Statement[0].Action[1]", "a number")

	f("path as resource", element(`"Deny"`, all, invoke, `"Resource":"/test/*"`), "Statement[0].Resource", `write "execute-api:/test/*"`)
	f("no slash", element(`"Deny"`, all, invoke, `"Resource":"execute-api:*"`), "Statement[0].Resource", `"execute-api:/*"`)
	f("short ARN", element(`"Deny"`, all, invoke, `"Resource":["*","arn:aws:execute-api:*"]`), "Statement[0].Resource[1]", "six parts")
	f("wildcard service in ARN", element(`"Deny"`, all, invoke, `"Resource":"arn:aws:*:*:*:*"`), "Statement[0].Resource", "name its service")
	f("variable in region", element(`"Deny"`, all, invoke, `"Resource":"arn:aws:execute-api:${aws:username}:*:*"`), "Statement[0].Resource", "fifth colon")
	f("open variable", element(`"Deny"`, all, invoke, `"Resource":"execute-api:/${aws:username"`), "Statement[0].Resource", "close the variable")
	f("default without quotes", element(`"Deny"`, all, invoke, `"Resource":"execute-api:/${aws:username, x}"`), "Statement[0].Resource", "${aws:username, 'default'}")
	f("variable without prefix", element(`"Deny"`, all, invoke, `"Resource":"execute-api:/${username}"`), "Statement[0].Resource", `write "aws:username"`)
	f("variable of many values", element(`"Deny"`, all, invoke, `"Resource":"execute-api:/${aws:PrincipalOrgPaths}"`), "Statement[0].Resource", "many values")

	f("operator", condition(`{"StringEqual":{"aws:SourceVpce":"x"}}`), "Statement[0].Condition.StringEqual", `did you mean "StringEquals"?`)
	f("operator's case", condition(`{"stringEquals":{"aws:SourceVpce":"x"}}`), "Statement[0].Condition.stringEquals", `did you mean "StringEquals"?`)
	f("qualifier", condition(`{"ForAnyValues:StringEquals":{"aws:SourceVpce":"x"}}`), "Statement[0].Condition.ForAnyValues:StringEquals", `did you mean "ForAnyValue"?`)
	f("NullIfExists", condition(`{"NullIfExists":{"aws:SourceVpce":"true"}}`), "Statement[0].Condition.NullIfExists", `write "Null"`)
	f("operator without keys", condition(`{"StringEquals":{}}`), "Statement[0].Condition.StringEquals", "compares nothing")
	f("same operator twice", condition(`{"StringEquals":{"aws:SourceVpce":"x"},"StringEquals":{"aws:SourceVpc":"x"}}`), "Statement[0].Condition.StringEquals", "more than once")
	f("same key in another case", condition(`{"StringEquals":{"aws:SourceVpce":"x","aws:sourceVpce":"y"}}`), "Statement[0].Condition.StringEquals.aws:sourceVpce", "more than once")
	f("key without prefix", condition(`{"StringEquals":{"SourceVpce":"x"}}`), "Statement[0].Condition.StringEquals.SourceVpce", `write "aws:SourceVpce"`)
	f("unknown key of ours", condition(`{"StringEquals":{"postern:SourceHosts":"x"}}`), "Statement[0].Condition.StringEquals.postern:SourceHosts", `did you mean "postern:SourceHost"?`)
	f("no values", condition(`{"StringEquals":{"aws:SourceVpce":[]}}`), "Statement[0].Condition.StringEquals.aws:SourceVpce", "at least one")
	f("null value", condition(`{"StringEquals":{"aws:SourceVpce":null}}`), "Statement[0].Condition.StringEquals.aws:SourceVpce", "is null")
	f("CIDR", condition(`{"IpAddress":{"aws:SourceIp":["10.0.0.0/33"]}}`), "Statement[0].Condition.IpAddress.aws:SourceIp[0]", "10.0.0.0/8")
	f("zone", condition(`{"IpAddress":{"aws:SourceIp":"fe80::1%eth0"}}`), "Statement[0].Condition.IpAddress.aws:SourceIp", "not an address")
	f("number", condition(`{"NumericEquals":{"aws:EpochTime":"0x10"}}`), "Statement[0].Condition.NumericEquals.aws:EpochTime", "not a number")
	f("date", condition(`{"DateEquals":{"aws:CurrentTime":"yesterday"}}`), "Statement[0].Condition.DateEquals.aws:CurrentTime", "2026-01-31T09:00:00Z")
	f("lone year", condition(`{"DateEquals":{"aws:CurrentTime":"2026"}}`), "Statement[0].Condition.DateEquals.aws:CurrentTime", "not a date")
	f("bool", condition(`{"Bool":{"aws:SecureTransport":"yes"}}`), "Statement[0].Condition.Bool.aws:SecureTransport", `write "true" or "false"`)
	f("base64", condition(`{"BinaryEquals":{"aws:X":"cG9zdGVybg"}}`), "Statement[0].Condition.BinaryEquals.aws:X", "base64")
	f("ARN", condition(`{"ArnLike":{"aws:SourceArn":"*"}}`), "Statement[0].Condition.ArnLike.aws:SourceArn", "six parts")
	f("variable in a number", condition(`{"NumericEquals":{"aws:EpochTime":"${aws:EpochTime}"}}`), "Statement[0].Condition.NumericEquals.aws:EpochTime", "variable")
}

func TestLengthIsBounded(t *testing.T) {
	doc := `{"Id":"` + strings.Repeat("x", iam.DefaultMaxCharacters) + `"}`
	refuses(t, doc, "", "at most 8192")
	if _, err := iam.Parse([]byte(doc), iam.Options{MaxCharacters: 10}); err == nil || !strings.Contains(err.Error(), "at most 10") {
		t.Errorf("got %v", err)
	}
}

func TestErrorsAreBounded(t *testing.T) {
	doc := `{"Statement":[` + strings.Repeat(`1,`, 500) + `1]}`
	_, err := iam.Parse([]byte(doc), options)
	var list iam.Errors
	if !errors.As(err, &list) || len(list) != 101 || !strings.Contains(list[100].Error(), "more errors") {
		t.Errorf("got %d errors, the last: %v", len(list), list[len(list)-1])
	}
	if lines := strings.Count(err.Error(), "\n"); lines != 100 {
		t.Errorf("the text has %d line ends", lines)
	}
}

func TestSourceAndPlacesAreKept(t *testing.T) {
	const doc = `{"Id":"p","Statement":[{"Sid":"one","Effect":"Deny","Principal":"*","Action":"*","Resource":"execute-api:/*","Condition":{"Null":{"aws:sourcevpce":true}}}]}`
	p, err := iam.Parse([]byte(doc), options)
	if err != nil {
		t.Fatal(err)
	}
	if p.Source != doc || p.ID != "p" || p.Version != snapshot.Version2008 {
		t.Errorf("got %+v", p)
	}
	s := &p.Statements[0]
	if s.Name() != "Statement[0] (one)" || s.Conditions[0].Path != "Statement[0].Condition.Null.aws:sourcevpce" || s.Conditions[0].Key.Name != "aws:SourceVpce" {
		t.Errorf("got %+v", s)
	}
	if r := s.Resources.Patterns[0]; r.Text != "execute-api:/*" || r.Expanded != "arn:aws:execute-api:eu-west-1:000000000000:a1b2c3d4e5/*" {
		t.Errorf("got %+v", r)
	}
}

func TestCompilingIsDeterministic(t *testing.T) {
	doc := []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":{"AWS":["111111111111","*"]},"Action":"*","Resource":"*",` +
		`"Condition":{"StringLike":{"aws:Referer":"a*${aws:username}","aws:UserAgent":"?"},"IpAddress":{"aws:SourceIp":["10.0.0.0/8","::/0"]}}}}`)
	first, err := iam.Parse(doc, options)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := iam.Parse(doc, options)
		if err != nil || !reflect.DeepEqual(first, again) {
			t.Fatalf("differs: %v", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(ar.Files[0].Data)
	}
	f.Add([]byte(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"arn:aws:execute-api:*:*:${aws:x, ''}${*}"}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		p, err := iam.Parse(doc, options)
		if err != nil {
			var list iam.Errors
			if !errors.As(err, &list) || len(list) == 0 || p != nil {
				t.Fatalf("got %v, %v", p, err)
			}
			for _, e := range list {
				if e.Msg == "" {
					t.Fatalf("an error without a message at %q", e.Path)
				}
			}
			return
		}
		again, err := iam.Parse([]byte(p.Source), options)
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Fatalf("the source does not compile to the same: %v", err)
		}
		for i := range p.Statements {
			if p.Statements[i].Index != i {
				t.Fatalf("statement %d thinks it is %d", i, p.Statements[i].Index)
			}
		}
		iam.Lint(p, iam.Use{Private: true, Unauthenticated: true})
	})
}
