# The tasks of this repository. `make help` lists them; .ci/run calls the same ones.
# Everything but the Go toolchain is a Go tool pinned in tools/go.mod; the tests of
# the page need Node.

SHELL      := bash -o pipefail
TOOL       := go tool -modfile=../tools/go.mod
ROOTTOOL   := go tool -modfile=tools/go.mod
FUZZTIME   ?= 30s
# Of those that read what any stranger may send over a WebSocket.
FUZZEDGE   ?= 30s
BUILDFLAGS ?= -trimpath
TESTARGS   ?=
BENCHARGS  ?=
# Race detection and no cache: what counts is the brokers. $(TESTARGS) may narrow it.
CONFORMANCE = go test -race -count=1 -timeout 10m -run 'TestConformance' $(TESTARGS) ./router/routertest
SPEC        = --config router/routertest/spec/buf.yaml

.DEFAULT_GOAL := help
.PHONY: help run build release test test-writers test-load test-page vendor-page screenshots conformance conformance-docs faults fuzz bench bench-brokers bench-edge bench-go format vet staticcheck lint lint-messages gen gen-check breaking release-contract

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Run Burrow with config.toml: http://localhost:8000
	go run ./cmd/app -config config.toml

build: ## Build bin/burrow, static
	CGO_ENABLED=0 go build $(BUILDFLAGS) -o bin/burrow ./cmd/app

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null)
RELEASES ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64

release: ## Build static binaries for all systems, with checksums, into dist/ (RELEASES="linux/amd64 …")
	@rm -rf dist && mkdir dist && for target in $(RELEASES); do \
		os=$${target%/*} arch=$${target#*/}; name=burrow-$$os-$$arch; [ $$os != windows ] || name=$$name.exe; \
		echo "dist/$$name"; \
		CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch go build -trimpath -ldflags='-s -w -X main.release=$(VERSION)' -o dist/$$name ./cmd/app || exit 1; \
	done && cd dist && sha256sum burrow-* >SHA256SUMS && cat SHA256SUMS

test: ## Run the Go tests (TESTARGS="-race -run Name"); without a broker its tests skip
	go test $(TESTARGS) ./...

test-writers: ## Test the edge with a writing goroutine for each session, and with a call for each write, as where there is no other way
	BURROW_TEST_WRITERS=own go test -race -short $(TESTARGS) ./httpapi
	BURROW_TEST_WRITERS=one go test -race -short -run 'Slow|Burst|Largest|Close|Drain|Mute|Ping|Pong|Raw|Nobody|Join|Resum|Property|History' $(TESTARGS) ./httpapi

test-load: ## Test without the race detector what it would make too slow: floods, slow readers, a full millisecond
	go test -p 1 -count=1 -run '^(TestFloodOfFrames|TestOneSlowReaderOfAThousand|TestIndexStandsAnyID)$$' ./httpapi ./store

test-page: ## Run the tests of the page's JavaScript, in Node
	node --test httpapi/ui/test/

vendor-page: ## Fetch the libraries of the page, and of its tests, at the versions in tools/vendor-page
	tools/vendor-page

screenshots: ## Make the pictures of the README, docs/images/*.png, with chromium
	mkdir -p docs/images
	BURROW_SCREENSHOTS=$(CURDIR)/docs/images go test -count=1 -run '^TestScreenshots$$' ./cmd/app
	! command -v pngquant >/dev/null || pngquant --force --skip-if-larger --quality 80-98 --ext .png docs/images/*.png

conformance: ## Test every promise of docs/delivery.md on every broker and print the table
	@table=$$(mktemp) && trap 'rm -f "$$table"' EXIT && status=0 && \
		$(CONFORMANCE) -matrix "$$table" || status=$$?; cat "$$table"; exit $$status

conformance-docs: ## The same, and write the table into docs/delivery.md if all is kept
	$(CONFORMANCE) -update ../../docs/delivery.md

# Before Go 1.27 the end of the time is sometimes reported as a failure, "context deadline
# exceeded" alone (go.dev/issue/75804); whatever fails with an input says more than that.
fuzz: ## Fuzz every target for FUZZTIME (30s), those of the frames of v1 for FUZZEDGE (30s)
	@log=$$(mktemp) && trap 'rm -f "$$log"' EXIT && \
	grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sort | while IFS=: read -r file name; do \
		target=$${name#func }; time=$(FUZZTIME); case $$target in FuzzDecodeV1*) time=$(FUZZEDGE);; esac; \
		echo "fuzz $$target in $${file%/*} for $$time"; \
		go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$$time -fuzzminimizetime=1x "$${file%/*}" 2>&1 | tee "$$log" || \
			{ [ "$$(sed -n '/^--- FAIL/,/^FAIL$$/{/^ /p}' "$$log")" = "    context deadline exceeded" ] && echo "the time was over, no input failed"; } || exit 1; \
	done

faults: ## Break brokers, links and workers, and print what became of the messages
	go test -race -count=1 -v -run '^(TestFaults|TestChaos)$$' ./router ./cmd/app | grep -E '^ +\||said|^ *---|^(FAIL|ok)|_test.go'

bench-brokers: ## Measure every broker beside its raw client
	go test -run='^$$' -bench=BenchmarkBroker -benchtime=5x -timeout=20m ./router

bench: ## Measure all of docs/performance.md and write it (CENTRIFUGO=program compares; BENCHARGS="-only idle" measures less)
	go run ./cmd/bench -cases -pin -repeat 3 -docs docs $(if $(CENTRIFUGO),-centrifugo $(CENTRIFUGO)) $(BENCHARGS)

bench-edge: ## Load a server of its own over WebSockets and print the table of the edge
	go run ./cmd/bench -cases -pin -repeat 3 -only '^(1,000|5,000|saturation)' $(BENCHARGS)

bench-go: ## Run the Go benchmarks: messages/s and allocations of each part
	go test -run='^$$' -bench=. -benchmem ./...

lint: format vet staticcheck lint-messages ## Check formatting, vet, staticcheck and the messages' style

format: ## Check that everything is formatted
	@files=$$(gofmt -l .) && [ -z "$$files" ] || { echo "not formatted; run gofmt -w on:"; echo "$$files"; exit 1; }

vet: ## Run go vet
	go vet ./...

staticcheck: ## Run staticcheck
	$(ROOTTOOL) staticcheck ./...

lint-messages: ## Check the style of messages/*.proto
	cd messages && $(TOOL) buf lint
	$(ROOTTOOL) buf lint router/routertest/spec $(SPEC)

gen: ## Generate gen/ from messages/, and the messages of the conformance suite
	cd messages && $(TOOL) buf generate
	$(ROOTTOOL) buf generate router/routertest/spec $(SPEC) --template router/routertest/spec/buf.gen.yaml

gen-check: ## Check that what is generated is what the messages say
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && mkdir "$$tmp/messages" && \
		(cd messages && $(TOOL) buf generate -o "$$tmp/messages") && \
		$(ROOTTOOL) buf generate router/routertest/spec $(SPEC) --template router/routertest/spec/buf.gen.yaml -o "$$tmp" && \
		diff -r "$$tmp/gen" gen && diff <(cat "$$tmp"/router/routertest/spec/*.pb.go) <(cat router/routertest/spec/*.pb.go) || \
		{ echo "what is generated is stale; run make gen"; exit 1; }

breaking: ## Check that messages/ still speaks to programs built on the last release
	cd messages && $(TOOL) buf breaking --against released.binpb

release-contract: ## At a release: make messages/ what later changes are compared with
	cd messages && $(TOOL) buf build --exclude-source-info -o released.binpb
