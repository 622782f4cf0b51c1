// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package instance runs one whole Postern in a process: the store, the
// management plane, the network engine, the resolvers and the managed
// gateway. The server, the walk-throughs and the tests all run this.
package instance

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/client/settings"
	"postern.dev/postern/compile"
	"postern.dev/postern/control"
	"postern.dev/postern/control/pki"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/dns"
	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/engine/gateway/h1"
	"postern.dev/postern/engine/gateway/meter/ledger"
	"postern.dev/postern/engine/gateway/observe"
	"postern.dev/postern/engine/network/user"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/store/etcd"
	"postern.dev/postern/store/sealed"
)

// Options shape an Instance.
type Options struct {
	// Data is the folder of the store, its key and client.yaml.
	Data string
	// Cluster lists the addresses of an etcd cluster to use in place of the
	// embedded store.
	Cluster []string
	// Base is the base domain; postern.internal if empty.
	Base string
	// Segment is the internet segment; 198.18.0.0/15 if zero.
	Segment netip.Prefix
	// Management is the address of the management API; 127.0.0.1:3443 if
	// empty.
	Management string
	// WireGuard is the address of the hubs' UDP sockets, with a port for each
	// Network between Low and High. The zero Addr offers no WireGuard.
	WireGuard netip.Addr
	Low, High int
	// Public is the address of the real sockets for the Gateways' published
	// ports; none are opened if it is zero. PublicPorts moves ports: what is
	// published as the key listens on the value.
	Public      netip.Addr
	PublicPorts map[uint16]uint16
	// PublicConnections bounds the connections on those sockets, and
	// PublicConnectionsEach those of one address; MaxPublic and a quarter if 0.
	PublicConnections, PublicConnectionsEach int
	// AllowEgress lists what may be dialled beyond the internet segment
	// although it is loopback, private or link-local.
	AllowEgress []netip.Prefix
	// AccessLog is the file of the gateway's access log, "-" for Stdout; empty
	// writes none.
	AccessLog string
	Stdout    io.Writer
	// Collector is the URL of an OpenTelemetry collector that gets the gateway's
	// spans, and Ratio the part of the requests that is traced unless their callers
	// have decided. Without them the environment may say so.
	Collector string
	Ratio     *float64
	// Version is this build's.
	Version string
	// Trace, if set, sees each decision about a new flow.
	Trace func(*flow.Verdict)
	Log   *slog.Logger
	Now   func() time.Time
}

// Instance is a running Postern.
type Instance struct {
	opts Options
	// compiler serves; checker judges what is submitted, and trial compiles
	// what is only tried. Each remembers what its own work needs.
	compiler, checker, trial compile.Compiler
	own                      []netip.Addr

	store    *etcd.Store
	registry *registry.Registry
	control  *control.Server
	plane    atomic.Pointer[control.Server] // control, once it serves
	issuer   *pki.Issuer
	roots    *x509.CertPool // trusted for backends
	network  *user.Fabric
	dns      *dns.Resolver
	gateway  *gateway.Engine
	quotas   *ledger.Ledger
	observed *observe.Telemetry
	public   *public
	acme     keeping
	snap     *snapshot.Snapshot // newest published; under mu

	settings settings.Settings
	listener net.Listener
	cancel   context.CancelFunc
	wait     sync.WaitGroup
	mu       sync.Mutex
	served   error // why the management API ended; under mu
	done     chan struct{}
}

// Start starts everything and returns when requests are served. What was
// started is closed again if it fails.
func Start(ctx context.Context, o Options) (*Instance, error) {
	if o.Base == "" {
		o.Base = model.DefaultBase
	}
	if !o.Segment.IsValid() {
		o.Segment = model.DefaultInternet
	}
	if o.Management == "" {
		o.Management = "127.0.0.1:3443"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	i := &Instance{opts: o, snap: &snapshot.Snapshot{Base: o.Base}, done: make(chan struct{})}
	if err := i.start(ctx); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

func (i *Instance) start(ctx context.Context) error {
	if err := os.MkdirAll(i.opts.Data, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	var err error
	if i.own, err = ownAddresses(); err != nil {
		return err
	}
	if err := i.openStore(ctx); err != nil {
		return err
	}
	authority, err := control.Authority(ctx, i.store, i.opts.Now())
	if err != nil {
		return err
	}
	reached, err := i.managementAddresses()
	if err != nil {
		return err
	}
	i.issuer = pki.NewIssuer(authority, pki.Options{Serves: i.serves, Given: i.given, Obtained: i.obtained, Addresses: reached, Now: i.opts.Now})
	i.roots = backendRoots(authority.RootPEM())
	if err := i.startEngines(ctx); err != nil {
		return err
	}
	if err := i.startControl(ctx, authority); err != nil {
		return err
	}
	return i.keepSettings(ctx, authority)
}

// openStore opens the embedded store or dials the cluster, sealed with a key
// that is kept beside it.
func (i *Instance) openStore(ctx context.Context) error {
	path, dir := filepath.Join(i.opts.Data, "store.key"), filepath.Join(i.opts.Data, "store")
	load := sealed.LoadOrCreateKey
	if etcd.Exists(dir) {
		// A new key would open nothing, and stand where the old one belongs.
		load = sealed.LoadKey
	}
	key, err := load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the key %s of the store in %s is missing; put it back from a backup, nothing else opens the store", path, dir)
	}
	if err != nil {
		return err
	}
	o := etcd.Options{Codec: key, Logger: i.opts.Log}
	if len(i.opts.Cluster) > 0 {
		i.store, err = etcd.Dial(ctx, etcd.Cluster{Addresses: i.opts.Cluster}, o)
	} else {
		i.store, err = etcd.Open(ctx, dir, o)
	}
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	return nil
}

func (i *Instance) startEngines(ctx context.Context) error {
	listen := i.opts.WireGuard
	if !listen.IsValid() {
		listen = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	var err error
	if i.observed, err = observe.Open(ctx, i.telemetry()); err != nil {
		return err
	}
	i.gateway = gateway.New(gateway.Options{
		AccessLog: i.observed.Access, Trace: i.observed.Trace,
		Certificate: i.issuer.Certificate, Challenge: challenges{i}, Dial: i.dialBackend, Own: ownAddresses, Roots: i.roots, Now: i.opts.Now,
		Failed:        i.failed,
		Management:    i.component((*control.Server).ServeManagement),
		Configuration: i.component((*control.Server).ServeConfiguration),
	})
	i.quotas = i.openQuotas()
	i.network, err = user.New(user.Options{
		Listen: listen, Resolve: i.resolve,
		Serve: func(c net.Conn, o *snapshot.Origin) { i.serveConn(context.Background(), c, o) },
		Own:   ownAddresses, Trace: i.opts.Trace, Log: i.opts.Log, Now: i.opts.Now,
	})
	if err != nil {
		return fmt.Errorf("network engine: %w", err)
	}
	i.dns = dns.New(i.snap, dns.Config{Dial: i.dialForwarder, Log: i.opts.Log})
	if i.opts.Public.IsValid() {
		i.public = newPublic(i)
	}
	return nil
}

func (i *Instance) startControl(ctx context.Context, authority *pki.Authority) error {
	var err error
	// Published ports leave it the place that it takes.
	if i.listener, err = net.Listen("tcp", i.opts.Management); err != nil {
		return fmt.Errorf("management API on %s: %w; choose another address with --management", i.opts.Management, err)
	}
	ports := registry.Ports{}
	if i.opts.WireGuard.IsValid() {
		ports = registry.Ports{Low: i.opts.Low, High: i.opts.High}
	}
	i.registry, err = registry.Open(ctx, registry.Options{
		Store:     i.store,
		Admission: model.Options{IDs: model.RandomIDs(rand.Reader), Base: i.opts.Base, Internet: i.opts.Segment},
		Compile:   i.compile,
		Check:     i.checker.Check,
		Publish:   i.publish,
		Engines:   i.engines,
		Ports:     ports,
		Now:       i.opts.Now,
		Log:       i.opts.Log,
	})
	if err != nil {
		return err
	}
	i.startACME()
	hubHost := ""
	if i.opts.WireGuard.IsValid() {
		hubHost = i.opts.WireGuard.String()
	}
	i.control, err = control.New(control.Options{
		Registry: i.registry, Base: i.opts.Base, HubHost: hubHost, PublicPorts: i.opts.PublicPorts,
		Certificate: i.issuer.Certificate, Loopback: i.issuer.Loopback,
		Explain: i.explain, Matrix: i.matrix, Reach: i.reach, Request: i.request, Conditions: i.conditions, Metrics: i.metrics, Limits: i.gateway.Limits,
		Authority: authority, Now: i.opts.Now, Log: i.opts.Log,
	})
	if err != nil {
		return err
	}
	i.plane.Store(i.control)
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	i.cancel = cancel
	i.wait.Go(func() {
		t := time.NewTicker(retryEvery)
		defer t.Stop()
		i.retry(serving, t.C)
	})
	i.wait.Go(func() {
		if err := i.control.ServeComponents(serving); err != nil {
			i.opts.Log.Error("the components of the Gateways are no longer served", "error", err)
		}
	})
	i.wait.Go(func() {
		defer close(i.done)
		err := i.control.Serve(serving, i.listener)
		i.mu.Lock()
		i.served = err
		i.mu.Unlock()
	})
	return nil
}

// keepSettings writes client.yaml, with a new token if the one in it is no
// longer good.
func (i *Instance) keepSettings(ctx context.Context, a *pki.Authority) error {
	path := filepath.Join(i.opts.Data, settings.FileName)
	old, err := settings.Load(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w; repair or remove it, a new one is written then", err)
	}
	token, err := i.control.AdminToken(ctx, old.Token)
	if err != nil {
		return err
	}
	i.settings = settings.Settings{Address: "https://" + dialable(i.listener.Addr()), CA: string(a.RootPEM()), Token: token}
	return settings.Save(path, i.settings)
}

// Settings are what a client needs to call the management API as admin.
func (i *Instance) Settings() settings.Settings { return i.settings }

// ConfigPath is where the client settings stand.
func (i *Instance) ConfigPath() string { return filepath.Join(i.opts.Data, settings.FileName) }

// Done is closed when the management API has ended, as it does only when its
// socket fails or the Instance is closed.
func (i *Instance) Done() <-chan struct{} { return i.done }

// Network is the network engine.
func (i *Instance) Network() *user.Fabric { return i.network }

// RootPEM is the certificate of the private CA.
func (i *Instance) RootPEM() []byte { return []byte(i.settings.CA) }

// Close stops everything in the reverse order and waits for it.
func (i *Instance) Close() error {
	var errs []error
	if i.cancel != nil {
		i.cancel()
		i.wait.Wait()
		i.mu.Lock()
		errs = append(errs, i.served)
		i.mu.Unlock()
	} else if i.listener != nil {
		errs = append(errs, i.listener.Close())
	}
	if i.gateway != nil {
		errs = append(errs, i.gateway.Close())
	}
	errs = append(errs, i.quotas.Close()) // nothing is counted any longer
	errs = append(errs, i.observed.Close())
	if i.public != nil {
		errs = append(errs, i.public.close())
	}
	if i.network != nil {
		errs = append(errs, i.network.Close())
	}
	if k := i.acme.Load(); k != nil {
		errs = append(errs, k.Close())
	}
	if i.registry != nil {
		errs = append(errs, i.registry.Close())
	}
	if i.store != nil {
		errs = append(errs, i.store.Close())
	}
	return errors.Join(errs...)
}

// component serves connections to a component of the Gateways by the management
// plane, as soon as there is one.
func (i *Instance) component(serve func(*control.Server, context.Context, net.Conn)) func(context.Context, net.Conn, *snapshot.Origin) {
	return func(ctx context.Context, c net.Conn, _ *snapshot.Origin) {
		if plane := i.plane.Load(); plane != nil {
			serve(plane, ctx, c)
		}
	}
}

// serveConn hands a connection to the gateway. Why it ended is the client's
// affair or was answered there; a fault of ours is not.
func (i *Instance) serveConn(ctx context.Context, c net.Conn, o *snapshot.Origin) {
	if err := i.gateway.ServeConn(ctx, c, o); err != nil {
		i.failed(o, err)
	}
}

// failed tells of a connection that failed, or of a request on one that goes on.
func (i *Instance) failed(o *snapshot.Origin, err error) {
	if p, ok := errors.AsType[*h1.PanicError](err); ok {
		i.opts.Log.Error("the gateway failed at a request", "from", o.Source, "to", o.Local, "panic", p.Value, "stack", string(p.Stack))
		return
	}
	i.opts.Log.Debug("connection ended", "from", o.Source, "to", o.Local, "error", err)
}

// ownAddresses are the addresses of this machine.
func ownAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("this machine's addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out, nil
}

// managementAddresses are the addresses at which the management API is
// reached: the one it listens on, or all of this machine's.
func (i *Instance) managementAddresses() ([]netip.Addr, error) {
	a, err := net.ResolveTCPAddr("tcp", i.opts.Management)
	if err != nil {
		return nil, fmt.Errorf("management API on %s: %w; write --management ADDRESS:PORT", i.opts.Management, err)
	}
	if ip := a.AddrPort().Addr().Unmap(); ip.IsValid() && !ip.IsUnspecified() {
		return []netip.Addr{ip}, nil
	}
	return i.own, nil
}

// dialable is the address of a listener as a client on this machine dials it.
func dialable(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(t.Port))
}
