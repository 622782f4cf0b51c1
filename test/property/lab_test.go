// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern.dev/postern/client"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/instance"
	"postern.dev/postern/model"
)

// lab is one world that runs.
type lab struct {
	*instance.Instance
	client  *client.Client
	dir     string
	backend *httptest.Server
	trace   tracer
	hosts   map[string]*tunnel
	links   map[string]*tunnel
	held    []net.Conn
	// keys are those that were issued, by Subscription.
	keys map[string]string
}

// hubPorts is how many Networks a world may have.
const hubPorts = 4

// errWorld marks an error in the world that was drawn, not in Postern.
var errWorld = errors.New("the world is not valid")

// start brings a world up. An error that is errWorld says that the world was
// refused; anything else is a failure.
func start(ctx context.Context, s *script) (*lab, error) {
	l := &lab{hosts: map[string]*tunnel{}, links: map[string]*tunnel{}, keys: map[string]string{}}
	err := l.start(ctx, s)
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) start(ctx context.Context, s *script) error {
	var err error
	if l.dir, err = os.MkdirTemp("", "postern-property-"); err != nil {
		return err
	}
	low, err := freePorts(hubPorts)
	if err != nil {
		return err
	}
	l.backend = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "the backend was asked for "+r.Method+" "+r.URL.Path)
	}))
	l.Instance, err = instance.Start(ctx, instance.Options{
		Data: l.dir, Management: "127.0.0.1:0",
		WireGuard: netip.MustParseAddr("127.0.0.1"), Low: low, High: low + hubPorts - 1,
		AllowEgress: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
		Trace:       l.trace.see,
	})
	if err != nil {
		return err
	}
	set := l.Settings()
	if l.client, err = client.New(client.Options{Address: set.Address, CA: set.CA, Token: set.Token}); err != nil {
		return err
	}
	if _, err := l.client.Apply(ctx, l.real(s.objects), false); err != nil {
		return refused("apply", err)
	}
	for i := range s.steps {
		if err := l.step(ctx, &s.steps[i]); err != nil {
			return err
		}
	}
	return nil
}

// refused tells a world that was refused from a server that failed.
func refused(what string, err error) error {
	for _, e := range model.AsErrors(err) {
		if e.Kind == model.Unavailable || e.Kind == model.Internal {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return fmt.Errorf("%w: %s: %w", errWorld, what, err)
}

func (l *lab) step(ctx context.Context, st *step) error {
	var err error
	switch {
	case st.deploy != "":
		_, err = l.client.Deploy(ctx, st.deploy, wire.Deploy{Stage: st.stage})
		// A private API without a policy cannot be deployed, and stays so.
		if err != nil && strings.Contains(err.Error(), "resource policy") {
			return nil
		}
	case st.approve != "":
		_, err = l.client.ApproveEndpoint(ctx, st.approve)
	case st.reject != "":
		_, err = l.client.RejectEndpoint(ctx, st.reject)
	case st.join != (model.Ref{}):
		_, err = l.join(ctx, st.join)
	case st.serve != "":
		var t *tunnel
		if t, err = l.join(ctx, model.Ref{Kind: model.KindHost, Name: st.serve}); err == nil {
			err = t.accept("tcp", uint16(st.port))
		}
	case st.stop != "":
		if t := l.hosts[st.stop]; t != nil {
			err = t.refuse(uint16(st.port))
		}
	case st.key != "":
		var made wire.CreatedKey
		if made, err = l.client.CreateKey(ctx, st.key, wire.NewKey{}); err == nil {
			l.keys[st.key] = made.Value
		}
	case st.revoke != "":
		_, err = l.client.Revoke(ctx, st.revoke, st.rule)
	case st.cascade:
		_, err = l.client.DeleteAll(ctx, wire.Deletion{Resources: []model.Ref{st.remove}, Cascade: true}, false)
	case st.remove != (model.Ref{}):
		err = l.client.Delete(ctx, st.remove, 0)
	default:
		_, err = l.client.Apply(ctx, l.real(st.apply), false)
	}
	if err != nil {
		return refused("step", err)
	}
	return nil
}

// real puts the addresses of this world's backends into documents.
func (l *lab) real(os []model.Object) []model.Object {
	out := make([]model.Object, len(os))
	for i, o := range os {
		out[i] = o
		switch o := o.(type) {
		case *model.API:
			a := model.Clone(o)
			a.Spec.OpenAPI = json.RawMessage(l.addresses(string(a.Spec.OpenAPI)))
			out[i] = a
		case *model.Backend:
			b := model.Clone(o)
			for i := range b.Spec.Targets {
				t := &b.Spec.Targets[i]
				at, err := netip.ParseAddrPort(l.addresses(net.JoinHostPort(t.Host, strconv.Itoa(t.Port))))
				if err != nil {
					continue // it is a name
				}
				t.Host, t.Port = at.Addr().String(), int(at.Port())
			}
			out[i] = b
		case *model.Domain:
			out[i] = certified(o)
		case *model.Stage:
			st := model.Clone(o)
			for k, v := range st.Spec.Variables {
				st.Spec.Variables[k] = l.addresses(v)
			}
			out[i] = st
		}
	}
	return out
}

func (l *lab) addresses(text string) string {
	return strings.NewReplacer(openBackend, l.backend.Listener.Addr().String(), closedBackend, closedAddress).Replace(text)
}

// joined lists the steps that make join who has joined, and serve who serves.
func (l *lab) joined() []step {
	var out []step
	for _, name := range slices.Sorted(maps.Keys(l.hosts)) {
		out = append(out, step{join: model.Ref{Kind: model.KindHost, Name: name}})
		for _, port := range l.hosts[name].ports() {
			out = append(out, step{serve: name, port: int(port)})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.links)) {
		out = append(out, step{join: model.Ref{Kind: model.KindLink, Name: name}})
	}
	return out
}

// explain asks what becomes of a request.
func (l *lab) explain(ctx context.Context, q answer.Question) (answer.Answer, error) {
	return l.client.Explain(ctx, q)
}

// close ends everything and waits.
func (l *lab) close() error {
	var errs []error
	for _, c := range l.held {
		_ = c.Close() // the other side may have closed it
	}
	for _, t := range l.hosts {
		errs = append(errs, t.close())
	}
	for _, t := range l.links {
		errs = append(errs, t.close())
	}
	if l.client != nil {
		l.client.Close()
	}
	if l.Instance != nil {
		errs = append(errs, l.Instance.Close())
	}
	if l.backend != nil {
		l.backend.Close()
	}
	if l.dir != "" {
		errs = append(errs, os.RemoveAll(l.dir))
	}
	return errors.Join(errs...)
}

var (
	portsMu  sync.Mutex
	lastPort = 20000 + os.Getpid()%200*128
)

// freePorts finds n UDP ports in a row that are free.
func freePorts(n int) (int, error) {
	portsMu.Lock()
	defer portsMu.Unlock()
	for range 1000 {
		lastPort += n
		if lastPort > 60000 {
			lastPort = 20000
		}
		if free(lastPort, n) {
			return lastPort, nil
		}
	}
	return 0, errors.New("there are no free UDP ports")
}

func free(low, n int) bool {
	for p := low; p < low+n; p++ {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: p})
		if err != nil {
			return false
		}
		if err := c.Close(); err != nil {
			return false
		}
	}
	return true
}

// wait is longer than anything takes that is going to happen, a Gateway's dial into
// silence included.
const wait = 15 * time.Second
