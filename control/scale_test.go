// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/configuration"
	"postern.dev/postern/model"
	"postern.dev/postern/store"
	"postern.dev/postern/store/mem"
)

// crowdEnv makes the test's own program a crowd of gateways, so that what they
// need is not counted as the management plane's.
const crowdEnv = "POSTERN_TEST_CROWD"

func TestMain(m *testing.M) {
	if os.Getenv(crowdEnv) != "" {
		if err := crowd(); err != nil {
			fmt.Fprintln(os.Stderr, "crowd:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// crowdOrder is what a crowd is told.
type crowdOrder struct {
	Address, Root string
	Tokens        []string
}

// crowdEvent is what one of a crowd tells: what came, and when it was
// acknowledged.
type crowdEvent struct {
	Gateway int
	Type    configuration.Type
	Target  string
	At      int64 // Unix nanoseconds
}

// crowd connects a gateway for each token and tells each thing that comes. One
// whose stream ends comes back, with jitter, from where it was.
func crowd() error {
	var order crowdOrder
	if err := json.NewDecoder(os.Stdin).Decode(&order); err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(order.Root))
	out := json.NewEncoder(os.Stdout)
	var mu sync.Mutex
	tell := func(e crowdEvent) error {
		e.At = time.Now().UnixNano()
		mu.Lock()
		defer mu.Unlock()
		return out.Encode(e)
	}
	errs := make(chan error, len(order.Tokens))
	// So many shake hands at once; the machine is the plane's too.
	hands := make(chan struct{}, 32)
	for n, tok := range order.Tokens {
		go func() { errs <- one(order.Address, pool, tok, n, hands, tell) }()
	}
	return <-errs // it is killed in the end
}

// one is one gateway.
func one(address string, pool *x509.CertPool, tok string, n int, hands chan struct{}, tell func(crowdEvent) error) error {
	var doc *configuration.Document
	var wait time.Duration
	for {
		if wait > 0 {
			<-time.After(wait + rand.N(time.Second/2))
		}
		wait = time.Second
		hands <- struct{}{}
		c, err := begin(address, pool, tok, doc)
		<-hands
		if err != nil {
			if tell(crowdEvent{Gateway: n, Type: "error", Target: err.Error()}) != nil {
				return err
			}
			continue
		}
		for {
			f, err := configuration.ReadFrame(c, configuration.MaxFrame)
			if err != nil {
				break
			}
			switch f.Type {
			case configuration.TypeDocument:
				doc = f.Document
			case configuration.TypeDelta:
				if doc, err = configuration.Apply(doc, f.Delta); err != nil {
					return err
				}
			case configuration.TypeCurrent:
			case configuration.TypePing:
				if err := configuration.WriteFrame(c, &configuration.Frame{Type: configuration.TypePong}); err != nil {
					return err
				}
				continue
			case configuration.TypeRefuse:
				wait = time.Duration(f.Refuse.RetryAfter) * time.Second
				continue
			default:
				continue
			}
			ack := &configuration.Ack{Revision: doc.Revision, Hash: doc.Hash()}
			if err := configuration.WriteFrame(c, &configuration.Frame{Type: configuration.TypeAck, Ack: ack}); err != nil {
				break
			}
			if err := tell(crowdEvent{Gateway: n, Type: f.Type, Target: targetOf(doc)}); err != nil {
				return err
			}
		}
		_ = c.Close()
	}
}

func targetOf(d *configuration.Document) string {
	for _, r := range d.Resources {
		if r.Kind == model.KindBackend {
			_, host, _ := strings.Cut(string(r.Data), `"host":"`)
			host, _, _ = strings.Cut(host, `"`)
			return host
		}
	}
	return ""
}

func begin(address string, pool *x509.CertPool, tok string, doc *configuration.Document) (*tls.Conn, error) {
	c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool, ServerName: management, NextProtos: []string{"http/1.1"}})
	if err != nil {
		return nil, err
	}
	has := ""
	if doc != nil {
		has = doc.Hash()
	}
	_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\nAuthorization: %s\r\n%s: %s\r\n\r\n",
		configuration.Path, management, configuration.Upgrade, tok, configuration.HeaderHash, has)
	var res *http.Response
	if err == nil {
		res, err = http.ReadResponse(bufio.NewReaderSize(oneByte{c}, 16), nil)
	}
	if err == nil && res.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("%s", res.Status)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// crowdSize is how many gateways take part: 200, or what make gateways says.
func crowdSize(t *testing.T) int {
	t.Helper()
	text := cmp.Or(os.Getenv("POSTERN_GATEWAYS"), "200")
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("POSTERN_GATEWAYS=%s is no number of gateways", text)
	}
	return n
}

// makeCrowd makes n SelfHostedGateways, each with a token.
func makeCrowd(t *testing.T, b *branch, n int) crowdOrder {
	t.Helper()
	var m wire.Manifests
	for i := range n {
		m.Resources = append(m.Resources, fmt.Appendf(nil, `{"apiVersion":"postern/v1","kind":"SelfHostedGateway","metadata":{"name":"s%d"},"spec":{"gateway":"gw","apis":["orders"]}}`, i))
	}
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if rec := b.call("POST", "/v1/apply", b.admin, string(body)); rec.Code != http.StatusOK {
		t.Fatalf("%d %.300s", rec.Code, rec.Body)
	}
	order := crowdOrder{Address: b.addr, Root: string(b.authority.RootPEM())}
	for i := range n {
		order.Tokens = append(order.Tokens, b.gatewayToken(wire.NewToken{Subject: fmt.Sprintf("selfhosted/s%d", i)}).Value)
	}
	return order
}

// startCrowd starts a process of gateways; next returns what they tell.
func startCrowd(t *testing.T, order crowdOrder) (next func() crowdEvent) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, self)
	c.Env = append(os.Environ(), crowdEnv+"=1")
	in, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	c.Stdin, c.Stderr = strings.NewReader(string(in)), os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout = w
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	t.Cleanup(func() {
		cancel()
		_ = c.Wait() // killed
		_ = r.Close()
	})
	events := json.NewDecoder(bufio.NewReaderSize(r, 1<<20))
	if err := r.SetReadDeadline(time.Now().Add(5 * time.Minute)); err != nil && err != os.ErrNoDeadline {
		t.Log(err)
	}
	return func() crowdEvent {
		t.Helper()
		var e crowdEvent
		if err := events.Decode(&e); err != nil {
			t.Fatalf("the crowd is silent: %v", err)
		}
		return e
	}
}

// all waits until every gateway has told of target, by the types that are
// counted, and returns when.
func all(t *testing.T, next func() crowdEvent, n int, target string, types map[configuration.Type]int) (at []int64) {
	t.Helper()
	seen := map[int]bool{}
	for len(seen) < n {
		e := next()
		types[e.Type]++
		if e.Type != "error" && e.Target == target && !seen[e.Gateway] {
			seen[e.Gateway] = true
			at = append(at, e.At)
		}
	}
	slices.Sort(at)
	return at
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestAChangeReachesEveryGateway measures, with real connections of a process
// of its own, how long a change takes until it is acknowledged and what memory a
// connected gateway needs, and has the plane restart under them all.
func TestAChangeReachesEveryGateway(t *testing.T) {
	n := crowdSize(t)
	s := mem.New(store.Limits{})
	t.Cleanup(func() { _ = s.Close() })
	b := serveGateways(t, newPlaneOn(t, s), sites)
	order := makeCrowd(t, b, n)
	before, began := inUse(), time.Now()
	next := startCrowd(t, order)
	types := map[configuration.Type]int{}
	all(t, next, n, "stock-1.internal", types)
	connected := time.Since(began)
	if types["error"] > 0 || types[configuration.TypeDocument] != n {
		t.Errorf("while connecting: %v", types)
	}
	b.eventually("frames are forgotten", func() bool { return b.fleet.Connected() == n })
	after := inUse()

	var worst, sum time.Duration
	const rounds = 5
	for round := range rounds {
		clear(types)
		change := time.Now()
		b.apply(stock(round + 2))
		at := all(t, next, n, fmt.Sprintf("stock-%d.internal", round+2), types)
		p99 := time.Duration(at[(len(at)*99+99)/100-1] - change.UnixNano())
		worst, sum = max(worst, p99), sum+p99
		if types[configuration.TypeDelta] != n || len(types) != 1 {
			t.Errorf("round %d: %v, want %d deltas", round, types, n)
		}
	}
	t.Logf("%d gateways: connected in %v; a change is acknowledged by 99%% after %v on average, %v at worst; %d KiB a gateway",
		n, connected.Round(time.Millisecond), (sum / rounds).Round(time.Millisecond), worst.Round(time.Millisecond), (int64(after)-int64(before))/1024/int64(n))
	// A small crowd is for what is sent; its times say nothing on a busy machine.
	if limit := 2 * time.Second; n >= 2000 && worst > limit {
		t.Errorf("99%% have a change after %v, which is more than %v", worst, limit)
	}

	// The plane restarts: all come back, not at once, and nobody needs to be
	// sent anything.
	clear(types)
	addr := b.addr
	b.stop()
	restarted := time.Now()
	again := serveGatewaysAt(t, newPlaneOn(t, s), addr)
	at := all(t, next, n, fmt.Sprintf("stock-%d.internal", rounds+1), types)
	busiest := 0
	for i, j := 0, 0; i < len(at); i++ {
		for at[i]-at[j] > int64(time.Second) {
			j++
		}
		busiest = max(busiest, i-j+1)
	}
	t.Logf("%d gateways are back %v after a restart, at most %d in one second: %v", n, time.Duration(at[len(at)-1]-restarted.UnixNano()).Round(time.Millisecond), busiest, types)
	if types[configuration.TypeDocument]+types[configuration.TypeDelta] > 0 {
		t.Errorf("after a restart without a change: %v", types)
	}
	// And a change during an outage is there in one step.
	clear(types)
	again.stop()
	p := newPlaneOn(t, s)
	p.apply(stock(99))
	serveGatewaysAt(t, p, addr)
	all(t, next, n, "stock-99.internal", types)
	if types[configuration.TypeDocument] != n || types[configuration.TypeDelta]+types[configuration.TypeCurrent] > 0 {
		t.Errorf("after an outage: %v, want %d documents", types, n)
	}
}
