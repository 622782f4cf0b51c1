// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"postern.dev/postern/client"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/compile/openapi"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/operation"
)

// exampleURL is a URL at which an API is called: its first operation below /
// that is a GET without parameters, on its first Stage. Without a Stage it has none.
func exampleURL(ctx context.Context, c *client.Client, r wire.Resource) (string, error) {
	o, err := object(r)
	if err != nil {
		return "", err
	}
	a, ok := o.(*model.API)
	if !ok || a.Status.Host == "" || a.Spec.DisableExecuteAPIEndpoint {
		return "", nil
	}
	stages, err := c.List(ctx, model.KindStage)
	if err != nil {
		return "", err
	}
	for _, s := range stages {
		if api, stage, _ := strings.Cut(s.Metadata.Name, "."); api == a.Metadata.Name {
			return fmt.Sprintf("https://%s/%s%s", a.Status.Host, stage, examplePath(a)), nil
		}
	}
	return "", nil
}

// examplePath is a path of an API, or / if none can be told.
func examplePath(a *model.API) string {
	doc, err := openapi.Import(a.Spec.OpenAPI, openapi.Options{Backend: a.Spec.Backend, KeyRequired: a.Spec.KeyRequired})
	if err != nil {
		return "/" // what is wrong with it is a condition of the API
	}
	for _, o := range doc.Table.Operations {
		if len(o.Params) == 0 && o.Path != "/" && (o.Method == "GET" || o.Method == operation.Any) {
			return o.Path
		}
	}
	return "/"
}
