// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"net/netip"
	"strings"

	"postern.dev/postern/decide/iam"
)

// ResponseType names an answer that the gateway makes itself, as the keys of
// x-amazon-apigateway-gateway-responses do.
type ResponseType string

// The types that this build answers with.
const (
	AccessDenied        ResponseType = "ACCESS_DENIED"
	APIConfiguration    ResponseType = "API_CONFIGURATION_ERROR"
	IntegrationFailure  ResponseType = "INTEGRATION_FAILURE"
	IntegrationTimeout  ResponseType = "INTEGRATION_TIMEOUT"
	InvalidAPIKey       ResponseType = "INVALID_API_KEY"
	Throttled           ResponseType = "THROTTLED"
	QuotaExceeded       ResponseType = "QUOTA_EXCEEDED"
	MissingToken        ResponseType = "MISSING_AUTHENTICATION_TOKEN"
	UnsupportedMedia    ResponseType = "UNSUPPORTED_MEDIA_TYPE"
	RequestTooLarge     ResponseType = "REQUEST_TOO_LARGE"
	none                ResponseType = ""
	contentJSON                      = "application/json"
	errorForbidden                   = "ForbiddenException"
	errorAccessDenied                = "AccessDeniedException"
	errorMissingToken                = "MissingAuthenticationTokenException"
	errorInternal                    = "InternalServerErrorException"
	errorUnavailable                 = "ServiceUnavailableException"
	errorBadRequest                  = "BadRequestException"
	errorRequestTooLong              = "RequestTooLargeException"
)

// Response is an answer that the gateway makes itself.
type Response struct {
	Status int
	// Type selects what the API may replace the answer with; empty if nothing.
	Type ResponseType
	// ErrorType is the field x-amzn-ErrorType.
	ErrorType   string
	ContentType string
	// Location is the field Location.
	Location string
	// Message is the text within Body.
	Message string
	Body    string
	// Fields are further ones, as the API wants them.
	Fields []Field
}

// The answers without any variable part.
var (
	invalidKey   = Response{Status: 403, Type: InvalidAPIKey, ErrorType: errorForbidden, ContentType: contentJSON, Message: "Forbidden", Body: `{"message":"Forbidden"}`}
	missingToken = Response{Status: 403, Type: MissingToken, ErrorType: errorMissingToken, ContentType: contentJSON, Message: "Missing Authentication Token", Body: `{"message":"Missing Authentication Token"}`}

	throttled     = Response{Status: 429, Type: Throttled, ErrorType: "TooManyRequestsException", ContentType: contentJSON, Message: "Too Many Requests", Body: `{"message":"Too Many Requests"}`}
	quotaExceeded = Response{Status: 429, Type: QuotaExceeded, ErrorType: "LimitExceededException", ContentType: contentJSON, Message: "Limit Exceeded", Body: `{"message":"Limit Exceeded"}`}

	uriTooLong = Response{Status: 414, ContentType: "text/plain", Message: "Request URI too long", Body: "Request URI too long"}

	// Forbidden answers where nothing is to be given away.
	Forbidden = Response{Status: 403, ErrorType: errorForbidden, ContentType: contentJSON, Message: "Forbidden", Body: `{"message":"Forbidden"}`}

	// ConfigurationError answers where the API itself is wrong: an operation
	// without backend, a template that cannot be filled.
	ConfigurationError = Response{Status: 500, Type: APIConfiguration, ErrorType: errorInternal, ContentType: contentJSON, Message: "Internal server error", Body: `{"message": "Internal server error"}`}
	// NetworkError answers where no connection to the backend came about.
	NetworkError = Response{Status: 504, Type: IntegrationFailure, ErrorType: errorInternal, ContentType: contentJSON, Message: "Network error communicating with endpoint", Body: `{"message": "Network error communicating with endpoint"}`}
	// TimedOut answers where the backend took too long.
	TimedOut = Response{Status: 504, Type: IntegrationTimeout, ErrorType: errorInternal, ContentType: contentJSON, Message: "Endpoint request timed out", Body: `{"message": "Endpoint request timed out"}`}
	// Unavailable answers where no target of the Backend is healthy. No document
	// of AWS names such an answer: there health is the load balancer's affair.
	Unavailable = Response{Status: 503, Type: IntegrationFailure, ErrorType: errorUnavailable, ContentType: contentJSON, Message: "Service Unavailable", Body: `{"message":"Service Unavailable"}`}
	// Reachable answers the Gateway's own status path.
	Reachable = Response{Status: 200}
	// UnsupportedMediaType answers a body that no template takes.
	UnsupportedMediaType = Response{Status: 415, Type: UnsupportedMedia, ErrorType: errorBadRequest, ContentType: contentJSON, Message: "Unsupported Media Type", Body: `{"message":"Unsupported Media Type"}`}
	// TooLarge answers a body above the limit.
	TooLarge = Response{Status: 413, Type: RequestTooLarge, ErrorType: errorRequestTooLong, ContentType: contentJSON, Message: "Request Too Long", Body: `{"message":"Request Too Long"}`}
)

// denied is the answer of an IAM policy that does not let the caller through.
func denied(r *iam.Request, explicit bool) Response {
	var b strings.Builder
	b.WriteString("User: anonymous is not authorized to perform: ")
	b.WriteString(r.Action)
	b.WriteString(" on resource: ")
	b.WriteString(r.Resource.MaskedARN())
	if explicit {
		b.WriteString(" with an explicit deny")
	}
	m := b.String()
	return Response{
		Status: 403, Type: AccessDenied, ErrorType: errorAccessDenied, ContentType: contentJSON,
		Message: m, Body: `{"Message":` + quote(m) + `}`,
	}
}

// publicAccessOff is the answer on the public address of a Gateway that is
// closed there.
func publicAccessOff(gateway string, source netip.Addr) Response {
	m := "Request originated from client public IP address " + source.String() +
		", public network access on this 'Microsoft.ApiManagement/service/" + gateway + "' is disabled.\r\n" +
		"To connect to 'Microsoft.ApiManagement/service/" + gateway +
		"', please use the Private Endpoint from inside your virtual network."
	return Response{
		Status: 403, ContentType: contentJSON, Message: m,
		Body: `{ "statusCode": 403, "message": ` + quote(m) + ` }`,
	}
}

// redirect sends the caller to the same place under https. 308 keeps the
// method and the body.
func redirect(location string) Response {
	return Response{Status: 308, Location: location, ContentType: "text/plain", Body: ""}
}

// quote writes s as a JSON string, escaping no more than JSON demands, so that
// bodies stay byte for byte what callers know.
func quote(s string) string {
	const hex = "0123456789abcdef"
	b := make([]byte, 0, len(s)+2)
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\n':
			b = append(b, '\\', 'n')
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}
