// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"postern.dev/postern/explain/answer"
)

// edge is a self-hosted gateway: a process of its own, which listens on loopback
// and finds its management plane through the relay, as a machine that stands
// where source says.
type edge struct {
	source string
	relay  *relay
	cmd    *exec.Cmd
	ended  chan error
	log    *journal
	plain  string // where it serves HTTP
}

const (
	// starting is how long a gateway may take to say that it serves, leaving how
	// long to end.
	starting = 20 * time.Second
	leaving  = 60 * time.Second
	// arriving is how long what is waited for may take: a stream that was cut is
	// taken up again within half a minute.
	arriving = 60 * time.Second
	polling  = 20 * time.Millisecond
)

// StartGateway starts postern gateway as a process that stands at a source:
// selfhosted/NAME, or selfhosted/NAME/IP on the internet. What it serves is at
// loopback, its backup and its files are in the folder of the Stage. One that
// runs at the same source is stopped before. Of the settings sibling=SOURCE names
// the instance that it may ask.
func (s *Stage) StartGateway(ctx context.Context, source string, args ...string) error {
	if err := s.StopGateway(source); err != nil {
		return err
	}
	e := s.edges[source]
	if e == nil {
		r, err := newRelay()
		if err != nil {
			return err
		}
		e = &edge{source: source, relay: r}
		s.edges[source] = e
	}
	s.connect(ctx, e)
	ca := filepath.Join(s.folder, "ca.pem")
	if err := os.WriteFile(ca, s.ca, 0o600); err != nil {
		return err
	}
	settings, err := s.siblings(args)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("postern gateway is this program: %w", err)
	}
	e.log = &journal{}
	e.cmd = exec.Command(self) //nolint:gosec // this very program
	e.cmd.Args = append([]string{
		"postern", "gateway", "--config.service.ca", ca, "--config.backup.path", filepath.Join(s.folder, "backup of "+strings.ReplaceAll(source, "/", " ")),
		"--net.server.http.address", "127.0.0.1:0", "--net.server.https.address", "127.0.0.1:0",
	}, settings...)
	e.cmd.Dir = s.folder
	e.cmd.Env = append(os.Environ(), "HTTPS_PROXY="+e.relay.url(), "NO_PROXY=")
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	if err := e.cmd.Start(); err != nil {
		return fmt.Errorf("postern gateway: %w", err)
	}
	cmd, ended := e.cmd, make(chan error, 1)
	e.ended = ended
	go func() { ended <- cmd.Wait() }()
	at, err := e.logs(ctx, starting, `GatewayStartup\].* http: (\S+:\d+)`)
	if err != nil {
		return errors.Join(err, e.stop())
	}
	e.plain = at[1]
	return nil
}

// siblings replaces sibling=SOURCE by the settings that name a neighbour.
func (s *Stage) siblings(args []string) ([]string, error) {
	var out []string
	for _, a := range args {
		source, ok := strings.CutPrefix(a, "sibling=")
		if !ok {
			out = append(out, a)
			continue
		}
		e, err := s.edge(source)
		if err != nil {
			return nil, err
		}
		host, port, err := net.SplitHostPort(e.plain)
		if err != nil {
			return nil, fmt.Errorf("%s does not run", source)
		}
		out = append(out, "--neighborhood.host", host, "--neighborhood.port", port)
	}
	return out, nil
}

// connect lets a gateway's connections begin where it stands.
func (s *Stage) connect(ctx context.Context, e *edge) {
	if s.inst == nil {
		e.relay.use(nil)
		return
	}
	s.callers.ready(ctx, e.source)
	d, err := s.callers.dialer(ctx, e.source)
	if err != nil {
		e.relay.use(nil) // the calls of the walk-through say why
		return
	}
	e.relay.use(&d)
}

// StopGateway ends the process of a gateway, if it runs, as its operator would.
func (s *Stage) StopGateway(source string) error {
	if e := s.edges[source]; e != nil {
		return e.stop()
	}
	return nil
}

func (e *edge) stop() error {
	if e.cmd == nil {
		return nil
	}
	cmd := e.cmd
	e.cmd, e.plain = nil, ""
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", e.source, err)
	}
	t := time.NewTimer(leaving)
	defer t.Stop()
	select {
	case err := <-e.ended:
		if err != nil {
			return fmt.Errorf("%s ended: %w\n%s", e.source, err, e.log.text())
		}
		return nil
	case <-t.C:
		err := fmt.Errorf("%s did not end within %s", e.source, leaving)
		err = errors.Join(err, cmd.Process.Kill())
		<-e.ended
		return err
	}
}

// close ends the process and its way out.
func (e *edge) close() error { return errors.Join(e.stop(), e.relay.close()) }

// Logs waits until the gateway that was started last at a source has written a
// line that matches, and returns the line and what the groups match.
func (s *Stage) Logs(ctx context.Context, source, pattern string) ([]string, error) {
	e, err := s.edge(source)
	if err != nil {
		return nil, err
	}
	return e.logs(ctx, arriving, pattern)
}

// edge is the gateway that was started at a source. Without its address
// selfhosted/NAME will do, as long as there is one.
func (s *Stage) edge(source string) (*edge, error) {
	if e := s.edges[source]; e != nil {
		return e, nil
	}
	var found []*edge
	for _, e := range s.edges {
		if member(e.source) == source {
			found = append(found, e)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return nil, fmt.Errorf("no gateway, or more than one, was started at %s", source)
}

func (e *edge) logs(ctx context.Context, limit time.Duration, pattern string) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	var found []string
	err = until(ctx, limit, func() error {
		for l := range strings.Lines(e.log.text()) {
			l = strings.TrimSpace(l)
			if found = re.FindStringSubmatch(l); found != nil {
				found[0] = l
				return nil
			}
		}
		return fmt.Errorf("%s has not written %q:\n%s", e.source, pattern, e.log.text())
	})
	return found, err
}

// until does something again and again until it succeeds or the limit is over;
// then its last error is returned.
func until(ctx context.Context, limit time.Duration, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(polling)
	defer tick.Stop()
	for {
		err := do()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// Ask sends a request to a self-hosted gateway itself, over loopback: usage
// SOURCE [-until STATUS] PATH. What it answers is in Last; there is no
// explanation of it.
func (s *Stage) Ask(ctx context.Context, args []string) error {
	want, usage := "", errors.New("usage: ask SOURCE [-until STATUS] PATH")
	if len(args) == 4 && args[1] == "-until" {
		want, args = args[2], []string{args[0], args[3]}
	}
	if len(args) != 2 || !strings.HasPrefix(args[1], "/") {
		return usage
	}
	e, err := s.edge(args[0])
	if err != nil {
		return err
	}
	if e.plain == "" {
		return fmt.Errorf("%s does not run", args[0])
	}
	q := answer.Question{From: "the machine beside it", Method: http.MethodGet, URL: "http://" + e.plain + args[1]}
	try := func() error {
		seen, resp, err := exchangeOnce(ctx, q)
		if err != nil {
			return err
		}
		s.Last = Outcome{Question: q, Seen: seen, Response: resp, Answer: answer.Answer{Verdict: answer.Unknown}}
		if want != "" && fmt.Sprint(seen.Status) != want {
			return fmt.Errorf("%s answers %s, not %s\n%s", args[0], Describe(seen), want, e.log.text())
		}
		return nil
	}
	if want == "" {
		return try()
	}
	return until(ctx, arriving, try)
}

// exchangeOnce sends one request over a connection of its own.
func exchangeOnce(ctx context.Context, q answer.Question) (answer.Symptom, *Response, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return exchange(ctx, &http.Transport{DisableKeepAlives: true}, q)
}

// Plane takes the management plane away, with the networks and gateways that it
// serves, or brings it back on the same data: down, up.
func (s *Stage) Plane(ctx context.Context, way string) error {
	switch way {
	case "down":
		for _, e := range s.edges {
			e.relay.use(nil)
		}
		return s.down()
	case "up":
		if err := s.up(ctx); err != nil {
			return err
		}
		for _, e := range s.edges {
			s.connect(ctx, e)
		}
		return nil
	}
	return errors.New("usage: plane down|up")
}

// Clock puts the clock of the management plane ahead.
func (s *Stage) Clock(ahead string) error {
	d, err := time.ParseDuration(ahead)
	if err != nil {
		return err
	}
	s.ahead.Store(int64(d))
	return nil
}

// journal keeps what a process writes.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// maxJournal bounds it.
const maxJournal = 4 << 20

// Write appends.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.b.Len()+len(p) > maxJournal {
		return 0, io.ErrShortWrite
	}
	return j.b.Write(p)
}

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}
