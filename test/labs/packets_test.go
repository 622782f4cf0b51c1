// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package labs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fullPackets carries bodies through tunnels and over ways of different widths.
func (s *services) fullPackets(t *testing.T) {
	body := filepath.Join(s.clerk.dir, "body")
	if err := os.WriteFile(body, make([]byte, million), 0o644); err != nil {
		t.Fatal(err)
	}
	carries := func(name string) {
		t.Helper()
		base := "https://main.postern.internal/" + name + "/"
		a := s.clerk.curl(s.ca, "--max-time", "20", "-o", "/dev/null", "-w", "HTTP/1.1 200 \r\n\r\n%{http_code} %{size_download}", base+"large")
		if a.Body != fmt.Sprintf("200 %d", million) {
			t.Errorf("from %s: %s", name, a.raw)
		}
		a = s.clerk.curl(s.ca, "--max-time", "20", "-H", "Expect:", "--data-binary", "@"+body, base+"cgi-bin/count")
		if a.Status != 200 || a.Body != fmt.Sprintf("%s sent %d bytes\n", nodeAddress, million) {
			t.Errorf("to %s: %s", name, a.raw)
		}
	}
	// The tunnel of stock carries 1280 bytes, those of orders and the router 1420.
	for _, name := range []string{"orders", "stock", "store"} {
		carries(name)
	}
	// The cable beneath the tunnel of orders carries less than the tunnel.
	s.hub.ip("link", "set", "to-orders", "mtu", "1360")
	s.orders.ip("link", "set", "up0", "mtu", "1360")
	carries("orders")
	// The way from the router to the store carries less than the Link. What a
	// router says of that has to come from an address of its site.
	s.router.ip("addr", "add", "192.168.50.1/32", "dev", interfaceOf(s.router.tunnels[0]))
	s.router.ip("route", "replace", "192.168.50.0/24", "dev", "lan0", "src", "192.168.50.1", "mtu", "lock", "1300")
	carries("store")

	// A caller that sends more than a tunnel carries is told so.
	ping := func(size string) string {
		return s.clerk.run("ping", "-n", "-M", "do", "-c", "1", "-W", "1", "-s", size, "10.20.2.11").out
	}
	s.clerk.ip("link", "set", interfaceOf(s.clerkTunnel), "mtu", "1500")
	if out := ping("1000"); !strings.Contains(out, " 1 received") {
		t.Errorf("ping: %s", out)
	}
	if out := ping("1400"); !strings.Contains(out, "Frag needed and DF set (mtu = 1420)") {
		t.Errorf("ping with 1428 bytes: %s", out)
	}
	carries("orders")
}
