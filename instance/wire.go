// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/compile"
	"postern.dev/postern/control"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// compileOptions are the facts of this server that snapshots need.
func (i *Instance) compileOptions(revision int64, hub func(string) snapshot.Hub) compile.Options {
	return compile.Options{
		Revision: revision, Base: i.opts.Base, Segment: []netip.Prefix{i.opts.Segment},
		Egress: i.opts.AllowEgress, Own: i.own, Hub: hub,
	}
}

func (i *Instance) compile(in registry.Input) registry.Output {
	r := i.compiler.Compile(in.Set, i.compileOptions(in.Revision, in.Hub))
	return registry.Output{Snapshot: r.Snapshot, Conditions: r.Conditions}
}

// publish makes every engine serve s. The gateway and the resolvers know the
// new configuration before the network lets anybody reach it.
func (i *Instance) publish(s *snapshot.Snapshot) {
	i.mu.Lock()
	i.snap = s
	i.mu.Unlock()
	i.gateway.Swap(s)
	i.dns.Swap(s)
	if err := i.network.Apply(s); err != nil {
		i.opts.Log.Error("part of the network could not be brought up", "error", err)
	}
	i.gateway.Review() // what was dialled while the network had the old one
	if i.public != nil {
		i.public.apply(s)
	}
	i.followACME()
}

// retryEvery is how often what the engines could not bring up is tried again.
const retryEvery = 10 * time.Second

// retry tries again what could not be brought up, at each tick. That it still
// cannot be is in the conditions, and in the log once.
func (i *Instance) retry(ctx context.Context, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		was := i.network.Failures()
		err := i.network.Retry()
		for name := range was {
			if i.network.Failures()[name] == nil {
				i.opts.Log.Info("a Network is up after all", "network", name)
			}
		}
		if err != nil {
			i.opts.Log.Debug("part of the network still cannot be brought up", "error", err)
		}
		if i.public != nil {
			i.public.retry()
		}
	}
}

// engines says what the engines could not bring up of a resource.
func (i *Instance) engines(r model.Ref) []model.Condition {
	var err error
	switch {
	case r.Kind == model.KindDomain:
		return i.certificate(r.Name)
	case r.Kind == model.KindBackend:
		return i.targets(r.Name)
	case r.Kind == model.KindNetwork:
		err = i.network.Failures()[r.Name]
	case r.Kind == model.KindGateway && i.public != nil:
		if g := i.Snapshot().Gateways[r.Name]; g != nil {
			err = i.public.failure(g)
		}
	}
	if err == nil {
		return nil
	}
	reason := "NotUp"
	if errors.Is(err, syscall.EADDRINUSE) {
		reason = "PortTaken"
	}
	return []model.Condition{{Type: compile.ConditionReady, Reason: reason, Message: strings.ReplaceAll(err.Error(), "\n", "; ") + "; it is tried again every " + retryEvery.String()}}
}

// Snapshot is the configuration that is being served.
func (i *Instance) Snapshot() *snapshot.Snapshot {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.snap
}

// serves tells whether a certificate may be issued for a name.
func (i *Instance) serves(name string) bool { return control.Serves(i.Snapshot(), name) }

// given returns the certificate that a Domain was given.
func (i *Instance) given(name string) (string, model.Secret, bool) {
	return control.Given(i.Snapshot(), name)
}

// resolve answers a query that came out of a tunnel. Hosts see their Network's
// view, everybody else the public one.
func (i *Instance) resolve(ctx context.Context, network string, o *snapshot.Origin, query []byte, tcp bool) []byte {
	if o.Network != network {
		network = ""
	}
	return i.dns.Answer(ctx, network, query, tcp)
}

// Resolve answers a DNS query as the internet sees names.
func (i *Instance) Resolve(ctx context.Context, query []byte) []byte {
	return i.dns.Answer(ctx, "", query, true)
}

func (i *Instance) dialForwarder(ctx context.Context, _, transport string, server netip.AddrPort) (net.Conn, error) {
	return i.network.Dialer().DialContext(ctx, transport, server.String())
}

// world is what questions are asked about.
func (i *Instance) world(set *model.Set, r *compile.Result) *explain.World {
	w := &explain.World{
		Set: set, Result: r, Evidence: "enforced", Now: i.opts.Now(), Sockets: i.opts.Public.IsValid(),
		LinkUp: func(l *snapshot.Link) bool { return i.network.LinkUp(l.Network.Name, l.Name) },
	}
	if c := i.plane.Load(); c != nil {
		w.Access = c.Access
	}
	w.Try = func(c model.Change) (*explain.World, error) {
		next, _, err := model.Admit(set, c, model.Options{
			IDs: model.NamedIDs(), Base: i.opts.Base, Internet: i.opts.Segment, Deployments: true, Server: true,
		})
		if err != nil {
			return nil, err
		}
		x := i.world(next, i.trial.Compile(next, i.compileOptions(r.Snapshot.Revision, nil)))
		x.Evidence = "model"
		return x, nil
	}
	return w
}

// enforced is the world that the engines run, backends included.
func (i *Instance) enforced(set *model.Set, r *compile.Result) *explain.World {
	w := i.world(set, r)
	w.Probe, w.Health, w.Lookup = i.probe, i.healthOf, i.lookUp
	w.Meters = i.gateway.Meters
	return w
}

func (i *Instance) explain(ctx context.Context, w control.World, q answer.Question) (answer.Answer, error) {
	a, err := explain.Explain(ctx, i.enforced(w.Set, &compile.Result{Snapshot: w.Snapshot, Conditions: w.Conditions}), q)
	if err != nil {
		return answer.Answer{}, err
	}
	return *a, nil
}

// matrix asks for every component of a Gateway.
func (i *Instance) matrix(_ context.Context, w control.World, gateway string, all bool) (answer.Matrix, error) {
	m, err := explain.Matrix(i.world(w.Set, &compile.Result{Snapshot: w.Snapshot, Conditions: w.Conditions}), gateway, all)
	if err != nil {
		return answer.Matrix{}, err
	}
	return *m, nil
}

// reach compares which callers get through before and after a change.
func (i *Instance) reach(_ context.Context, before, after *model.Set) (gains, losses []answer.Opening, err error) {
	var r [2]*explain.Reachability
	for n, set := range []*model.Set{before, after} {
		w := i.world(set, i.trial.Compile(set, i.compileOptions(0, nil)))
		w.LinkUp = nil // what a plan says does not hang on the weather
		r[n] = explain.Reach(w)
	}
	gains, losses = explain.Difference(r[0], r[1])
	return gains, losses, nil
}

// conditions are what there would be to say of resources if they were served.
func (i *Instance) conditions(s *model.Set) map[model.Ref][]model.Condition {
	r := i.trial.Compile(s, i.compileOptions(0, nil))
	i.foresee(r)
	return r.Conditions
}

// request explains a request that has happened.
func (i *Instance) request(ctx context.Context, id string) (wire.Request, error) {
	rec, ok := i.gateway.Recent(id)
	if !ok {
		return wire.Request{}, &model.Error{
			Kind: model.NotFound, Op: "why",
			Msg: fmt.Sprintf("no request %q is remembered; the newest ones are, until the server restarts", id),
		}
	}
	w := i.registry.Published()
	subscription, limit := i.gateway.Key(id)
	q := question(w.Snapshot, rec, subscription)
	world := i.enforced(w.Set(), &compile.Result{Snapshot: w.Snapshot, Conditions: w.Conditions})
	world.Limited = &explain.Limited{Code: rec.Code, Kind: limit}
	a, err := explain.Explain(ctx, world, q)
	if err != nil {
		return wire.Request{}, err
	}
	return wire.Request{
		ID: id, Time: rec.Time, Question: q, Answer: *a, Difference: difference(rec, a),
		Recorded: wire.Recorded{Code: rec.Code, Status: rec.Status, Revision: rec.Revision, Protocol: rec.Proto.String()},
	}, nil
}
