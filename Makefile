# Everything a person or CI does with this project. `make` lists the targets.
SHELL := bash
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo none)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
GODIRS  := cmd pkg templates testdata/lab/testsum
TOOL    := go tool -modfile=tools.mod
SITE    ?=
ENGINE  ?=
PARTS   ?= all
FUZZTIME ?= 10s

.PHONY: help build demo setup test unit lint golden fuzz check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## one static binary: bin/aifbench
	CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)" -o bin/aifbench ./cmd/aifbench

demo: build ## the whole tool once through on real parts; SITE=local ENGINE=sim needs only Go
	SITE=$(SITE) ENGINE=$(ENGINE) bash testdata/lab/demo.sh

setup: ## fetch and build the real parts into .cache/ (PARTS="slurm chroma ...", default all)
	testdata/lab/setup.sh $(PARTS)

test: ## set up the real parts, start the Slurm lab, pass every test (what CI runs)
	testdata/lab/test.sh

unit: ## the tests that need nothing but Go
	env -u AIFBENCH_LAB -u AIFBENCH_LABSH -u AIFBENCH_CACHE -u AIFBENCH_BIN -u SLURM_CONF go test -race -shuffle=on ./...

lint: ## gofumpt, go vet, staticcheck, go.mod tidy and verified
	@out=$$($(TOOL) gofumpt -l $(GODIRS)); if [ -n "$$out" ]; then echo "not gofumpt'ed:"; echo "$$out"; exit 1; fi
	go vet ./... ./testdata/lab/testsum
	$(TOOL) staticcheck ./... ./testdata/lab/testsum
	go mod tidy -diff
	go mod verify

golden: ## write the golden files anew: look at the diff before you commit it
	@set -e; for d in $$(grep -rlE --include='*_test.go' '\("update"' cmd pkg templates | xargs -r -n1 dirname | sort -u); do \
		go test -count=1 ./$$d -update; done

fuzz: ## every fuzz target for FUZZTIME (10s)
	testdata/lab/fuzz.sh $(FUZZTIME)

check: lint build unit ## before a commit: lint, build, unit

clean: ## remove what was built; .cache/ stays (it is slow to make: rm -rf it by hand)
	rm -rf bin .cache/log
