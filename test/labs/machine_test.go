// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package labs

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds a command that should end soon by itself.
const patience = 40 * time.Second

// unique is a name that no other lab on this machine has.
func unique() string {
	b := make([]byte, 3)
	rand.Read(b) // never fails
	return "plab" + hex.EncodeToString(b)
}

// machine is a network namespace and what runs in it.
type machine struct {
	t    *testing.T
	name string // of the namespace
	dir  string
	// tunnels are its WireGuard interfaces, by the file they were made from.
	tunnels []string
}

// newMachine makes a namespace that ends with the test, and everything in it.
func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	m := &machine{t: t, name: name, dir: t.TempDir()}
	m.admin("netns", "add", name)
	t.Cleanup(m.end)
	m.admin("-n", name, "link", "set", "lo", "up")
	if err := os.MkdirAll(m.etc(), 0o755); err != nil {
		t.Fatal(err)
	}
	m.resolver("")
	return m
}

// etc is the folder that stands over /etc in the namespace.
func (m *machine) etc() string { return filepath.Join("/etc/netns", m.name) }

// resolver names the machine's DNS server.
func (m *machine) resolver(address string) {
	m.t.Helper()
	text := "# none\n"
	if address != "" {
		text = "nameserver " + address + "\n"
	}
	if err := os.WriteFile(filepath.Join(m.etc(), "resolv.conf"), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// admin runs ip outside of the namespace.
func (m *machine) admin(args ...string) {
	m.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		m.t.Fatalf("ip %s: %v %s", strings.Join(args, " "), err, out)
	}
}

// ip runs ip in the namespace.
func (m *machine) ip(args ...string) {
	m.t.Helper()
	m.admin(append([]string{"-n", m.name}, args...)...)
}

// sysctl sets a value below net in the namespace.
func (m *machine) sysctl(name, value string) {
	m.t.Helper()
	m.ok("sh", "-c", `echo "$1" > "/proc/sys/net/$2"`, "sh", value, name)
}

// wire joins two machines by a cable.
func wire(a *machine, aName string, b *machine, bName string) {
	a.t.Helper()
	a.admin("link", "add", aName, "netns", a.name, "type", "veth", "peer", "name", bName, "netns", b.name)
	a.ip("link", "set", aName, "up")
	b.ip("link", "set", bName, "up")
}

// result is how a command ended.
type result struct {
	code     int
	out, err string
}

func (r result) String() string { return fmt.Sprintf("exit %d\n%s%s", r.code, r.out, r.err) }

// command is a command in the namespace, with an environment of its own: what
// this process inherited, proxies above all, is none of the lab's.
func (m *machine) command(ctx context.Context, args ...string) *exec.Cmd {
	// ip netns exec becomes the command, so that its id is the command's.
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", m.name}, args...)...)
	cmd.Dir = m.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":" + filepath.Join(m.dir, "bin"), "LANG=C.UTF-8", "HOME=" + m.dir}
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// run runs a command to its end.
func (m *machine) run(args ...string) result { m.t.Helper(); return m.feed("", args...) }

// feed runs a command with something to read.
func (m *machine) feed(in string, args ...string) result {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := m.command(ctx, args...)
	// Files rather than pipes: what a command leaves running holds them open.
	out, errs := m.file(), m.file()
	defer out.Close()
	defer errs.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), out, errs
	err := cmd.Run()
	r := result{-1, m.read(out), m.read(errs)}
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || ctx.Err() != nil {
		m.t.Fatalf("%s: %v %v %s", strings.Join(args, " "), err, ctx.Err(), r)
	}
	r.code = cmd.ProcessState.ExitCode()
	return r
}

func (m *machine) file() *os.File {
	m.t.Helper()
	f, err := os.CreateTemp(m.dir, "output-")
	if err != nil {
		m.t.Fatal(err)
	}
	return f
}

func (m *machine) read(f *os.File) string {
	m.t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

// ok runs a command that has to succeed and returns what it wrote.
func (m *machine) ok(args ...string) string {
	m.t.Helper()
	r := m.run(args...)
	if r.code != 0 {
		m.t.Fatalf("%s: %s", strings.Join(args, " "), r)
	}
	return r.out
}

// process is a command that runs on.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan string // of the standard output; closed at its end
	ended  chan error
	errs   *os.File
	closed bool
}

// start starts a command that ends with the test at the latest.
func (m *machine) start(cmd *exec.Cmd) *process {
	m.t.Helper()
	p := &process{t: m.t, cmd: cmd, lines: make(chan string, 256), ended: make(chan error, 1)}
	p.errs = m.file()
	cmd.Stderr = p.errs
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		m.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case p.lines <- s.Text():
			default: // nobody reads that much
			}
		}
		close(p.lines)
		p.ended <- cmd.Wait()
	}()
	m.t.Cleanup(p.stop)
	return p
}

// line waits for the next line that the process writes.
func (p *process) line() string {
	p.t.Helper()
	select {
	case l, ok := <-p.lines:
		if ok {
			return l
		}
		p.t.Fatalf("%s ended: %s", p.cmd, p.stderr())
	case <-time.After(patience):
		p.t.Fatalf("%s says nothing: %s", p.cmd, p.stderr())
	}
	return ""
}

// says waits until a line of the standard error contains text.
func (p *process) says(text string) {
	p.t.Helper()
	if !eventually(func() bool { return strings.Contains(p.stderr(), text) }) {
		p.t.Fatalf("%s does not say %q: %s", p.cmd, text, p.stderr())
	}
}

func (p *process) stderr() string {
	b, err := os.ReadFile(p.errs.Name())
	if err != nil {
		p.t.Error(err)
	}
	return string(b)
}

// stop ends the process and waits for it.
func (p *process) stop() {
	if p.closed {
		return
	}
	p.closed = true
	defer p.errs.Close()
	p.in.Close() // it may be closed already
	pid := p.cmd.Process.Pid
	if a := p.cmd.SysProcAttr; a != nil && a.Setpgid {
		pid = -pid // with what it started
	}
	_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended
	select {
	case err := <-p.ended:
		// Some commands take the signal for a proper end, others die of it.
		if e, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || e.Exited()) {
			p.t.Errorf("%s: %v: %s", p.cmd, err, p.stderr())
		}
	case <-time.After(patience):
		p.t.Errorf("%s does not end on SIGTERM: %s", p.cmd, p.stderr())
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// eventually asks until the answer is yes, for a bounded time.
func eventually(yes func() bool) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for {
		if yes() {
			return true
		}
		select {
		case <-tick.C:
		case <-end:
			return false
		}
	}
}

// serves runs a web server in the namespace.
func (m *machine) serves(at string) *process {
	m.t.Helper()
	self, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := m.command(context.Background(), self)
	cmd.Env = append(cmd.Env, role+"="+at)
	p := m.start(cmd)
	if l := p.line(); l != "listening" {
		m.t.Fatalf("web server: %s", l)
	}
	return p
}

// end removes the namespace and everything that still runs in it.
func (m *machine) end() {
	for _, file := range m.tunnels {
		// The userspace implementation ends with its interface.
		_ = exec.Command("ip", "-n", m.name, "link", "del", interfaceOf(file)).Run()
	}
	gone := eventually(func() bool { return len(m.pids()) == 0 })
	for _, pid := range m.pids() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if !gone {
		m.t.Errorf("processes outlived their work in %s", m.name)
	}
	if out, err := exec.Command("ip", "netns", "del", m.name).CombinedOutput(); err != nil {
		m.t.Errorf("ip netns del %s: %v %s", m.name, err, out)
	}
	if err := os.RemoveAll(m.etc()); err != nil {
		m.t.Error(err)
	}
}

// pids are the processes in the namespace: all of them this lab's.
func (m *machine) pids() []int {
	out, err := exec.Command("ip", "netns", "pids", m.name).Output()
	if err != nil {
		m.t.Errorf("ip netns pids %s: %v", m.name, err)
	}
	var pids []int
	for _, f := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func interfaceOf(file string) string { return strings.TrimSuffix(filepath.Base(file), ".conf") }

// stands in for resolvconf, which wg-quick hands a file's DNS line to.
const resolvconf = "#!/bin/sh\ncase $1 in -a) cat ;; *) echo '# none' ;; esac > /etc/resolv.conf\n"

// tunnel brings up a WireGuard interface from a file as postern config
// wireguard prints it, with wg-quick, and returns the file's name.
func (m *machine) tunnel(conf string) string {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Join(m.dir, "bin"), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.dir, "bin", "resolvconf"), []byte(resolvconf), 0o755); err != nil {
		m.t.Fatal(err)
	}
	// Control sockets of all namespaces stand in one folder: the name of an
	// interface has to be unique on the machine.
	file := filepath.Join(m.dir, unique()+".conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.tunnels = append(m.tunnels, file)
	m.ok("env", "WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go", "LOG_LEVEL=error", "wg-quick", "up", file)
	return file
}

// untunnel takes an interface down.
func (m *machine) untunnel(file string) {
	m.t.Helper()
	m.ok("wg-quick", "down", file)
}
