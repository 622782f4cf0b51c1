// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Command suite is h2spec over TLS, for which every name is at 127.0.0.1. Its
// arguments are host, port, path, and the file for the report.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"
	"golang.org/x/net/dns/dnsmessage"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "suite: host, port, path and report are wanted")
		os.Exit(2)
	}
	port, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		os.Exit(2)
	}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go resolve(server)
		return client, nil
	}}
	ok, err := h2spec.Run(&config.Config{
		Host: os.Args[1], Port: port, Path: os.Args[3], JUnitReport: os.Args[4],
		Timeout: 10 * time.Second, MaxHeaderLen: 4000, TLS: true, Insecure: true,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

// resolve answers queries, as they go over TCP, that every name is at 127.0.0.1.
func resolve(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf) // the resolver writes a query in one go
		if err != nil || n < 2 {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[2:n]) != nil || len(m.Questions) != 1 {
			return
		}
		m.Response, m.Additionals = true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60},
				Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			}}
		}
		out, err := m.Pack()
		if err != nil {
			return
		}
		if _, err := c.Write(append([]byte{byte(len(out) >> 8), byte(len(out))}, out...)); err != nil {
			return
		}
	}
}
