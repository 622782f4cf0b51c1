// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Gateway is the service that APIs are published on.
type Gateway struct {
	Head
	Spec GatewaySpec `json:"spec"`
}

// GatewaySpec is what is declared of a Gateway.
type GatewaySpec struct {
	Region           string           `json:"region"`
	NetworkMode      string           `json:"networkMode,omitempty"` // none, external, internal
	Subnet           string           `json:"subnet,omitempty"`
	PrivateAddress   string           `json:"privateAddress,omitempty"`
	Outbound         *GatewayOutbound `json:"outbound,omitempty"`
	PublicAccess     *bool            `json:"publicAccess,omitempty"` // default true
	PublicAddress    string           `json:"publicAddress,omitempty"`
	HTTP             string           `json:"http,omitempty"` // off, redirect, serve
	SecurityGroups   []string         `json:"securityGroups,omitempty"`
	EndpointApproval string           `json:"endpointApproval,omitempty"` // auto, manual
	TrustedProxies   []string         `json:"trustedProxies,omitempty"`
	AccessLog        *AccessLog       `json:"accessLog,omitempty"`
}

// AccessLog says what an access log tells of requests, where the process that
// serves them writes one. What a Stage leaves out is as its Gateway has it.
type AccessLog struct {
	Enabled *bool  `json:"enabled,omitempty"` // default true
	Format  string `json:"format,omitempty"`  // text with $context variables
}

// GatewayOutbound names the delegated Subnet that a Gateway dials from.
type GatewayOutbound struct {
	Subnet string `json:"subnet"`
}

// Endpoint is a private address of a Gateway in a Network.
type Endpoint struct {
	Head
	Spec EndpointSpec `json:"spec"`
}

// EndpointSpec is what is declared of an Endpoint.
type EndpointSpec struct {
	Gateway        string          `json:"gateway"`
	Subnets        []string        `json:"subnets"`
	SecurityGroups []string        `json:"securityGroups,omitempty"`
	PrivateDNS     *bool           `json:"privateDNS,omitempty"` // default true
	Policy         json.RawMessage `json:"policy,omitempty"`     // object or string
	HTTP2          bool            `json:"http2,omitempty"`
}

// API is what a team publishes; a Stage serves a Deployment of it.
type API struct {
	Head
	Spec APISpec `json:"spec"`
}

// API types.
const (
	Edge     = "edge"
	Regional = "regional"
	Private  = "private"
)

// APISpec is what is declared of an API.
type APISpec struct {
	Gateway                   string          `json:"gateway"`
	Type                      string          `json:"type"`             // edge, regional, private
	OpenAPI                   json.RawMessage `json:"openapi"`          // object, or string (a document or example:petstore)
	Path                      string          `json:"path,omitempty"`   // base path on the Gateway's own host name
	Stage                     string          `json:"stage,omitempty"`  // the Stage served there
	Policy                    json.RawMessage `json:"policy,omitempty"` // object or string
	Endpoints                 []string        `json:"endpoints,omitempty"`
	Backend                   string          `json:"backend,omitempty"`
	KeyRequired               bool            `json:"keyRequired,omitempty"`
	DisableExecuteAPIEndpoint bool            `json:"disableExecuteApiEndpoint,omitempty"`
	Plugins                   json.RawMessage `json:"plugins,omitempty"`
}

// Deployment is an immutable copy of an API as it was. Its name is API.number.
type Deployment struct {
	Head
	Spec DeploymentSpec `json:"spec"`
}

// DeploymentSpec is the copy.
type DeploymentSpec struct {
	API    string  `json:"api"`
	Number int     `json:"number"`
	Spec   APISpec `json:"spec"`
}

// Stage serves one Deployment under a name. Its name is API.stage.
type Stage struct {
	Head
	Spec StageSpec `json:"spec"`
}

// StageSpec is what is declared of a Stage.
type StageSpec struct {
	Deployment DeploymentRef     `json:"deployment,omitempty"`
	AutoDeploy bool              `json:"autoDeploy,omitempty"`
	Variables  map[string]string `json:"variables,omitempty"`
	Throttle   *Throttle         `json:"throttle,omitempty"`
	Canary     json.RawMessage   `json:"canary,omitempty"`
	AccessLog  *AccessLog        `json:"accessLog,omitempty"`
}

// Latest is the DeploymentRef that follows the newest Deployment.
const Latest DeploymentRef = "latest"

// DeploymentRef is a Deployment's number, Latest, or empty.
type DeploymentRef string

// Number returns the number that d names, if it names one.
func (d DeploymentRef) Number() (n int, ok bool) {
	n, err := strconv.Atoi(string(d))
	return n, err == nil
}

// MarshalJSON writes a number as a number.
func (d DeploymentRef) MarshalJSON() ([]byte, error) {
	if n, ok := d.Number(); ok {
		return strconv.AppendInt(nil, int64(n), 10), nil
	}
	return json.Marshal(string(d))
}

// UnmarshalJSON takes a number, or text that is one, or latest.
func (d *DeploymentRef) UnmarshalJSON(b []byte) error {
	s := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	if n, err := strconv.Atoi(s); s != "" && s != string(Latest) && (err != nil || n < 1) {
		return fmt.Errorf("want the number of a Deployment or latest, got %s", b)
	}
	*d = DeploymentRef(s)
	return nil
}

// Throttle is a token bucket: Rate tokens a second, Burst at most.
type Throttle struct {
	Rate  float64 `json:"rate"`
	Burst int     `json:"burst"`
}

// Domain is a host name of one's own in front of APIs. Its name is the host
// name; a first label "*" stands for any one label.
type Domain struct {
	Head
	Spec DomainSpec `json:"spec"`
}

// DomainSpec is what is declared of a Domain.
type DomainSpec struct {
	Type      string          `json:"type"`
	Mappings  []Mapping       `json:"mappings"`
	TLS       *DomainTLS      `json:"tls,omitempty"`
	ClientCA  *ClientCA       `json:"clientCA,omitempty"`
	Endpoints []string        `json:"endpoints,omitempty"`
	Policy    json.RawMessage `json:"policy,omitempty"`
}

// Mapping sends the paths below Path to a Stage of an API.
type Mapping struct {
	Path  string `json:"path,omitempty"`
	API   string `json:"api"`
	Stage string `json:"stage"` // short name
}

// DomainTLS is a given certificate, or how to get one.
type DomainTLS struct {
	Certificate string      `json:"certificate,omitempty"`
	Key         Secret      `json:"key,omitzero"`
	ACME        *DomainACME `json:"acme,omitempty"`
}

// DomainACME is how a certificate is obtained (RFC 8555).
type DomainACME struct {
	Directory  string   `json:"directory,omitempty"`
	Email      string   `json:"email,omitempty"`
	Challenges []string `json:"challenges,omitempty"` // http-01, tls-alpn-01
	Roots      string   `json:"roots,omitempty"`      // PEM
}

// Modes of a ClientCA.
const (
	ClientOptional = "optional"
	ClientRequired = "required"
)

// ClientCA says which client certificates a Domain takes.
type ClientCA struct {
	Bundle string `json:"bundle"`
	Mode   string `json:"mode"` // optional, required
}

// Backend is a set of targets that operations are sent to.
type Backend struct {
	Head
	Spec BackendSpec `json:"spec"`
}

// BackendSpec is what is declared of a Backend.
type BackendSpec struct {
	Targets        []Target        `json:"targets"`
	Protocol       string          `json:"protocol,omitempty"` // http, https, h2c, grpc
	Network        string          `json:"network,omitempty"`
	LoadBalancing  string          `json:"loadBalancing,omitempty"`
	Health         *BackendHealth  `json:"health,omitempty"`
	Retries        json.RawMessage `json:"retries,omitempty"`
	Timeout        string          `json:"timeout,omitempty" unit:"s"`
	CircuitBreaker json.RawMessage `json:"circuitBreaker,omitempty"`
}

// Target is one address of a Backend.
type Target struct {
	Host   string `json:"host"`
	Port   int    `json:"port"`
	Weight int    `json:"weight,omitempty"`
	TLS    bool   `json:"tls,omitempty"`
}

// Kind returns KindGateway.
func (*Gateway) Kind() Kind { return KindGateway }

// Kind returns KindEndpoint.
func (*Endpoint) Kind() Kind { return KindEndpoint }

// Kind returns KindAPI.
func (*API) Kind() Kind { return KindAPI }

// Kind returns KindDeployment.
func (*Deployment) Kind() Kind { return KindDeployment }

// Kind returns KindStage.
func (*Stage) Kind() Kind { return KindStage }

// Kind returns KindDomain.
func (*Domain) Kind() Kind { return KindDomain }

// Kind returns KindBackend.
func (*Backend) Kind() Kind { return KindBackend }
