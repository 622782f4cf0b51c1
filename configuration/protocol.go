// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package configuration

import (
	"net/url"
	"strings"
	"time"
)

// Protocol v2: a request to Path with Upgrade: Upgrade is answered 101, then
// frames go both ways.
const (
	Path    = "/v2/configuration"
	Upgrade = "postern-configuration/2"
)

// Headers of both protocols.
const (
	// Scheme begins the Authorization header: GatewayKey TOKEN, where TOKEN is
	// NAME&yyyyMMddHHmm&SIGNATURE.
	Scheme = "GatewayKey"
	// HeaderInstance names the instance.
	HeaderInstance = "X-Postern-Instance"
	// HeaderRevision and HeaderHash are what the gateway has: where to resume.
	HeaderRevision = "X-Postern-Revision"
	HeaderHash     = "X-Postern-Hash"
	// HeaderExpires is, in answers, when the token ends (RFC 3339), and
	// HeaderWarning a sentence when that is near.
	HeaderExpires = "X-Postern-Token-Expires"
	HeaderWarning = "X-Postern-Token-Warning"
	// HeaderRefuse is, in answers that refuse, the code of Refuse.
	HeaderRefuse = "X-Postern-Refuse"
)

// Enrolment is how a gateway gets a client certificate, as the alternative to a
// token: it makes a key, and sends a certificate request for it to EnrolPath by
// POST, as Enrol. The first time it shows a one-time enrolment in the header
// Authorization, EnrolScheme VALUE; to renew it shows its certificate in the
// handshake, also one that has ended not long ago. A certificate in the
// handshake, without the header Authorization, opens both protocols.
const (
	EnrolPath   = "/v2/enrolment"
	EnrolScheme = "GatewayEnrolment"
)

// Enrol is what a gateway sends to be enrolled.
type Enrol struct {
	// Request is a certificate request (PKCS #10) in PEM. Of what it asks for its
	// key alone is taken.
	Request string `json:"request"`
}

// Enrolled answers it.
type Enrolled struct {
	// Name is the SelfHostedGateway.
	Name string `json:"name"`
	// Certificate is in PEM.
	Certificate string    `json:"certificate"`
	Expires     time.Time `json:"expires"`
	// Renew is when the gateway is to ask for the next one.
	Renew time.Time `json:"renew"`
}

// Times of both protocols.
const (
	// PingEvery is how often the management plane asks a stream for a sign of
	// life. A side that heard nothing for three times as long hangs up.
	PingEvery = 30 * time.Second
	// HeartbeatEvery is how often a gateway tells how it is. After three that
	// were missed it counts as offline.
	HeartbeatEvery = time.Minute
	// PollEvery is how often protocol v1 asks for the configuration.
	PollEvery = 10 * time.Second
)

// APIVersion is the api-version that protocol v1's settings carry.
const APIVersion = "2021-01-01-preview"

// ResourcePath is protocol v1's path of a Gateway, as config.service.endpoint
// has it. Any subscription and resource group are taken.
func ResourcePath(subscription, group, gateway string) string {
	return "/subscriptions/" + url.PathEscape(subscription) + "/resourceGroups/" + url.PathEscape(group) +
		"/providers/Microsoft.ApiManagement/service/" + url.PathEscape(gateway)
}

// ConfigurationPath and HeartbeatPath are where protocol v1 finds both, below
// the path of config.service.endpoint. With an empty name the token tells whose.
func ConfigurationPath(resource, name string) string { return below(resource, name) + "/configuration" }

// HeartbeatPath is as ConfigurationPath; it is sent to by POST.
func HeartbeatPath(resource, name string) string { return below(resource, name) + "/heartbeat" }

func below(resource, name string) string {
	resource = strings.TrimSuffix(resource, "/")
	if name == "" {
		return resource
	}
	return resource + "/gateways/" + url.PathEscape(name)
}
