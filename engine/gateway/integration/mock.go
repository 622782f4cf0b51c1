// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"errors"
	"fmt"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/snapshot/operation"
)

// mock answers from templates: the request's gives a status code, which selects
// the response.
func mock(j *Job, in *operation.Integration) (string, *request.Response) {
	if err := j.mock(in); err != nil {
		j.Failed = err
		if errors.Is(err, errUnsupported) {
			return CodeOK, &request.UnsupportedMediaType
		}
		return CodeNone, &request.ConfigurationError
	}
	return CodeOK, nil
}

func (j *Job) mock(in *operation.Integration) error {
	e := j.Exchange
	t := template(in.RequestTemplates, mediaType(e.Request.Header.Get("Content-Type")))
	if t == nil {
		if len(in.RequestTemplates) > 0 && in.Passthrough != operation.WhenNoMatch {
			return errUnsupported
		}
		return errors.New("no request template says which statusCode the answer has")
	}
	text, err := j.render(nil, t, nil)
	if err != nil {
		return err
	}
	var said struct {
		StatusCode int `json:"statusCode"`
	}
	if err := json.Unmarshal(text, &said); err != nil || said.StatusCode == 0 {
		return fmt.Errorf(`the request template gave %.100q, and not {"statusCode": N}`, text)
	}
	res := choose(in, said.StatusCode)
	if res == nil {
		return fmt.Errorf("no response is defined for status %d, and no default", said.StatusCode)
	}
	contentType, body := "application/json", []byte(nil)
	if m := accepted(res.Templates, e.Request.Header.Get("Accept")); m != nil {
		if body, err = j.render(nil, &m.Template, nil); err != nil {
			return err
		}
		contentType = m.Type
	}
	fields := []exchange.Field{{Name: "Content-Type", Value: contentType}}
	for i := range res.Headers {
		m := &res.Headers[i]
		if m.From == operation.PlaceHeader || m.From == operation.PlaceMultiHeader || m.From == operation.PlaceBody {
			continue // there is no backend that could have sent it
		}
		v, ok, err := j.value(m.From, m.Source)
		if err != nil {
			return err
		}
		if ok {
			fields = append(fields, exchange.Field{Name: m.Name, Value: v})
		}
	}
	e.Reply(res.Status, fields, body)
	return nil
}
