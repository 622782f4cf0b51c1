// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package accesslog

import (
	"slices"
	"strings"
)

// Variable is something that a line of the log can tell of a request.
type Variable uint8

// The variables. None is what AWS knows and nothing here stands for.
const (
	None Variable = iota
	AccountID
	APIID
	BasePathMatched
	DomainName
	DomainPrefix
	ErrorMessage
	ErrorMessageString
	ErrorResponseType
	ExtendedRequestID
	HTTPMethod
	APIKeyID
	ClientCertSubject
	ClientCertIssuer
	ClientCertSerial
	ClientCertNotBefore
	ClientCertNotAfter
	SourceIP
	UserAgent
	VPCID
	VPCEID
	IntegrationError
	IntegrationLatency
	IntegrationStatus
	Path
	Protocol
	RequestID
	RequestTime
	RequestTimeEpoch
	ResourceID
	ResourcePath
	ResponseLatency
	ResponseLength
	Stage
	Status
	TraceHeader
	// Those that only Postern has.
	Gateway
	API
	Backend
	Caller
	Code
	Revision
	TraceID
)

// names are the variables as formats write them, without "$context.".
var names = map[string]Variable{
	"accountId":                              AccountID,
	"apiId":                                  APIID,
	"authenticate.error":                     None,
	"authenticate.latency":                   None,
	"authenticate.status":                    None,
	"authorize.error":                        None,
	"authorize.latency":                      None,
	"authorize.status":                       None,
	"authorizer.error":                       None,
	"authorizer.integrationLatency":          None,
	"authorizer.integrationStatus":           None,
	"authorizer.latency":                     None,
	"authorizer.principalId":                 None,
	"authorizer.requestId":                   None,
	"authorizer.status":                      None,
	"awsEndpointRequestId":                   None,
	"customDomain.basePathMatched":           BasePathMatched,
	"domainName":                             DomainName,
	"domainPrefix":                           DomainPrefix,
	"error.message":                          ErrorMessage,
	"error.messageString":                    ErrorMessageString,
	"error.responseType":                     ErrorResponseType,
	"error.validationErrorString":            None,
	"extendedRequestId":                      ExtendedRequestID,
	"httpMethod":                             HTTPMethod,
	"identity.accountId":                     None,
	"identity.apiKeyId":                      APIKeyID,
	"identity.caller":                        None,
	"identity.clientCert.clientCertPem":      None,
	"identity.clientCert.subjectDN":          ClientCertSubject,
	"identity.clientCert.issuerDN":           ClientCertIssuer,
	"identity.clientCert.serialNumber":       ClientCertSerial,
	"identity.clientCert.validity.notBefore": ClientCertNotBefore,
	"identity.clientCert.validity.notAfter":  ClientCertNotAfter,
	"identity.principalOrgId":                None,
	"identity.sourceIp":                      SourceIP,
	"identity.user":                          None,
	"identity.userAgent":                     UserAgent,
	"identity.userArn":                       None,
	"identity.vpcId":                         VPCID,
	"identity.vpceId":                        VPCEID,
	"integration.error":                      IntegrationError,
	"integration.integrationStatus":          None,
	"integration.latency":                    IntegrationLatency,
	"integration.requestId":                  None,
	"integration.status":                     IntegrationStatus,
	"integrationErrorMessage":                IntegrationError,
	"integrationLatency":                     IntegrationLatency,
	"path":                                   Path,
	"protocol":                               Protocol,
	"requestId":                              RequestID,
	"requestTime":                            RequestTime,
	"requestTimeEpoch":                       RequestTimeEpoch,
	"resourceId":                             ResourceID,
	"resourcePath":                           ResourcePath,
	"responseLatency":                        ResponseLatency,
	"responseLength":                         ResponseLength,
	"stage":                                  Stage,
	"status":                                 Status,
	"waf.error":                              None,
	"waf.latency":                            None,
	"waf.status":                             None,
	"wafResponseCode":                        None,
	"webaclArn":                              None,
	"xrayTraceId":                            TraceHeader,

	"postern.api":      API,
	"postern.backend":  Backend,
	"postern.caller":   Caller,
	"postern.code":     Code,
	"postern.gateway":  Gateway,
	"postern.revision": Revision,
	"postern.traceId":  TraceID,
}

// refused are variables of AWS that have no place in a log, and why.
var refused = map[string]string{
	"identity.apiKey":  "is a secret, which no log gets; $context.identity.apiKeyId tells which key it was",
	"requestOverride":  "is for mapping templates, not for logs",
	"responseOverride": "is for mapping templates, not for logs",
}

// Names lists every variable that a format may have, sorted, without "$context.".
// What an authorizer gives is beside them: authorizer.NAME, authorizer.claims.NAME.
func Names() []string {
	out := make([]string, 0, len(names))
	for n := range names {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// lookup finds a variable by its name.
func lookup(name string) (Variable, bool) {
	if v, ok := names[name]; ok {
		return v, true
	}
	if rest, ok := strings.CutPrefix(name, "authorizer."); ok {
		rest = strings.TrimPrefix(rest, "claims.")
		return None, rest != "" && !strings.Contains(rest, ".")
	}
	return None, false
}

// Number reports whether the variable is a number or nothing.
func (v Variable) Number() bool {
	switch v {
	case IntegrationLatency, IntegrationStatus, RequestTimeEpoch, ResponseLatency, ResponseLength, Revision, Status:
		return true
	}
	return false
}
