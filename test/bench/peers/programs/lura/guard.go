// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/time/rate"

	"postern.dev/postern/test/bench/peers/programs/task"
)

// identify gives each request an id.
func identify(c *gin.Context) {
	id := rand.Text()
	c.Request.Header.Set("X-Request-Id", id)
	c.Header("X-Request-Id", id)
	c.Set("id", id)
	c.Next()
}

type consumer struct {
	name  string
	limit *rate.Limiter
}

// guard knows who may call, and tells of everybody who has.
type guard struct {
	consumers map[string]*consumer
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	mu        sync.Mutex
	out       *bufio.Writer
}

func newGuard(t *task.Task) (*guard, error) {
	f, err := os.OpenFile(t.AccessLog, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	g := &guard{
		consumers: map[string]*consumer{},
		requests:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, []string{"route", "method", "status"}),
		seconds:   prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "request_seconds"}, []string{"route", "method"}),
		out:       bufio.NewWriterSize(f, 64<<10),
	}
	for i, k := range t.Keys {
		g.consumers[k] = &consumer{"consumer" + strconv.Itoa(i), rate.NewLimiter(rate.Limit(t.Rate), int(t.Rate))}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(g.requests, g.seconds)
	go func() {
		s := &http.Server{Addr: t.Metrics, Handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), ReadHeaderTimeout: time.Minute}
		task.End(s.ListenAndServe())
	}()
	go func() {
		for range time.Tick(time.Second) {
			g.mu.Lock()
			err := g.out.Flush()
			g.mu.Unlock()
			if err != nil {
				task.End(fmt.Errorf("write the access log: %w", err))
			}
		}
	}()
	return g, nil
}

// admit lets those through that have a key, as often as they may.
func (g *guard) admit(c *gin.Context) {
	who := g.consumers[c.Request.Header.Get("X-Api-Key")]
	if who == nil {
		c.AbortWithStatus(http.StatusForbidden)
		return
	}
	c.Set("consumer", who.name)
	if !who.limit.Allow() {
		c.AbortWithStatus(http.StatusTooManyRequests)
		return
	}
	c.Request.Header.Del("X-Api-Key")
	c.Next()
}

type entry struct {
	Time      time.Time `json:"time"`
	RequestID string    `json:"requestId"`
	IP        string    `json:"ip"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Protocol  string    `json:"protocol"`
	Status    int       `json:"status"`
	Bytes     int       `json:"bytes"`
	Seconds   float64   `json:"seconds"`
	Consumer  string    `json:"consumer"`
	Agent     string    `json:"agent"`
}

func (g *guard) log(c *gin.Context) {
	began := time.Now()
	c.Next()
	took := time.Since(began).Seconds()
	status := c.Writer.Status()
	route := c.FullPath()
	g.requests.WithLabelValues(route, c.Request.Method, strconv.Itoa(status)).Inc()
	g.seconds.WithLabelValues(route, c.Request.Method).Observe(took)
	line, err := json.Marshal(entry{
		began, c.GetString("id"), c.ClientIP(), c.Request.Method, c.Request.URL.Path, c.Request.Proto,
		status, c.Writer.Size(), took, c.GetString("consumer"), c.Request.UserAgent(),
	})
	if err != nil {
		return // a time and texts always are JSON
	}
	g.mu.Lock()
	_, _ = g.out.Write(append(line, '\n')) // Flush tells of errors
	g.mu.Unlock()
}
