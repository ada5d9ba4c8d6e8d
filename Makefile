# The tasks of this repository. `make help` lists them; .ci/run calls the same ones.
# Everything but the Go toolchain is a Go tool pinned in tools/go.mod; the tests of
# the page need Node.

SHELL      := bash -o pipefail
TOOL       := go tool -modfile=../tools/go.mod
FUZZTIME   ?= 30s
BUILDFLAGS ?= -trimpath
TESTARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help run build test test-page fuzz bench format vet staticcheck lint lint-messages gen gen-check breaking release-contract

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Run Burrow with config.toml: http://localhost:8000
	go run ./cmd/app -config config.toml

build: ## Build bin/burrow, static
	CGO_ENABLED=0 go build $(BUILDFLAGS) -o bin/burrow ./cmd/app

test: ## Run the Go tests (TESTARGS="-race -run Name"); without a broker its tests skip
	go test $(TESTARGS) ./...

test-page: ## Run the tests of the page's JavaScript, in Node
	node --test httpapi/ui/test/

fuzz: ## Fuzz every target for FUZZTIME (30s)
	@grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sort | while IFS=: read -r file name; do \
		target=$${name#func }; echo "fuzz $$target in $${file%/*} for $(FUZZTIME)"; \
		go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) "$${file%/*}" || exit 1; \
	done

bench: ## Run the benchmarks
	go test -run='^$$' -bench=. -benchmem ./...

lint: format vet staticcheck lint-messages ## Check formatting, vet, staticcheck and the messages' style

format: ## Check that everything is formatted
	@files=$$(gofmt -l .) && [ -z "$$files" ] || { echo "not formatted; run gofmt -w on:"; echo "$$files"; exit 1; }

vet: ## Run go vet
	go vet ./...

staticcheck: ## Run staticcheck
	go tool -modfile=tools/go.mod staticcheck ./...

lint-messages: ## Check the style of messages/*.proto
	cd messages && $(TOOL) buf lint

gen: ## Generate gen/ from messages/
	cd messages && $(TOOL) buf generate

gen-check: ## Check that gen/ is what messages/ says
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && mkdir "$$tmp/messages" && \
		(cd messages && $(TOOL) buf generate -o "$$tmp/messages") && \
		diff -r "$$tmp/gen" gen || { echo "gen/ is stale; run make gen"; exit 1; }

breaking: ## Check that messages/ still speaks to programs built on the last release
	cd messages && $(TOOL) buf breaking --against released.binpb

release-contract: ## At a release: make messages/ what later changes are compared with
	cd messages && $(TOOL) buf build --exclude-source-info -o released.binpb
