// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Command lura is a gateway on Lura, the engine of KrakenD, with what KrakenD
// puts around it: limits, a log and metrics. Keys are KrakenD's only in its
// paid edition; here they are a map.
package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/luraproject/lura/v2/config"
	"github.com/luraproject/lura/v2/encoding"
	"github.com/luraproject/lura/v2/logging"
	"github.com/luraproject/lura/v2/proxy"
	router "github.com/luraproject/lura/v2/router/gin"
	"github.com/luraproject/lura/v2/transport/http/server"

	"postern.dev/postern/test/bench/peers/programs/task"
)

func main() {
	t := task.Read()
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.Use(identify)
	if len(t.Keys) > 0 {
		g, err := newGuard(t)
		if err != nil {
			task.End(err)
		}
		engine.Use(g.log, g.admit)
	}
	logger, err := logging.NewLogger("ERROR", gin.DefaultErrorWriter, "")
	if err != nil {
		task.End(err)
	}
	c, err := configure(t)
	if err != nil {
		task.End(err)
	}
	router.NewFactory(router.Config{
		Engine: engine, HandlerFactory: router.EndpointHandler,
		ProxyFactory: proxy.DefaultFactory(logger), Logger: logger, RunServer: server.RunServer,
	}).New().Run(c)
}

// configure is what a file of KrakenD's would say.
func configure(t *task.Task) (config.ServiceConfig, error) {
	_, text, err := net.SplitHostPort(t.Listen)
	if err != nil {
		return config.ServiceConfig{}, err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return config.ServiceConfig{}, err
	}
	c := config.ServiceConfig{
		Version: config.ConfigVersion, Name: "bench", Address: "127.0.0.1", Port: port,
		Timeout: 30 * time.Second, IdleTimeout: 300 * time.Second, ReadHeaderTimeout: 30 * time.Second,
		MaxIdleConns: 256, MaxIdleConnsPerHost: 256, IdleConnTimeout: 300 * time.Second, DisableCompression: true,
		Host: []string{"http://" + t.Backend}, OutputEncoding: encoding.NOOP,
	}
	if t.Certificate != "" {
		c.TLS = &config.TLS{
			Keys:             []config.TLSKeyPair{{PublicKey: t.Certificate, PrivateKey: t.Key}},
			CurvePreferences: []uint16{uint16(tls.X25519)}, // not among its own
		}
	}
	for _, p := range t.Prefixes {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			c.Endpoints = append(c.Endpoints, &config.EndpointConfig{
				Endpoint: p + "/items", Method: method, OutputEncoding: encoding.NOOP, HeadersToPass: []string{"*"},
				Backend: []*config.Backend{{URLPattern: "/items", Method: method, Encoding: encoding.NOOP}},
			})
		}
	}
	return c, c.Init()
}
