// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package setting

import "strings"

// Setting is one name that a self-hosted gateway can be set up with.
type Setting struct {
	// Name is as it is written in a file or with -- before it as a flag.
	Name string
	// Default is its value if it is not given.
	Default string
	// Usage says what it is for.
	Usage string
	// Switch is for true and false.
	Switch bool
	// Secret values are never printed.
	Secret bool
	// Without says why the setting has no effect here; empty if it has.
	Without string
}

// The names with an effect. Those of Azure's self-hosted gateway are as that
// has them; config.service.ca, config.service.auth.certificate
// and .enrolment, config.backup..., net.resolver, net.server...address,
// net.server.tls.certificate and .key, neighborhood.port,
// certificates.local.ca.path, telemetry.metrics.address, telemetry.logs.access
// and telemetry.traces... are Postern's own.
const (
	gatewayName       = "gateway.name"
	endpoint          = "config.service.endpoint"
	auth              = "config.service.auth"
	authKey           = "config.service.auth.key"
	authCertificate   = "config.service.auth.certificate"
	authEnrolment     = "config.service.auth.enrolment"
	insecure          = "config.service.endpoint.disableCertificateValidation"
	serviceCA         = "config.service.ca"
	serviceTimeout    = "config.service.integration.timeout"
	backupPath        = "config.backup.path"
	backupKey         = "config.backup.key"
	neighborhoodHost  = "neighborhood.host"
	neighborhoodPort  = "neighborhood.port"
	resolver          = "net.resolver"
	httpAddress       = "net.server.http.address"
	httpsAddress      = "net.server.https.address"
	serverCertificate = "net.server.tls.certificate"
	serverKey         = "net.server.tls.key"
	logsStd           = "telemetry.logs.std"
	logsLevel         = "telemetry.logs.std.level"
	logsColor         = "telemetry.logs.std.color"
	localCA           = "certificates.local.ca.enabled"
	localCAPath       = "certificates.local.ca.path"
	metricsAddress    = "telemetry.metrics.address"
	accessLog         = "telemetry.logs.access"
	tracesEndpoint    = "telemetry.traces.endpoint"
	tracesRatio       = "telemetry.traces.ratio"
)

const (
	withoutEntra   = "there is no Entra ID here; config.service.auth takes a GatewayKey token, or the mechanism key or certificate"
	withoutSync    = "limits are shared with the instances of neighborhood.host on their HTTP port, without UDP"
	withoutBeat    = "siblings are found by neighborhood.host and asked on their HTTP port, without UDP"
	withoutLocal   = "logs go to standard output only"
	withoutMetrics = "metrics are for Prometheus to fetch, at telemetry.metrics.address"
	withoutOTel    = "metrics are for Prometheus to fetch, at telemetry.metrics.address; a collector gets traces, as telemetry.traces.endpoint says"
	withoutSuites  = "TLS 1.2 and newer are spoken with the safe suites of Go's standard library"
	withoutIngress = "it does not read Kubernetes Ingress resources"
	withoutCRL     = "revocation lists are not read"
	withoutProto   = "what another proxy says of the scheme is not believed"
	withoutCloud   = "there is no cloud that metrics go to"
)

// defaultBackup is where the original's volume is mounted.
const defaultBackup = "/apim/config"

const protocols = "Microsoft.WindowsAzure.ApiManagement.Gateway.Security.Backend.Protocols."

// settings lists every name that is known.
var settings = []Setting{
	{Name: gatewayName, Usage: "name of the SelfHostedGateway; by default that in the token"},
	{Name: endpoint, Usage: "where the configuration is: NAME.configuration.BASE (protocol v2), or the URL of a management endpoint (v1)"},
	{Name: auth, Secret: true, Usage: "the token (GatewayKey ...), or the mechanism key or certificate"},
	{Name: authKey, Secret: true, Usage: "the token, where the mechanism is key"},
	{Name: authCertificate, Usage: "folder of the client certificate and its key, where the mechanism is certificate; by default that of the backup"},
	{Name: authEnrolment, Secret: true, Usage: "one-time enrolment with which the first client certificate is fetched"},
	{Name: insecure, Default: "false", Switch: true, Usage: "trust whatever certificate the configuration endpoint shows"},
	{Name: serviceCA, Usage: "file of the authorities (PEM) trusted for the configuration endpoint, beside the system's"},
	{Name: serviceTimeout, Default: "00:01:40", Usage: "longest wait for the configuration endpoint"},
	{Name: backupPath, Default: defaultBackup, Usage: "folder of the backup; none turns it off"},
	{Name: backupKey, Usage: "file with the key that seals the backup; by default backup.key in its folder, made if it is missing"},
	{Name: neighborhoodHost, Usage: "DNS name of all instances of this gateway, such as that of a headless Service"},
	{Name: neighborhoodPort, Usage: "HTTP port of the other instances; by default one's own"},
	{Name: resolver, Usage: "DNS server, HOST:PORT, for names below the base domain; by default the system's"},
	{Name: httpAddress, Default: ":8080", Usage: "where HTTP is served"},
	{Name: httpsAddress, Default: ":8081", Usage: "where HTTPS is served"},
	{Name: serverCertificate, Usage: "file of the certificate (PEM) shown for names without one of their own; by default one made at start"},
	{Name: serverKey, Usage: "file of its key (PEM)"},
	{Name: logsStd, Default: "text", Usage: "form of the log on standard output: text, json or none"},
	{Name: logsLevel, Default: "info", Usage: "all, debug, info, warn, error or fatal"},
	{Name: logsColor, Default: "true", Switch: true, Usage: "colour the level of text logs on a terminal"},
	{Name: localCA, Default: "false", Switch: true, Usage: "trust the authorities that are mounted, for backends and the configuration endpoint"},
	{Name: localCAPath, Default: "/usr/local/share/ca-certificates", Usage: "folder of mounted authorities (*.crt, *.pem)"},
	{Name: metricsAddress, Usage: "where /metrics is served for Prometheus; by default nowhere"},
	{Name: accessLog, Usage: "file of the access log, or - for standard output; SIGHUP opens it again; by default none"},
	{Name: tracesEndpoint, Usage: "URL of an OpenTelemetry collector that gets traces, such as http://127.0.0.1:4318; by default none"},
	{Name: tracesRatio, Usage: "part of the requests that is traced, from 0 to 1, unless their callers have decided; by default all"},

	{Name: "config.service.auth.azureAd.tenantId", Without: withoutEntra},
	{Name: "config.service.auth.azureAd.clientId", Without: withoutEntra},
	{Name: "config.service.auth.azureAd.clientSecret", Secret: true, Without: withoutEntra},
	{Name: "config.service.auth.azureAd.certificatePath", Without: withoutEntra},
	{Name: "config.service.auth.azureAd.authority", Without: withoutEntra},
	{Name: "config.service.auth.tokenAudience", Without: withoutEntra},
	{Name: "neighborhood.heartbeat.port", Default: "4291", Without: withoutBeat},
	{Name: "policy.rate-limit.sync.port", Default: "4290", Without: withoutSync},
	{Name: "net.server.http.forwarded.proto.enabled", Default: "false", Switch: true, Without: withoutProto},
	{Name: "telemetry.logs.local", Default: "auto", Without: withoutLocal},
	{Name: "telemetry.logs.local.localsyslog.endpoint", Without: withoutLocal},
	{Name: "telemetry.logs.local.localsyslog.facility", Without: withoutLocal},
	{Name: "telemetry.logs.local.rfc5424.endpoint", Without: withoutLocal},
	{Name: "telemetry.logs.local.rfc5424.facility", Without: withoutLocal},
	{Name: "telemetry.logs.local.journal.endpoint", Without: withoutLocal},
	{Name: "telemetry.logs.local.json.endpoint", Default: "127.0.0.1:8888", Without: withoutLocal},
	{Name: "telemetry.metrics.local", Default: "none", Without: withoutMetrics},
	{Name: "telemetry.metrics.local.statsd.endpoint", Without: withoutMetrics},
	{Name: "telemetry.metrics.local.statsd.sampling", Without: withoutMetrics},
	{Name: "telemetry.metrics.local.statsd.tag-format", Without: withoutMetrics},
	{Name: "telemetry.metrics.cloud", Default: "true", Switch: true, Without: withoutCloud},
	{Name: "observability.opentelemetry.enabled", Default: "false", Switch: true, Without: withoutOTel},
	{Name: "observability.opentelemetry.collector.uri", Without: withoutOTel},
	{Name: "observability.opentelemetry.system-metrics.enabled", Default: "false", Switch: true, Without: withoutOTel},
	{Name: "observability.opentelemetry.histogram.buckets", Without: withoutOTel},
	{Name: "security.certificate-revocation.validation.enabled", Default: "false", Switch: true, Without: withoutCRL},
	{Name: "net.server.tls.ciphers.allowed-suites", Without: withoutSuites},
	{Name: "net.client.tls.ciphers.allowed-suites", Without: withoutSuites},
	{Name: protocols + "Tls13", Default: "true", Switch: true, Without: withoutSuites},
	{Name: protocols + "Tls12", Default: "true", Switch: true, Without: withoutSuites},
	{Name: protocols + "Tls11", Default: "false", Switch: true, Without: withoutSuites},
	{Name: protocols + "Tls10", Default: "false", Switch: true, Without: withoutSuites},
	{Name: protocols + "Ssl30", Default: "false", Switch: true, Without: withoutSuites},
	{Name: "k8s.ingress.enabled", Default: "false", Switch: true, Without: withoutIngress},
	{Name: "k8s.ingress.namespace", Default: "default", Without: withoutIngress},
	{Name: "k8s.ingress.dns.suffix", Default: "svc.cluster.local", Without: withoutIngress},
	{Name: "k8s.ingress.config.path", Without: withoutIngress},
}

// All lists every setting that is known, those with an effect first.
func All() []Setting { return append([]Setting(nil), settings...) }

// Variable is the second form of a name in the environment: upper case, and an
// underscore for everything that is neither letter nor digit.
func Variable(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, name)
}

// byName finds a setting by its name in any case, or by its Variable.
var byName = func() map[string]*Setting {
	m := make(map[string]*Setting, 2*len(settings))
	for i := range settings {
		s := &settings[i]
		m[strings.ToLower(s.Name)] = s
		m[Variable(s.Name)] = s
	}
	return m
}()

func find(name string) *Setting {
	if s := byName[strings.ToLower(name)]; s != nil {
		return s
	}
	return byName[name]
}
