// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package validate asks whether a document is valid OpenAPI. That takes
// milliseconds, so it is for documents that are being submitted; compiling them
// is compile/openapi's.
package validate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"

	"postern.dev/postern/compile/openapi"
)

// errOutside is what a reference out of the document answers.
var errOutside = errors.New("references out of the document are not followed")

// Document reports what makes doc, which has any of the forms that
// openapi.Import takes, no valid OpenAPI document. What Import refuses is
// refused here too. Examples and defaults are not held against their schemas.
func Document(ctx context.Context, doc []byte, o openapi.Options) (err error) {
	if _, err := openapi.Import(doc, o); err != nil {
		return err
	}
	text, err := openapi.JSON(doc)
	if err != nil {
		return err
	}
	defer func() {
		// Schemas come from users; a document that upsets the library is refused
		// and takes nothing down.
		if r := recover(); r != nil {
			err = fmt.Errorf("the document cannot be checked: %v", r)
		}
	}()
	l := openapi3.NewLoader()
	l.Context = ctx
	l.IsExternalRefsAllowed = false
	l.ReadFromURIFunc = func(*openapi3.Loader, *url.URL) ([]byte, error) { return nil, errOutside }
	var version struct{ Swagger string }
	if err := json.Unmarshal(text, &version); err != nil {
		return err
	}
	var t *openapi3.T
	if version.Swagger == "" {
		t, err = l.LoadFromData(text)
	} else {
		var two openapi2.T
		if err = json.Unmarshal(text, &two); err == nil {
			t, err = openapi2conv.ToV3WithLoader(&two, l, nil)
		}
	}
	if err != nil {
		return err
	}
	return t.Validate(ctx, openapi3.DisableExamplesValidation(), openapi3.DisableSchemaDefaultsValidation(), openapi3.AllowExtraSiblingFields("description", "summary"))
}
