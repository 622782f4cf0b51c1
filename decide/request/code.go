// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"postern.dev/postern/decide/limit"
	"postern.dev/postern/decide/operation"
)

// The codes of this package's steps. The family before the slash is the layer.
const (
	CodeAccepted        = "listen/accepted"
	CodePublicAccessOff = "listen/public-access-off"

	CodeTLS         = "tls/ok"
	CodeUnknownName = "tls/unknown-name"
	CodeClientCert  = "tls/client-cert"
	// CodeExpired is a certificate that was given for a Domain and whose time is
	// over, or not come.
	CodeExpired = "tls/expired"

	CodeHostUnknown = "host/unknown"

	CodeAPIFound      = "api/found"
	CodeAPIIDMissing  = "api/id-missing"
	CodeAPIIDUnknown  = "api/id-unknown"
	CodeAPINotPrivate = "api/not-private"

	CodeStageFound       = "stage/found"
	CodeStageMissing     = "stage/missing"
	CodeStageNotDeployed = "stage/not-deployed"
	CodeStageStale       = "stage/stale"

	CodeEndpointAccepted      = "endpoint/accepted"
	CodeEndpointPolicyDeny    = "endpoint/policy-deny"
	CodeEndpointPolicyNoAllow = "endpoint/policy-no-allow"

	CodeMethodFound   = operation.CodeFound
	CodeMethodUnknown = operation.CodeUnknown

	CodePolicyAllow   = "policy/allow"
	CodePolicyDeny    = "policy/explicit-deny"
	CodePolicyNoAllow = "policy/no-allow"
	CodePolicyAbsent  = "policy/absent"

	CodeKeyOK      = "auth/ok"
	CodeKeyMissing = "auth/key-missing"
	CodeKeyUnknown = "auth/key-unknown"

	CodeLimitOK   = limit.CodeOK
	CodeThrottled = limit.CodeThrottled
	CodeQuota     = limit.CodeQuota
)

// Notes say more than a code where one code has several causes. They are
// written for the end of a sentence.
const (
	NoteHostElsewhere   = "the name is not served at this address"
	NoteOtherEndpoint   = "the name belongs to another Endpoint"
	NotePrivateHost     = "private APIs are served at Endpoints only"
	NotePublicDomain    = "the Domain is not private, so no Endpoint serves it"
	NoteNotAssociated   = "the Domain does not list this Endpoint"
	NoteDisabled        = "the deployed API has disableExecuteApiEndpoint"
	NoteOtherGateway    = "the API is another Gateway's"
	NoteNoPath          = "no API has this path"
	NoteNoMapping       = "no mapping of the Domain has this path"
	NoteNoStageInPath   = "the path names no Stage"
	NoteAssumedStage    = "judged as if the path named the API's only Stage"
	NoteMethodOnly      = "the path is served, but not for this method"
	NoteOpen            = "a public API without a policy is open"
	NoteLongARN         = "the name of what was asked for has more than 1600 bytes, which no policy can allow"
	NoteNeedsPolicy     = "a private API without a policy answers nobody"
	NoteOtherProduct    = "it is a key of a Product that does not have the API"
	NoteRepeatedKey     = "there is more than one"
	NoteNotYetValid     = "its time has not come"
	NoteNoServerName    = "the caller named no server in the handshake"
	NoteNoClientCert    = "the Domain requires a client certificate of its own authorities, and none was shown"
	NoteNotVouched      = "the Domain's authorities do not vouch for the certificate that is shown"
	NoteOtherHandshake  = "the Domain requires a client certificate of its own authorities, which is shown in a handshake that names the Domain"
	NoteDefaultIdentity = "the certificate presented is for the execute-api names"
)
