# make help lists the targets.

GO       ?= go
TOOL     := $(GO) tool -modfile=tools/go.mod
SECONDS  ?= 20
CASES    ?= 10000
REAL     ?= 20000
KILLS    ?= 100
GATEWAYS ?= 2000
BACKUPS  ?= 500
SWAPS    ?= 2000
SOAK     ?= 600
SCENARIO ?= all
BESIDE   ?= all
ROUNDS   ?= 5
PACKAGES ?= ./...

# Folders with tests of one sort, found by what stands in them.
fuzzed   = $(shell grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n 1 dirname | sort -u)
drawn    = $(shell grep -rl --include='*_test.go' 'pgregory.net/rapid' . | xargs -r -n 1 dirname | sort -u)
golden   = $(shell grep -rl --include='*_test.go' '^var update = flag' . | xargs -r -n 1 dirname | sort -u)
measured = $(shell grep -rl --include='*_test.go' '^func Benchmark' . | xargs -r -n 1 dirname | sort -u)

.DEFAULT_GOAL := help
.PHONY: help build test lint fuzz fuzz-long bench benchmarks lab oracle acme connect h2spec property kills backups swaps soak deploy gateways golden demo ci

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/postern, without cgo
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/postern ./cmd/postern

test: ## all tests that need neither root nor a download (PACKAGES=./...)
	$(GO) test $(PACKAGES)

lint: ## go vet, staticcheck, gofumpt
	$(GO) vet $(PACKAGES)
	$(TOOL) staticcheck $(PACKAGES)
	@out=$$($(TOOL) gofumpt -l .); if [ -n "$$out" ]; then echo "gofumpt would change:"; echo "$$out"; exit 1; fi

fuzz: ## every fuzz target in turn, SECONDS=20 each
	@for dir in $(fuzzed); do \
	  for target in $$($(GO) test -list '^Fuzz' $$dir | grep '^Fuzz'); do \
	    echo "== $$dir $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(SECONDS)s -fuzzminimizetime 10x $$dir || exit 1; \
	  done; \
	done

fuzz-long: ## every fuzz target in turn, 600 s each
	$(MAKE) fuzz SECONDS=600

bench: ## Postern beside other gateways: SCENARIO=a,b BESIDE=nginx,postern ROUNDS=5; needs nginx and haproxy
	$(GO) run ./test/bench/peers -scenario $(SCENARIO) -gateways $(BESIDE) -rounds $(ROUNDS)

benchmarks: ## every benchmark in the code, six times, for benchstat
	$(GO) test -run '^$$' -bench . -benchmem -count 6 $(measured)

lab: ## network namespaces and stock clients; needs root
	POSTERN_LAB=1 $(GO) test -count=1 -timeout 15m -parallel 4 ./test/labs/...

oracle: ## the IAM evaluator against an independent simulator; needs node
	cd test/conformance/iam && npm ci --no-audit --no-fund
	POSTERN_ORACLE=1 $(GO) test -count=1 -timeout 20m ./test/conformance/iam

acme: ## certificates from Pebble, Let's Encrypt's authority for tests; downloads it
	POSTERN_ACME=1 $(GO) test -count=1 -timeout 5m ./test/conformance/acme

connect: ## the Connect and gRPC conformance suite through a Gateway; downloads it
	POSTERN_CONNECT=1 $(GO) test -count=1 -timeout 20m -v ./test/conformance/connect

h2spec: ## the 145 cases of h2spec against a Gateway; downloads it
	POSTERN_H2SPEC=1 $(GO) test -count=1 -timeout 5m -v ./test/conformance/h2spec

property: ## CASES=10000 drawn cases of each property, REAL=20000 of explain against reality
	@for dir in $(drawn); do \
	  POSTERN_SEED=0 $(GO) test -count=1 -timeout 2h $$dir -rapid.checks=$(CASES) || exit 1; \
	done
	POSTERN_CASES=$(REAL) $(GO) test -count=1 -timeout 2h -v ./test/property

kills: ## the store against KILLS=100 kills
	POSTERN_KILLS=$(KILLS) $(GO) test -count=1 -timeout 30m -run 'Kill' -v ./store/etcd

backups: ## a self-hosted gateway's backup against BACKUPS=500 kills while it is written
	POSTERN_BACKUP_KILLS=$(BACKUPS) $(GO) test -count=1 -timeout 10m -run Kill -v ./selfhosted/backup

gateways: ## GATEWAYS=2000 self-hosted gateways connected to one management plane
	POSTERN_GATEWAYS=$(GATEWAYS) $(GO) test -count=1 -timeout 10m -run 'EveryGateway' -v ./control

swaps: ## SWAPS=2000 changes of the configuration under load, attacks, and 10,000 idle connections
	POSTERN_SWAPS=$(SWAPS) POSTERN_IDLE=10000 $(GO) test -count=1 -timeout 30m -v -skip Soak ./test/robust

soak: ## everything at once for SOAK=600 seconds
	POSTERN_SOAK=$(SOAK) $(GO) test -count=1 -timeout 2h -v -run Soak ./test/robust

deploy: ## the manifests in deploy/ against the types of Kubernetes; downloads them
	cd deploy/check && $(GO) test -count=1 ./...

golden: ## write what is into the golden files; read the diff
	$(GO) test $(golden) -update

demo: ## run every walk-through and end
	$(GO) run ./cmd/postern demo --once

ci: ## what CI runs, on Debian 12 as root
	.ci/run
