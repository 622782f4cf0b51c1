// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"postern.dev/postern/engine/network/user"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

func TestAHubWhosePortIsTakenIsReportedUntilItIsUp(t *testing.T) {
	f, err := user.New(user.Options{Listen: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }() // closed below, if all goes well
	port := taken.LocalAddr().(*net.UDPAddr).Port
	hub := func(name string, port int) *snapshot.Network {
		return &snapshot.Network{Name: name, Hub: snapshot.Hub{PrivateKey: model.NewSecret(mustKey(t).Reveal()), Port: port}}
	}
	s := &snapshot.Snapshot{Networks: map[string]*snapshot.Network{"corp": hub("corp", port), "other": hub("other", 0)}}
	if err := f.Apply(s); err == nil {
		t.Error("a hub without a socket is no error")
	}
	for range 2 {
		failures := f.Failures()
		if len(failures) != 1 || failures["corp"] == nil || !strings.Contains(failures["corp"].Error(), "address already in use") {
			t.Fatalf("%v", failures)
		}
		if err := f.Retry(); err == nil {
			t.Error("the port is still taken, and Retry found no fault")
		}
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Retry(); err != nil {
		t.Fatal(err)
	}
	if len(f.Failures()) > 0 {
		t.Errorf("%v", f.Failures())
	}
	if a, ok := f.HubAddr("corp"); !ok || int(a.Port()) != port {
		t.Errorf("the hub is at %v", a)
	}
}
