// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"strings"
	"time"
)

// SelfHostedGateway is a gateway that runs next to backends, in a process of its
// own, and serves the APIs that it is assigned.
type SelfHostedGateway struct {
	Head
	Spec SelfHostedGatewaySpec `json:"spec"`
}

// SelfHostedGatewaySpec is what is declared of a SelfHostedGateway.
type SelfHostedGatewaySpec struct {
	Gateway  string   `json:"gateway"`
	Attach   string   `json:"attach,omitempty"` // host/NAME, link/NAME; empty for the internet
	Location string   `json:"location,omitempty"`
	APIs     []string `json:"apis,omitempty"`
}

// Instance is one process of a SelfHostedGateway, as it told of itself.
type Instance struct {
	Name     string `json:"name"`
	Version  string `json:"version,omitempty"`
	Protocol string `json:"protocol,omitempty"` // v1, v2
	// Endpoint is the host name and port of the Gateway that it called; address
	// if it called by none.
	Endpoint string `json:"endpoint,omitempty"`
	// Connected tells that a stream to it is open or, by protocol v1, that it
	// was heard of within three heartbeats; Offline that three were missed.
	Connected bool `json:"connected,omitempty"`
	Offline   bool `json:"offline,omitempty"`
	// Revision is what it serves, Age for how many seconds that was not
	// confirmed; Current that this is what it is assigned.
	Revision int64 `json:"revision,omitempty"`
	Age      int64 `json:"age,omitempty"`
	Current  bool  `json:"current,omitempty"`
	// Seen is when it was last heard of.
	Seen   time.Time `json:"seen,omitzero"`
	Source string    `json:"source,omitempty"` // plane, backup, sibling
	// LastError is what went wrong last, ErrorSeen when the management plane
	// first heard of that; Recovered that it has served what it is assigned
	// since.
	LastError string    `json:"lastError,omitempty"`
	ErrorSeen time.Time `json:"errorSeen,omitzero"`
	Recovered bool      `json:"recovered,omitempty"`
}

// Kind returns KindSelfHosted.
func (*SelfHostedGateway) Kind() Kind { return KindSelfHosted }

// Attached returns the Host or Link that the gateway stands at; ok is false for
// the internet, and for what names neither.
func (g *SelfHostedGateway) Attached() (r Ref, ok bool) {
	switch kind, name, _ := strings.Cut(g.Spec.Attach, "/"); {
	case name == "":
	case kind == "host":
		return Ref{KindHost, name}, true
	case kind == "link":
		return Ref{KindLink, name}, true
	}
	return Ref{}, false
}

// managedName is that of the managed gateway, as Azure has it.
const managedName = "managed"

func (c *check) selfHosted(g *SelfHostedGateway) {
	s := &g.Spec
	if g.Metadata.Name == managedName {
		c.fail("metadata.name", "%q is the managed gateway; choose another name", managedName)
	}
	c.required("spec.gateway", s.Gateway, "name the Gateway that it gets its configuration from")
	if _, ok := g.Attached(); !ok && s.Attach != "" {
		c.fail("spec.attach", "%q is neither host/NAME nor link/NAME; write one of these, or leave it out for the internet", s.Attach)
	}
	if len(s.Location) > 253 {
		c.fail("spec.location", "is longer than 253 characters")
	}
	c.unique("spec.apis", s.APIs)
	for i, n := range s.APIs {
		if a, ok := Get[*API](c.s, n); ok && a.Spec.Gateway != s.Gateway {
			c.fail(fmt.Sprintf("spec.apis[%d]", i), "API %q is on Gateway %q, not on %q; assign APIs of one Gateway, or make a SelfHostedGateway for each", n, a.Spec.Gateway, s.Gateway)
		}
	}
}
