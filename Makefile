# "make" lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run demo demo-cluster test-cluster test check bench bench-cluster build generate packages clean

GO ?= go
VERSION := $(shell git describe --always --dirty --tags 2>/dev/null)
LDFLAGS := -s -w -X mailraft/cmd/mailraft/internal/version.release=$(VERSION)
SOURCES := $(shell find cmd fs proxy raftstore -name '*.go' -not -name '*_test.go' 2>/dev/null)

# What the tests need of Debian, beside Go: real clients, a C compiler for the race detector.
PACKAGES := iproute2 curl swaks libnet-ssleay-perl msmtp gsasl isync fetchmail mutt rsync attr age zstd netcat-openbsd bash-completion gocryptfs fuse gcc libc6-dev postfix dovecot-core dovecot-imapd dovecot-pop3d dovecot-lmtpd

# What "make check" runs, beside Go. The versions are fixed, so that it finds the same everywhere.
STATICCHECK := bin/staticcheck@v0.8.2
GOVULNCHECK := bin/govulncheck@v1.9.0

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

run: bin/mailraft ## build, and run a node in ./var: prints what to try; Ctrl-C stops it
	@bin/mailraft quickstart ./var

demo: bin/mailraft ## do what "make run" tells a newcomer to try, and check each step
	@$(GO) run ./test/demo -mailraft bin/mailraft

demo-cluster: bin/mailraft ## three nodes on this machine: a message in at one, out at another, one killed
	@$(GO) run ./test/demo/cluster -mailraft bin/mailraft

test-cluster: bin/mailraft ## only the tests of many nodes
	CGO_ENABLED=0 $(GO) test -trimpath -count 1 -timeout 10m -v -run 'TestLinearizable|TestChecker|TestMXStorm|TestReplicasAreCompared|TestLeadersKilled|TestKilledInTheKernel|TestReadYourDelivery|TestIdleHearsOfAnotherNode|TestANodeDies|TestWithoutAQuorum|TestAShardWithoutAQuorum|TestADeadNodeIsReplaced|TestWhoMayJoin|TestRollingUpgrade' ./test

test: packages bin/mailraft ## run all tests, with the race detector where it sees our code, and the demo
	GORACE=atexit_sleep_ms=100 $(GO) test -count 1 -race -timeout 30m ./cmd/... ./fs/... ./proxy/... ./raftstore/...
	CGO_ENABLED=0 $(GO) test -trimpath -count 1 -timeout 45m -parallel 3 ./test/... ./raftstore/tree ./raftstore/directory
	@$(MAKE) --no-print-directory demo demo-cluster

check: $(STATICCHECK) $(GOVULNCHECK) ## gofmt, go vet, staticcheck, and govulncheck where its database can be reached
	@test -z "$$(gofmt -l cmd fs proxy raftstore test | tee /dev/stderr)"
	$(GO) vet ./...
	$(STATICCHECK) ./...
	$(GOVULNCHECK) ./... || case $$? in 3) false;; *) echo "govulncheck could not run: known vulnerabilities were not looked for";; esac

bin/staticcheck@%:
	GOBIN=$(CURDIR)/bin $(GO) install honnef.co/go/tools/cmd/staticcheck@$* && mv bin/staticcheck $@

bin/govulncheck@%:
	GOBIN=$(CURDIR)/bin $(GO) install golang.org/x/vuln/cmd/govulncheck@$* && mv bin/govulncheck $@

bench: bin/mailraft packages ## measure, with bare ext4 and peers beside it: half an hour (BENCH=-quick for a first look)
	$(GO) run ./test/bench -mailraft bin/mailraft $(BENCH)

bench-cluster: bin/mailraft packages ## measure three nodes on this machine, with one node and GlusterFS beside them: ten minutes (BENCH=-quick)
	$(GO) run ./test/bench -mailraft bin/mailraft -cluster $(BENCH)

build: bin/mailraft ## build bin/mailraft: one static binary

bin/mailraft: $(SOURCES) go.mod go.sum
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/mailraft

generate: ## make the protobuf code again (needs protoc, protoc-gen-go and protoc-gen-go-grpc)
	PATH="$$PATH:$$($(GO) env GOPATH)/bin" $(GO) generate ./...

packages:
	@missing=(); for p in $(PACKAGES); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing+=($$p); done; \
	if [ $${#missing[@]} -eq 0 ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then echo "the tests need root, and of Debian: $${missing[*]}"; exit 1; fi; \
	echo "installing $${missing[*]}"; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null

clean: ## remove what was built
	rm -rf bin
