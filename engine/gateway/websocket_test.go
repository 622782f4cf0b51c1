// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/engine/gateway"
)

const sockets = `{"openapi":"3.0.1","paths":{"/chat":{"get":{"x-amazon-apigateway-integration":{"type":"http_proxy","httpMethod":"GET","uri":"http://chat.example/rooms"}}}}}`

// The opcodes of RFC 6455.
const (
	opText  = 1
	opClose = 8
)

// frame writes a frame of a WebSocket, as a client masked.
func frame(w io.Writer, op byte, payload string, masked bool) error {
	b := []byte{0x80 | op, byte(len(payload))}
	if !masked {
		_, err := w.Write(append(b, payload...))
		return err
	}
	mask := [4]byte{1, 2, 3, 4}
	b[1] |= 0x80
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i&3])
	}
	_, err := w.Write(b)
	return err
}

// unframe reads a frame of less than 126 bytes.
func unframe(r io.Reader) (op byte, payload string, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, "", err
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		if _, err := io.ReadFull(r, mask[:]); err != nil {
			return 0, "", err
		}
	}
	b := make([]byte, head[1]&0x7f)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, "", err
	}
	for i := range b {
		b[i] ^= mask[i&3]
	}
	return head[0] & 0x0f, string(b), nil
}

func accepted(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// chat is a backend of WebSockets, whose connections are handed to talk once they
// are open.
func chat(t *testing.T, l *lab, talk func(c net.Conn, in *bufio.Reader)) (dials func() int) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // it was closed
			}
			wait.Go(func() {
				defer c.Close()
				in := bufio.NewReader(c)
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				if r.URL.Path != "/rooms" || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" || r.Header.Get("Sec-WebSocket-Version") != "13" {
					fmt.Fprintf(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
					return
				}
				fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accepted(r.Header.Get("Sec-WebSocket-Key")))
				talk(c, in)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wait.Wait() })
	var mu sync.Mutex
	n := 0
	l.dial = func(ctx context.Context, _, _ string, _ uint16) (net.Conn, error) {
		mu.Lock()
		n++
		mu.Unlock()
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	}
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// repeat says again what it hears, and says goodbye as it is said to it.
func repeat(c net.Conn, in *bufio.Reader) {
	for {
		op, text, err := unframe(in)
		if err != nil || frame(c, op, text, false) != nil || op == opClose {
			return
		}
	}
}

// websocket opens a WebSocket, and more that is sent at once with the request.
func (l *lab) websocket(t *testing.T, through bool, host, more string) (*tls.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	c := tls.Client(l.connect(t, through, 443), &tls.Config{RootCAs: l.ca.pool, ServerName: host, NextProtos: []string{"http/1.1"}})
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	_, err := fmt.Fprintf(c, "GET /prod/chat HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n%s", host, key, more)
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode == 101 && res.Header.Get("Sec-WebSocket-Accept") != accepted(key) {
		t.Errorf("the backend's answer to the key is %q", res.Header.Get("Sec-WebSocket-Accept"))
	}
	return c, in, res
}

func TestAWebSocketIsCarried(t *testing.T) {
	l := newLab(t, sockets)
	chat(t, l, repeat)
	for _, f := range []struct {
		through bool
		host    string
	}{{false, pubID + restOf}, {true, privID + restOf}} {
		var first strings.Builder
		if err := frame(&first, opText, "sent with the request", true); err != nil {
			t.Fatal(err)
		}
		c, in, res := l.websocket(t, f.through, f.host, first.String())
		if res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Content-Type") != "" {
			t.Fatalf("%s: %d %v", f.host, res.StatusCode, res.Header)
		}
		if _, text, err := unframe(in); err != nil || text != "sent with the request" {
			t.Errorf("%q %v", text, err)
		}
		for i := range 20 {
			want := fmt.Sprint("message ", i)
			if err := frame(c, opText, want, true); err != nil {
				t.Fatal(err)
			}
			if _, text, err := unframe(in); err != nil || text != want {
				t.Fatalf("%q %v", text, err)
			}
		}
		bye := string(binary.BigEndian.AppendUint16(nil, 4001)) + "enough"
		if err := frame(c, opClose, bye, true); err != nil {
			t.Fatal(err)
		}
		if op, text, err := unframe(in); err != nil || op != opClose || text != bye {
			t.Errorf("opcode %d, %q, %v", op, text, err)
		}
		if _, _, err := unframe(in); err != io.EOF {
			t.Errorf("after goodbye: %v", err)
		}
	}
}

func TestOneSideOfAWebSocketMayEnd(t *testing.T) {
	l := newLab(t, sockets)
	chat(t, l, func(c net.Conn, in *bufio.Reader) {
		if _, err := io.Copy(io.Discard, in); err == nil { // to the end of what the client sends
			_ = frame(c, opText, "last words", false) // the client tells
		}
	})
	c, in, _ := l.websocket(t, false, pubID+restOf, "")
	if err := frame(c, opText, "mine", true); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, text, err := unframe(in); err != nil || text != "last words" {
		t.Errorf("%q %v", text, err)
	}
	if _, _, err := unframe(in); err != io.EOF {
		t.Errorf("%v", err)
	}
}

func TestPoliciesHoldForWebSockets(t *testing.T) {
	l := newLab(t, sockets)
	dials := chat(t, l, repeat)
	_, in, res := l.websocket(t, false, privID+restOf, "")
	b, err := io.ReadAll(io.LimitReader(in, res.ContentLength))
	if err != nil || res.StatusCode != 403 {
		t.Errorf("%d %s %v", res.StatusCode, b, err)
	}
	if n := dials(); n != 0 {
		t.Errorf("the backend is called %d times", n)
	}
}

func TestASilentWebSocketEnds(t *testing.T) {
	l := newLabWith(t, sockets, func(o *gateway.Options) { o.Upstream.Tunnel = 50 * time.Millisecond })
	ended := make(chan error, 1)
	chat(t, l, func(_ net.Conn, in *bufio.Reader) {
		_, err := in.ReadByte()
		ended <- err
	})
	_, in, res := l.websocket(t, false, pubID+restOf, "")
	if res.StatusCode != 101 {
		t.Fatalf("%d", res.StatusCode)
	}
	if _, err := in.ReadByte(); err == nil {
		t.Error("the client hears something")
	}
	if err := <-ended; err == nil {
		t.Error("the backend hears something")
	}
}

func TestOtherProtocolsAreNotChangedTo(t *testing.T) {
	l := newLab(t, sockets)
	seen := make(chan string, 1)
	l.dial = func(context.Context, string, string, uint16) (net.Conn, error) {
		a, b := net.Pipe()
		go func() {
			defer b.Close()
			r, err := http.ReadRequest(bufio.NewReader(b))
			if err != nil {
				seen <- err.Error()
				return
			}
			seen <- r.Header.Get("Upgrade") + r.Header.Get("Connection") + r.Header.Get("HTTP2-Settings")
			_, _ = io.WriteString(b, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // the client tells
		}()
		return a, nil
	}
	res, _ := l.get(t, false, "GET", "https://"+l.pub.Host+"/prod/chat", map[string]string{"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}, "")
	if got := <-seen; res.StatusCode != 200 || got != "" {
		t.Errorf("%d, and the backend saw %q", res.StatusCode, got)
	}
}
