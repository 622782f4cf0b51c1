// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"strconv"

	"postern.dev/postern/snapshot/operation"
)

// gatewayResponses reads what replaces the answers that the gateway makes.
func (im *importer) gatewayResponses(v value, at string) {
	for m := v.first(); m.ok(); m = m.next() {
		path := at + "." + m.key()
		r := &operation.GatewayResponse{}
		if s := m.get("statusCode"); s.ok() && s.kind() != null {
			n, err := strconv.Atoi(s.text())
			if err != nil || n < 200 || n > 599 {
				im.errorf(path+".statusCode", "%q is no status", s.text())
			}
			r.Status = n
		}
		r.Headers = im.mappings(m.get("responseParameters"), path+".responseParameters", "gatewayresponse.", requestSource)
		r.Templates = im.templates(m.get("responseTemplates"), path+".responseTemplates")
		if im.out.Table.Responses == nil {
			im.out.Table.Responses = map[string]*operation.GatewayResponse{}
		}
		im.out.Table.Responses[string(append([]byte(nil), m.key()...))] = r
	}
}
