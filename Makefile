# Daypass. A bare `make` prints this help.
#
# Each target that has a line starting with `##` above it shows in the help.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-builtin-rules
.DEFAULT_GOAL := help

# Go stamps the version from git, and stops where git refuses, as in a clone that another user owns.
export GOFLAGS := $(GOFLAGS) -buildvcs=$(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)
# Time zones are built in: policies speak of them, and a small image may not have any.
GOBUILD := CGO_ENABLED=0 go build -trimpath -tags timetzdata -ldflags '-s -w'

FUZZTIME     ?= 60s
CRASH_ROUNDS ?= 200
CHAOS_TIME   ?= 5m
SOAK_TIME    ?= 20m

# Rooms whose tests drive binaries that they build, or read files: the race detector would see nothing there.
DRIVING := ./docs ./internal/arch ./internal/bench ./internal/chaos ./internal/crash ./internal/demo ./internal/rig

# Rooms whose tests take seconds also under the race detector: for `make check`.
FAST := ./secret/... ./api/... ./ledger/... ./identity/... ./target/targettest/... ./client/... \
        ./internal/access/... ./internal/agent/... ./internal/broker/... ./internal/fault/... ./internal/keyring/... \
        ./internal/lease/... ./internal/policy/... ./internal/revoker/... ./internal/source/...

## help: print this help
.PHONY: help
help:
	@echo "Daypass: make TARGET"
	@echo
	@sed -n 's/^## \([a-z-]*\): \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'
	@echo
	@echo "Settings: FUZZTIME=$(FUZZTIME) CRASH_ROUNDS=$(CRASH_ROUNDS) CHAOS_TIME=$(CHAOS_TIME) CHAOS_SEED=… CHAOS_RACE=… SOAK_TIME=$(SOAK_TIME)"

## build: build bin/daypass, static and without paths of this machine
.PHONY: build
build:
	$(GOBUILD) -o bin/daypass ./cmd/daypass

## demo: build, then show the whole job on real servers, in under a minute
.PHONY: demo
demo: build bin/demo
	@bin/demo

## playground: start a throwaway database and issuer to try things by hand (see the tutorial)
.PHONY: playground
playground: build bin/demo
	@bin/demo -playground playground

## playground-cloud: the same with a Kubernetes cluster and a cloud (see the tutorial of two clouds)
.PHONY: playground-cloud
playground-cloud: DEPENDENCIES := cloud
playground-cloud: build bin/demo
	@bin/demo -playground playground -cloud

DEPENDENCIES := demo
.PHONY: bin/demo
bin/demo:
	@scripts/install-deps $(DEPENDENCIES)
	@$(GOBUILD) -o bin/testissuer ./internal/testissuer/cmd/testissuer
	@$(GOBUILD) -o bin/demo ./internal/demo

## test: install what the tests need, then run all of them
.PHONY: test
test:
	@scripts/install-deps test
	go test -race -timeout 30m $$(go list ./... | grep -vxF "$$(go list $(DRIVING))")
	go test -timeout 30m $(DRIVING)

## check: format, vet, lint, architecture and the race detector on the fast rooms
.PHONY: check
check: format vet lint
	go test ./internal/arch ./docs
	go test -race $(FAST)

.PHONY: format
format:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt these files:"; echo "$$unformatted"; exit 1; fi

.PHONY: vet
vet:
	go vet ./...

## lint: run the pinned linter (the first run builds it, which takes minutes)
.PHONY: lint
lint: bin/golangci-lint
	bin/golangci-lint run ./...

bin/golangci-lint: tools/go.mod tools/go.sum
	cd tools && CGO_ENABLED=0 go build -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

## fuzz: run each fuzzer for FUZZTIME
.PHONY: fuzz
fuzz:
	@scripts/fuzz $(FUZZTIME)

## bench: measure against the floors and print ratios (see BENCHMARKS.md)
.PHONY: bench
bench:
	@scripts/install-deps databases
	go run ./internal/bench

## soak: run one server under steady load for SOAK_TIME and hold that its memory stays as it is
.PHONY: soak
soak:
	@scripts/install-deps test
	go run ./internal/bench -only soak -soak $(SOAK_TIME)

## storms: measure what others notice when much ends at once, a target is away, tokens are forged in a flood
.PHONY: storms
storms:
	@scripts/install-deps test
	go run ./internal/bench -only storms

## crash: kill the broker CRASH_ROUNDS times at random instants and audit what is left
.PHONY: crash
crash:
	@scripts/install-deps databases
	CRASH_ROUNDS=$(CRASH_ROUNDS) go test -count=1 -timeout 6h -v ./internal/crash

## chaos: run several replicas through accidents for CHAOS_TIME, and audit what everybody was told
.PHONY: chaos
chaos:
	@scripts/install-deps databases
	CHAOS_TIME=$(CHAOS_TIME) go test -count=1 -timeout 6h -v ./internal/chaos

## generate: write docs/reference from the code
.PHONY: generate
generate:
	go test ./docs -run Reference -update

## clean: remove what the build made
.PHONY: clean
clean:
	rm -rf bin dist
