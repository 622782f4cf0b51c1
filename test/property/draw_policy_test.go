// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"encoding/json"
)

type object = map[string]any

// policy draws an IAM policy. Most of them let something through.
func (d *draw) policy(api string) json.RawMessage {
	var list []any
	if !d.one(4) {
		list = append(list, object{"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": pick(d, "*", "execute-api:/*", "execute-api:/*/*/*", "execute-api:/prod/*")})
	}
	for range d.IntN(3) {
		list = append(list, d.statement(api))
	}
	if len(list) == 0 {
		list = append(list, d.statement(api))
	}
	d.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	doc := object{"Version": "2012-10-17", "Statement": list}
	if d.one(8) {
		return raw(string(raw(doc))) // as text
	}
	return raw(doc)
}

func (d *draw) statement(api string) object {
	s := object{"Effect": pick(d, "Allow", "Deny"), "Principal": pick[any](d, "*", object{"AWS": "*"})}
	action, resource := "Action", "Resource"
	if d.one(12) {
		action = "NotAction"
		s[action] = pick(d, "execute-api:ManageConnections", "execute-api:Invoke")
	} else {
		s[action] = pick(d, "execute-api:Invoke", "execute-api:Invoke", "execute-api:*", "*", "execute-api:inv?ke")
	}
	if d.one(10) {
		resource = "NotResource"
	}
	which := []string{
		"*", "execute-api:/*", "execute-api:/*/*/*", "execute-api:/prod/*", "execute-api:/test/*/*", "execute-api:/*/GET/*", "execute-api:/*/POST/pets",
		"execute-api:/prod/GET/pets", "execute-api:/*/*/pets/*", "execute-api:/prod/GET/pets/?", "execute-api:/*/GET/", "arn:aws:execute-api:*:*:*",
		"arn:aws:execute-api:eu-1:000000000000:*/prod/*",
	}
	if api != "" {
		which = append(which, "arn:aws:execute-api:eu-1:000000000000:${API/"+api+".id}/*", "arn:aws:execute-api:eu-1:000000000000:${API/"+api+".id}/*/GET/pets")
	}
	s[resource] = pick(d, which...)
	if d.one(5) {
		s[resource] = []string{pick(d, which...), pick(d, which...)}
	}
	if !d.one(4) {
		c := object{}
		for range 1 + d.IntN(2) {
			op, key, values := d.condition()
			if c[op] == nil {
				c[op] = object{}
			}
			c[op].(object)[key] = values
		}
		s["Condition"] = c
	}
	return s
}

// condition draws one condition.
func (d *draw) condition() (op, key string, values any) {
	var endpoints, networks, hosts, links, vpcs []string
	for _, e := range d.endpoints {
		endpoints = append(endpoints, e.Metadata.Name)
	}
	for _, n := range d.networks {
		networks = append(networks, n.Metadata.Name)
		vpcs = append(vpcs, "${Network/"+n.Metadata.Name+".id}")
	}
	for _, h := range d.hosts {
		hosts = append(hosts, h.Metadata.Name)
	}
	for _, l := range d.links {
		links = append(links, l.Metadata.Name)
	}
	one := func(list []string, or string) any {
		if len(list) == 0 || d.one(8) {
			return or
		}
		if d.one(5) {
			return []string{pick(d, list...), pick(d, list...)}
		}
		return pick(d, list...)
	}
	text := func() string {
		return pick(d, "StringEquals", "StringEquals", "StringNotEquals", "StringNotEquals", "StringLike", "StringNotLike", "StringEqualsIfExists", "StringNotEqualsIfExists", "StringEqualsIgnoreCase", "ForAnyValue:StringEquals", "ForAllValues:StringLike")
	}
	address := func() string {
		return pick(d, "IpAddress", "NotIpAddress", "IpAddressIfExists", "NotIpAddressIfExists")
	}
	switch d.IntN(14) {
	case 12:
		return text(), "postern:ClientCertSubject", pick[any](d, "CN=alice", "CN=*", subjects)
	case 13:
		return text(), "postern:SourceGateway", pick(d, "gw0", "gw*")
	case 0, 1, 2:
		var ids []string
		for _, e := range endpoints {
			ids = append(ids, "${Endpoint/"+e+".id}")
		}
		return text(), pick(d, "aws:SourceVpce", "aws:sourceVpce"), one(ids, "vpce-*")
	case 3, 4:
		return address(), "aws:SourceIp", pick[any](d, "203.0.113.0/24", "198.18.0.0/15", "203.0.113.10", []string{"198.51.100.0/24", "8.8.4.4/32"}, "0.0.0.0/0")
	case 5:
		return address(), "aws:VpcSourceIp", pick[any](d, "10.1.0.0/16", "10.0.0.0/8", "192.168.9.0/24", []string{"10.1.1.4/32", "10.2.0.0/16"}, "fd00::/16")
	case 6:
		return text(), "postern:SourceHost", one(hosts, "h*")
	case 7:
		return text(), pick(d, "postern:SourceNetwork", "postern:SourceEndpoint", "postern:SourceLink"), one(append(append(append([]string{}, networks...), endpoints...), links...), "*0")
	case 8:
		return pick(d, "Bool", "BoolIfExists"), "aws:SecureTransport", pick(d, "true", "false")
	case 9:
		return pick(d, "StringLike", "StringNotLike", "StringEquals"), pick(d, "aws:UserAgent", "aws:Referer"), pick(d, "curl/*", "*", "https://a.example/")
	case 10:
		return "Null", pick(d, "aws:SourceVpce", "aws:SourceIp", "postern:SourceHost", "aws:UserAgent", "postern:SourceEndpoint"), pick(d, "true", "false")
	default:
		return text(), "aws:SourceVpc", one(vpcs, "vpc-?*")
	}
}

// document draws an OpenAPI document.
func (d *draw) document() json.RawMessage {
	if d.one(2) {
		return raw("example:petstore")
	}
	mock := func(status string, body string) object {
		return object{"responses": object{status: object{"description": "x"}}, "x-amazon-apigateway-integration": object{
			"type": "mock", "requestTemplates": object{"application/json": `{"statusCode": ` + status + `}`},
			"responses": object{status: object{"statusCode": status, "responseTemplates": object{"application/json": body}}},
		}}
	}
	proxy := func(uri string) object {
		return object{"responses": object{"200": object{"description": "x"}}, "x-amazon-apigateway-integration": object{"type": "http_proxy", "httpMethod": pick(d, "ANY", "GET"), "uri": uri}}
	}
	none := object{"responses": object{"200": object{"description": "x"}}}
	answers := func() object {
		switch d.IntN(14) {
		case 7, 8, 9, 10, 11:
			return proxy("backend://" + pick(d, d.backends...).Metadata.Name + pick(d, "", "/", "/v1"))
		case 0:
			return none
		case 1, 2, 3:
			return proxy("http://" + openBackend + pick(d, "/", "/base", "/base?x=1"))
		case 4:
			return proxy("http://" + closedBackend + "/")
		case 5:
			return proxy("http://" + pick(d, "10.99.0.1:8080", "127.0.0.2:8080", "169.254.169.254", "192.0.2.7") + "/")
		case 6:
			return proxy("http://${stageVariables.backend}/v")
		}
		return mock(pick(d, "200", "201", "404"), pick(d, `{"stage":"$context.stage"}`, `{"color":"$stageVariables.color"}`, "{}"))
	}
	paths := object{"/pets": object{"get": answers(), "post": answers()}}
	if d.one(2) {
		paths["/pets/{id}"] = object{"get": answers()}
	}
	if d.one(3) {
		paths["/"] = object{"get": answers()}
	}
	if d.one(3) {
		paths["/any/{proxy+}"] = object{"x-amazon-apigateway-any-method": answers()}
	}
	doc := object{"openapi": "3.0.1", "info": object{"title": "drawn", "version": "1"}, "paths": paths}
	if d.one(5) {
		doc["servers"] = []any{object{"url": "http://" + openBackend + "/server"}}
	}
	for _, p := range []string{"/pets/{id}", "/any/{proxy+}"} {
		if o, ok := paths[p].(object); ok {
			name := "id"
			if p != "/pets/{id}" {
				name = "proxy"
			}
			o["parameters"] = []any{object{"name": name, "in": "path", "required": true, "schema": object{"type": "string"}}}
		}
	}
	if d.one(6) {
		return raw(string(raw(doc)))
	}
	return raw(doc)
}
