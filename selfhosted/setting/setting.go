// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package setting reads how a self-hosted gateway is set up: under the names of
// Azure's, from flags, the environment and files, so that what was written for
// that goes on working. What is misspelt or has no effect here is said.
package setting

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/internal/otlp"
	"postern.dev/postern/model"
)

// Settings are those of one process.
type Settings struct {
	// Name is gateway.name, or that in the token.
	Name string
	// Endpoint is where the configuration is.
	Endpoint Endpoint
	// Token is sent as it is: GatewayKey ...; empty where a certificate is shown.
	Token model.Secret
	// Expires is when the token does; zero if it does not say.
	Expires time.Time
	// CertificateDir holds the client certificate, if that is the mechanism, and
	// Enrolment fetches the first.
	CertificateDir string
	Enrolment      model.Secret
	// Insecure takes any certificate of the endpoint; CA is a file of authorities.
	Insecure bool
	CA       string
	// Timeout bounds each exchange with the endpoint.
	Timeout time.Duration
	// BackupDir is empty if there is to be no backup. BackupKey may be.
	// BackupGiven says that either was set, and not left to the default.
	BackupDir, BackupKey string
	BackupGiven          bool
	// Neighborhood resolves to all instances, whose HTTP port is NeighborhoodPort.
	Neighborhood     string
	NeighborhoodPort uint16
	// Resolver is a DNS server, HOST:PORT, or empty.
	Resolver string
	// HTTP and HTTPS are where to listen.
	HTTP, HTTPS string
	// Certificate and Key are files, or empty.
	Certificate, Key string
	Log              Log
	// LocalCA is a folder of authorities, or empty.
	LocalCA string
	// Metrics is where to serve them, or empty.
	Metrics string
	// AccessLog is a file, "-" for standard output, or empty.
	AccessLog string
	// Collector is the URL of one that gets traces, or empty; Ratio is which part of
	// the requests is traced, nil if nothing was said.
	Collector string
	Ratio     *float64
}

// Log is how to log.
type Log struct {
	Form  string // text, json or none
	Level string // debug, info, warn or error
	Color bool
}

// Protocol is how the configuration is fetched.
type Protocol string

// The protocols.
const (
	V1 Protocol = "v1" // whole documents of the management endpoint
	V2 Protocol = "v2" // a stream of the configuration endpoint
)

// Endpoint is where the configuration is.
type Endpoint struct {
	Protocol Protocol
	// Host and Port are of the server.
	Host string
	Port uint16
	// Path and Query are of a v1 endpoint, as written.
	Path, Query string
}

// String is the endpoint as a URL, or host and port of v2.
func (e Endpoint) String() string {
	at := net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
	if e.Protocol == V2 {
		return at
	}
	u := "https://" + at + e.Path
	if e.Query != "" {
		u += "?" + e.Query
	}
	return u
}

// read makes Settings of values.
func read(v values) (*Settings, error) {
	s := &Settings{
		Name: v[gatewayName], CA: v[serviceCA], BackupKey: v[backupKey], Neighborhood: v[neighborhoodHost],
		HTTP: v[httpAddress], HTTPS: v[httpsAddress], Certificate: v[serverCertificate], Key: v[serverKey],
		BackupDir: v[backupPath], BackupGiven: v[backupPath] != defaultBackup || v[backupKey] != "", Metrics: v[metricsAddress],
		AccessLog: v[accessLog], Collector: v[tracesEndpoint],
	}
	var errs []error
	note := func(name string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	flag := func(name string) bool {
		b, err := parseBool(v[name])
		note(name, err)
		return b
	}
	var err error
	if s.Endpoint, err = ParseEndpoint(v[endpoint]); err != nil {
		note(endpoint, err)
	}
	note(auth, s.authenticate(v))
	s.Insecure = flag(insecure)
	s.Timeout, err = ParseDuration(v[serviceTimeout])
	if err == nil && s.Timeout <= 0 {
		err = errors.New("it has to be longer than nothing")
	}
	note(serviceTimeout, err)
	if s.BackupDir == "none" {
		s.BackupDir = ""
	}
	if s.Resolver = v[resolver]; s.Resolver != "" {
		s.Resolver, err = withPort(s.Resolver, "53")
		note(resolver, err)
	}
	for _, name := range []string{httpAddress, httpsAddress} {
		_, _, err := net.SplitHostPort(v[name])
		note(name, err)
	}
	if s.Metrics != "" {
		_, _, err := net.SplitHostPort(s.Metrics)
		note(metricsAddress, err)
	}
	if s.Collector != "" {
		_, err := otlp.ParseEndpoint(s.Collector)
		note(tracesEndpoint, err)
	}
	if r := v[tracesRatio]; r != "" {
		n, err := strconv.ParseFloat(r, 64)
		if err != nil || !(n >= 0 && n <= 1) {
			note(tracesRatio, fmt.Errorf("%q is no number from 0 to 1", r))
		}
		s.Ratio = &n
	}
	if port := v[neighborhoodPort]; port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			note(neighborhoodPort, fmt.Errorf("%q is no port", port))
		}
		s.NeighborhoodPort = uint16(n)
	} else if _, own, err := net.SplitHostPort(s.HTTP); err == nil {
		n, _ := strconv.ParseUint(own, 10, 16) // listening says if it is none
		s.NeighborhoodPort = uint16(n)
	}
	if (s.Certificate == "") != (s.Key == "") {
		note(serverCertificate, fmt.Errorf("it goes together with %s; give both", serverKey))
	} else if s.Certificate != "" {
		_, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
		note(serverCertificate, err)
	}
	s.Log, err = parseLog(v)
	note(logsStd, err)
	s.Log.Color = flag(logsColor)
	if flag(localCA) {
		s.LocalCA = v[localCAPath]
	}
	return s, errors.Join(errs...)
}

// ErrNoAuth says that nothing is set that the configuration endpoint would know
// this gateway by.
var ErrNoAuth = errors.New("no valid authentication was configured for the configuration API; write the token (GatewayKey ...) that postern token create --role selfhosted prints")

// authenticate reads what the gateway shows to the endpoint.
func (s *Settings) authenticate(v values) error {
	token := v[auth]
	switch strings.ToLower(token) {
	case "key":
		token = v[authKey]
		if token == "" {
			return fmt.Errorf("the mechanism is key, but %s is empty; %w", authKey, ErrNoAuth)
		}
	case "certificate":
		return s.byCertificate(v)
	case "azureadapp", "workloadidentity":
		return fmt.Errorf("%s: %s; %w", token, withoutEntra, ErrNoAuth)
	case "":
		if token = v[authKey]; token == "" {
			return ErrNoAuth
		}
	}
	name, expires, err := ParseToken(token)
	if err != nil {
		return err
	}
	if s.Name != "" && s.Name != name {
		return fmt.Errorf("the token is of gateway %s, but %s is %s", name, gatewayName, s.Name)
	}
	s.Name, s.Expires, s.Token = name, expires, model.NewSecret(token)
	return nil
}

// byCertificate reads what it takes to have a client certificate.
func (s *Settings) byCertificate(v values) error {
	s.Enrolment = model.NewSecret(v[authEnrolment])
	if s.Name == "" {
		return fmt.Errorf("with a certificate, %s has to be set", gatewayName)
	}
	if s.CertificateDir = v[authCertificate]; s.CertificateDir == "" {
		s.CertificateDir = v[backupPath]
	}
	if s.CertificateDir == "" || s.CertificateDir == "none" {
		return fmt.Errorf("without a backup, %s has to name the folder of the certificate", authCertificate)
	}
	return nil
}

// parseLog reads how to log.
func parseLog(v values) (Log, error) {
	l := Log{Form: strings.ToLower(v[logsStd])}
	switch l.Form {
	case "text", "json", "none":
	default:
		return l, fmt.Errorf("%q is not text, json or none", v[logsStd])
	}
	switch level := strings.ToLower(v[logsLevel]); level {
	case "all", "debug":
		l.Level = "debug"
	case "info", "warn", "error":
		l.Level = level
	case "fatal":
		l.Level = "error"
	default:
		return l, fmt.Errorf("%s: %q is not all, debug, info, warn, error or fatal", logsLevel, v[logsLevel])
	}
	return l, nil
}

// ParseEndpoint reads config.service.endpoint: a host name, with or without
// https:// and port, is protocol v2; a URL with a resource path is v1.
func ParseEndpoint(text string) (Endpoint, error) {
	if text == "" {
		return Endpoint{}, errors.New("it is not set; write GATEWAY.configuration.BASE, as postern token create prints it")
	}
	full := text
	if !strings.Contains(full, "://") {
		full = "https://" + full
	}
	u, err := url.Parse(full)
	if err != nil {
		return Endpoint{}, fmt.Errorf("%q is no URL; write GATEWAY.configuration.BASE", text)
	}
	switch {
	case u.Scheme != "https":
		return Endpoint{}, fmt.Errorf("%q: the scheme is https, so that nobody reads along", text)
	case !hostName(strings.TrimSuffix(u.Hostname(), ".")) || u.User != nil || u.Fragment != "":
		return Endpoint{}, fmt.Errorf("%q has no host name, or more than a host name, a path and a query", text)
	}
	e := Endpoint{Protocol: V2, Host: strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")), Port: 443}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return Endpoint{}, fmt.Errorf("%q: %s is no port", text, p)
		}
		e.Port = uint16(n)
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	switch {
	case path == "":
		return e, nil
	case strings.HasPrefix(strings.ToLower(path), "/subscriptions/"):
		e.Protocol, e.Path, e.Query = V1, path, u.RawQuery
		return e, nil
	}
	return Endpoint{}, fmt.Errorf("%q: the path is neither empty (protocol v2) nor /subscriptions/... (protocol v1)", text)
}

// hostName reports whether s can be the name or the address of a host.
func hostName(s string) bool {
	if net.ParseIP(s) != nil {
		return true
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.' && i > 0 && s[i-1] != '.':
		default:
			return false
		}
	}
	return s != "" && s[len(s)-1] != '.'
}

// ParseToken reads the name and the expiry of a token of the form
// GatewayKey NAME&yyyyMMddHHmm&SIGNATURE. Errors do not repeat it.
func ParseToken(token string) (name string, expires time.Time, err error) {
	bad := errors.New("it has not the form GatewayKey NAME&yyyyMMddHHmm&SIGNATURE; copy the whole token in one line")
	rest, ok := strings.CutPrefix(token, "GatewayKey ")
	if !ok {
		return "", expires, bad
	}
	parts := strings.SplitN(rest, "&", 3)
	if len(parts) != 3 || parts[0] == "" || parts[2] == "" || strings.ContainsAny(token, "\r\n\x00") {
		return "", expires, bad
	}
	expires, err = time.Parse("200601021504", parts[1])
	if err != nil {
		return "", expires, bad
	}
	return parts[0], expires, nil
}

func withPort(addr, port string) (string, error) {
	if host, p, err := net.SplitHostPort(addr); err == nil && host != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("%q: %s is no port", addr, p)
		}
		return addr, nil
	}
	addr = strings.Trim(addr, "[]")
	if addr == "" || strings.Contains(addr, ":") && net.ParseIP(addr) == nil {
		return "", fmt.Errorf("%q is not of the form HOST:PORT", addr)
	}
	return net.JoinHostPort(addr, port), nil
}
