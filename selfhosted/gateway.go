// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package selfhosted is a self-hosted gateway: a process that serves the APIs
// that it is assigned next to their backends. It gets its configuration from a
// management plane, and goes on serving while that is away.
package selfhosted

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/compile"
	"postern.dev/postern/configuration"
	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/engine/gateway/meter/ledger"
	"postern.dev/postern/engine/gateway/observe"
	"postern.dev/postern/internal/limited"
	"postern.dev/postern/internal/otlp"
	"postern.dev/postern/selfhosted/backup"
	"postern.dev/postern/selfhosted/link"
	"postern.dev/postern/selfhosted/setting"
	"postern.dev/postern/selfhosted/sibling"
	"postern.dev/postern/snapshot"
)

// Options is what a Gateway is made of.
type Options struct {
	Settings *setting.Settings
	// Notes are what reading the settings found; they are logged.
	Notes []setting.Note
	Log   *slog.Logger
	// Stdout gets the access log, if that is where it goes.
	Stdout io.Writer
	// Exporter makes what sends traces; without one none are sent.
	Exporter func(context.Context, otlp.Options) (otlp.Exporter, error)
	// Version is told in heartbeats.
	Version string
	// Instance names the process; by default after the machine and the port.
	Instance string
	// Listen and Dial are those of another network than this machine's, Proxy is
	// as of http.Transport. All may be nil.
	Listen func(network, address string) (net.Listener, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Proxy  func(*http.Request) (*url.URL, error)
	Now    func() time.Time
}

// Gateway is a running self-hosted gateway.
type Gateway struct {
	o        Options
	s        *setting.Settings
	log      *slog.Logger
	trust    *trust
	names    *names
	certs    *certificates
	engine   *gateway.Engine
	observed *observe.Telemetry
	backup   *backup.Backup
	quotas   *ledger.Ledger // nil without a backup
	link     *link.Link
	identity *identity             // nil with a token
	siblings *sibling.Neighborhood // nil without a neighbourhood
	key      *sibling.Key          // nil without a token
	asked    *pace
	share    *sibling.Share
	counts   *pace // questions for share

	mu       sync.Mutex // serialises what is taken
	compiler compile.Compiler
	served   atomic.Pointer[served]

	listeners []net.Listener
	metrics   *http.Server
	scraped   net.Listener // of metrics
	cancel    context.CancelFunc
	wait      sync.WaitGroup // what runs until cancel
	conns     sync.WaitGroup
	leaving   atomic.Bool
}

// served is what is served.
type served struct {
	doc    *configuration.Document
	snap   *snapshot.Snapshot
	source string
	at     time.Time
}

// Where a configuration came from.
const (
	sourcePlane   = "plane"
	sourceBackup  = "backup"
	sourceSibling = "sibling"
)

// maxConnections bounds the connections of each port.
const maxConnections = 65536

// Start starts a gateway. It returns as soon as the ports are open: until there
// is a configuration they answer 503.
func Start(ctx context.Context, o Options) (*Gateway, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	g := &Gateway{o: o, s: o.Settings, log: o.Log, asked: newPace(siblingAnswers, o.Now)}
	if err := g.start(ctx); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *Gateway) start(ctx context.Context) error {
	for _, n := range g.o.Notes {
		event := "SettingWithoutEffect"
		if n.Unknown {
			event = "SettingUnknown"
		}
		g.log.Warn(event, "name", n.Name, "from", n.Where, "message", n.Message)
	}
	var err error
	if g.trust, err = newTrust(g.s, g.log, g.o.Now); err != nil {
		return err
	}
	if g.s.CertificateDir != "" {
		if g.identity, err = newIdentity(g.s.CertificateDir, g.o.Now); err != nil {
			return err
		}
	}
	g.names = newNames(g.s, g.o.Dial)
	if g.certs, err = newCertificates(g.s, g.snapshot, g.o.Now); err != nil {
		return err
	}
	if err := g.openBackup(); err != nil {
		return err
	}
	if g.observed, err = observe.Open(ctx, observe.Options{
		AccessLog: g.s.AccessLog, Stdout: g.o.Stdout, Collector: g.s.Collector, Exporter: g.o.Exporter, Ratio: g.s.Ratio,
		Service: "postern-gateway", Version: g.o.Version, Instance: g.instance(), Log: g.log,
	}); err != nil {
		return err
	}
	g.engine = gateway.New(gateway.Options{
		AccessLog: g.observed.Access, Trace: g.observed.Trace,
		Certificate: g.certs.get, Dial: g.dialBackend, Local: g.local, Roots: g.trust.backends, Now: g.o.Now,
	})
	// Without anything to serve the ports are open, and say so.
	g.engine.Swap(&snapshot.Snapshot{Base: g.names.base()})
	if err := g.listen(); err != nil {
		return err
	}
	g.newLink()
	g.openQuotas()
	g.newShare()
	if g.metrics != nil { // what it tells is there by now
		g.wait.Go(func() {
			if err := g.metrics.Serve(g.scraped); !errors.Is(err, http.ErrServerClosed) {
				g.log.Error("MetricsStopped", "exception", err.Error())
			}
		})
	}
	g.log.Info("GatewayStartup", "gateway", g.s.Name, "version", g.o.Version, "instance", g.instance(),
		"endpoint", g.s.Endpoint.String(), "protocol", g.s.Endpoint.Protocol,
		"http", g.listeners[0].Addr().String(), "https", g.listeners[1].Addr().String())
	g.fromBackup()
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	g.cancel = cancel
	for i, l := range g.listeners {
		port := uint16(80)
		if i == 1 {
			port = 443
		}
		g.wait.Go(func() { g.accept(running, l, port) })
	}
	g.wait.Go(func() { g.connect(running) })
	if g.s.Neighborhood != "" && g.key != nil {
		g.wait.Go(func() { g.shareLimits(running) })
	}
	if g.siblings != nil && g.served.Load() == nil {
		g.wait.Go(func() { g.fromSiblings(running) })
	}
	return nil
}

// instance names this process among its siblings.
func (g *Gateway) instance() string {
	if g.o.Instance != "" {
		return g.o.Instance
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	port := 0
	if len(g.listeners) > 0 {
		if a, ok := g.listeners[0].Addr().(*net.TCPAddr); ok {
			port = a.Port
		}
	}
	return host + "-" + strconv.Itoa(port)
}

// openBackup prepares the backup. Where nothing was said of it, a folder that
// cannot be had is a warning; a backup without its key is an error all the same.
func (g *Gateway) openBackup() error {
	if g.s.BackupDir == "" {
		g.log.Warn("BackupOff", "message", "there is no backup: started while the management plane is away, this gateway serves nothing")
		return nil
	}
	b, err := backup.Open(backup.Options{Dir: g.s.BackupDir, Key: g.s.BackupKey, Check: g.trust.judge, Follow: g.trust.follow})
	switch {
	case err == nil:
		g.backup = b
	case g.s.BackupGiven, errors.Is(err, backup.ErrKeyGone):
		return err
	default:
		g.log.Warn("BackupOff", "exception", err.Error(), "message", "started while the management plane is away, this gateway serves nothing; name a folder with config.backup.path")
	}
	return nil
}

func (g *Gateway) listen() error {
	for _, address := range []string{g.s.HTTP, g.s.HTTPS} {
		l, err := g.o.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("listen on %s: %w; choose another address with net.server.http.address or net.server.https.address", address, err)
		}
		g.listeners = append(g.listeners, limited.Listener(l, maxConnections))
	}
	if g.s.Metrics != "" {
		l, err := g.o.Listen("tcp", g.s.Metrics)
		if err != nil {
			return fmt.Errorf("listen on %s: %w; choose another address with telemetry.metrics.address", g.s.Metrics, err)
		}
		g.metrics = &http.Server{Handler: http.HandlerFunc(g.serveMetrics), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelDebug)}
		g.scraped = l
	}
	return nil
}

// newLink prepares the link and the neighbourhood.
func (g *Gateway) newLink() {
	secure := g.trust.plane()
	if g.identity != nil {
		secure.GetClientCertificate = g.identity.show
	}
	g.link = link.New(link.Options{
		Endpoint: g.s.Endpoint, Name: g.s.Name, Token: g.s.Token, Expires: g.s.Expires, TLS: secure,
		Dial: g.names.dial, Proxy: g.o.Proxy, Timeout: g.s.Timeout, Instance: g.instance(),
		Have: g.have, Take: func(d *configuration.Document) error { return g.take(d, sourcePlane) },
		Heartbeat: g.heartbeat, Log: g.log, Now: g.o.Now,
	})
	if key, err := sibling.NewKey(g.s.Token); err == nil {
		g.key = key
	}
	switch {
	case g.s.Neighborhood == "":
	case g.key == nil:
		g.log.Warn("SettingWithoutEffect", "name", "neighborhood.host", "message", "instances know each other by their token, and there is none")
	case !g.trust.verifies():
		g.log.Warn("SettingWithoutEffect", "name", "neighborhood.host", "message", "what another instance has can only be believed if it is signed: config.service.ca has to name the authority")
	default:
		g.siblings = &sibling.Neighborhood{
			Key: g.key, Host: g.s.Neighborhood, Port: g.s.NeighborhoodPort,
			Lookup: g.names.lookup, Dial: g.names.dial, Check: g.trust.judge,
		}
	}
}

func (g *Gateway) have() *configuration.Document {
	if s := g.served.Load(); s != nil {
		return s.doc
	}
	return nil
}

func (g *Gateway) snapshot() *snapshot.Snapshot {
	if s := g.served.Load(); s != nil {
		return s.snap
	}
	return nil
}

func (g *Gateway) heartbeat() configuration.Heartbeat {
	h := configuration.Heartbeat{Version: g.o.Version}
	if s := g.served.Load(); s != nil {
		h.Revision, h.Hash, h.Source = s.doc.Revision, s.doc.Hash(), s.source
	}
	return h
}

// accept serves the connections of one port.
func (g *Gateway) accept(ctx context.Context, l net.Listener, port uint16) {
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			g.log.Error("AcceptFailed", "address", l.Addr().String(), "exception", err.Error())
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond): // out of files, most likely
			}
			continue
		}
		g.conns.Go(func() { g.serve(c, port) })
	}
}

// Addresses are where HTTP and HTTPS are served.
func (g *Gateway) Addresses() (plain, secure net.Addr) {
	return g.listeners[0].Addr(), g.listeners[1].Addr()
}

// Link says how the connection to the management plane is.
func (g *Gateway) Link() link.State { return g.link.State() }

// Shutdown lets requests under way finish, and closes everything once ctx ends.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.leaving.Store(true)
	g.log.Info("GatewayShutdown")
	err := g.stop()
	if g.engine != nil {
		err = errors.Join(err, g.engine.Shutdown(ctx))
	}
	g.conns.Wait()
	return errors.Join(err, g.quotas.Close(), g.observed.Close())
}

// Close closes everything at once and waits.
func (g *Gateway) Close() error {
	g.leaving.Store(true)
	err := g.stop()
	if g.engine != nil {
		err = errors.Join(err, g.engine.Close())
	}
	g.conns.Wait()
	return errors.Join(err, g.quotas.Close(), g.observed.Close())
}

// stop ends everything but the connections.
func (g *Gateway) stop() error {
	var errs []error
	if g.cancel != nil {
		g.cancel()
	}
	for _, l := range g.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if g.metrics != nil {
		errs = append(errs, g.metrics.Close())
		if err := g.scraped.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	g.wait.Wait()
	return errors.Join(errs...)
}
