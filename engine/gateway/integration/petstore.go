// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"strconv"

	"postern.dev/postern/engine/gateway/exchange"
)

// pet is an animal of the example API.
type pet struct {
	ID    int     `json:"id"`
	Type  string  `json:"type"`
	Price float64 `json:"price"`
}

// pets are all there are, three to a page.
var pets = []pet{
	{1, "dog", 249.99},
	{2, "cat", 124.99},
	{3, "fish", 0.99},
	{4, "bird", 29.5},
	{5, "gecko", 19.95},
	{6, "dog", 399},
}

const pageSize = 3

const welcome = `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>PetStore</title></head>
<body>
<h1>The pet store is open</h1>
<p>This API answers by itself, so that you can try how callers reach it. Ask for <a href="pets">/pets</a>,
for one kind of animal with <code>/pets?type=cat</code>, or for a single one with <code>/pets/1</code>.</p>
</body>
</html>
`

var (
	typeHTML = []exchange.Field{{Name: "Content-Type", Value: "text/html; charset=utf-8"}}
	typeJSON = []exchange.Field{{Name: "Content-Type", Value: "application/json"}, {Name: "Access-Control-Allow-Origin", Value: "*"}}
)

// petstore answers an operation of the example API.
func petstore(j *Job) {
	e, op := j.Exchange, j.Verdict.Operation()
	switch {
	case op.Path == "/":
		e.Reply(200, typeHTML, []byte(welcome))
	case op.Method == "POST":
		offered(j)
	case len(op.Params) > 0:
		id, _ := j.Verdict.Route.Param(j.Verdict.Path, op.Params[0])
		for i := range pets {
			if strconv.Itoa(pets[i].ID) == id {
				reply(e, 200, pets[i])
				return
			}
		}
		reply(e, 404, map[string]string{"message": "No pet has the id " + id})
	default:
		listed(j)
	}
}

// listed answers one page of the animals, of one kind if asked.
func listed(j *Job) {
	kind, only := query(j.Exchange.Request.RawQuery, "type", false)
	page := 1
	if p, ok := query(j.Exchange.Request.RawQuery, "page", false); ok {
		if n, err := strconv.Atoi(p); err == nil && n > 0 && n < 1000 {
			page = n
		}
	}
	match := []pet{}
	for _, p := range pets {
		if !only || kind == "" || p.Type == kind {
			match = append(match, p)
		}
	}
	from := min((page-1)*pageSize, len(match))
	reply(j.Exchange, 200, match[from:min(from+pageSize, len(match))])
}

// offered answers a new animal with what was understood of it.
func offered(j *Job) {
	body, err := j.incoming()
	var p pet
	if err == nil {
		err = json.Unmarshal(body, &p)
	}
	if err != nil || p.Type == "" {
		reply(j.Exchange, 400, map[string]string{"message": `A pet is written {"type": "cat", "price": 12.5}`})
		return
	}
	if p.ID == 0 {
		p.ID = len(pets) + 1
	}
	reply(j.Exchange, 200, map[string]any{"pet": p, "message": "success"})
}

func reply(e *exchange.Exchange, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // numbers and texts always have a JSON form
		panic(err)
	}
	e.Reply(status, typeJSON, b)
}
