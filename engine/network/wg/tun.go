// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"errors"
	"net"
	"os"
	"sync"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/tun"
)

// carrierTun shows a Carrier to the device as the TUN interface it expects.
type carrierTun struct {
	c      Carrier
	events chan tun.Event
	once   sync.Once
}

var _ tun.Device = (*carrierTun)(nil)

func newTun(c Carrier) *carrierTun {
	return &carrierTun{c: c, events: make(chan tun.Event)}
}

func (t *carrierTun) File() *os.File           { return nil }
func (t *carrierTun) Name() (string, error)    { return "postern", nil }
func (t *carrierTun) MTU() (int, error)        { return t.c.MTU(), nil }
func (t *carrierTun) Events() <-chan tun.Event { return t.events }
func (t *carrierTun) BatchSize() int           { return conn.IdealBatchSize }

// Read translates the end of the carrier into the one the device knows.
func (t *carrierTun) Read(bufs [][]byte, sizes []int, off int) (int, error) {
	n, err := t.c.ReadBatch(bufs, sizes, off)
	if errors.Is(err, net.ErrClosed) {
		err = os.ErrClosed
	}
	return n, err
}

func (t *carrierTun) Write(bufs [][]byte, off int) (int, error) { return t.c.WriteBatch(bufs, off) }

func (t *carrierTun) Close() error {
	var err error
	t.once.Do(func() {
		close(t.events)
		err = t.c.Close()
	})
	return err
}
