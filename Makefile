# Everything that is done with ivrbridge's source. `make help` lists it.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
SOAK ?= 20m
CALLS ?= 1000
FUZZTIME ?= 60

GOLANGCI_VERSION := 2.15.0
GOVULNCHECK_VERSION := 1.8.0
GOLANGCI := bin/tools/golangci-lint
GO_BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)"
STAGE := deploy/tools/stage.sh
E2E := IVRBRIDGE_BIN=$(CURDIR)/bin/ivrbridge go test -count=1
SCRIPTS := .ci/run $(wildcard deploy/*/*.sh)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## install the speech packages where that is possible, build, and start the demo (ARGS: its options)
	@deploy/tools/packages.sh run
	@$(MAKE) --no-print-directory build
	@bin/ivrbridge demo $(ARGS)

.PHONY: build
build: ## build the static programs into bin/
	@mkdir -p bin
	@$(GO_BUILD) -o bin/ivrbridge ./cmd/ivrbridge
	@$(GO_BUILD) -o bin/ivrbridge-worker ./cmd/ivrbridge-worker

.PHONY: test
test: ## install the test tools where that is possible, and run everything that check runs
	@$(STAGE) packages deploy/tools/packages.sh test
	@$(MAKE) --no-print-directory check

# One after the other: the tests share the machine's cores with nothing but what
# does not mind.
.PHONY: check
check: ## run every check and every test with the tools that are there
	@set -e; for stage in tools format tidy vet lint build unit; do $(MAKE) --no-print-directory check-$$stage; done
	@$(MAKE) --no-print-directory -j2 --output-sync=target check-fuzz check-image
	@$(MAKE) --no-print-directory check-e2e
	@$(MAKE) --no-print-directory check-load

.PHONY: check-tools check-format check-tidy check-vet check-lint check-build check-unit check-fuzz check-image check-e2e check-load
check-tools:  ; @$(STAGE) tools  $(MAKE) --no-print-directory $(GOLANGCI)
check-format: ; @$(STAGE) format $(GOLANGCI) fmt --diff
check-tidy:   ; @$(STAGE) tidy   go mod tidy -diff
check-vet:    ; @$(STAGE) vet    go vet ./...
check-lint:   ; @$(STAGE) lint   $(MAKE) --no-print-directory lint
check-build:  ; @$(STAGE) build  $(MAKE) --no-print-directory build
check-unit:   ; @$(STAGE) unit   deploy/tools/unit.sh
check-fuzz:   ; @$(STAGE) fuzz   deploy/tools/fuzz.sh 5 150
check-image:  ; @$(STAGE) image  deploy/image/test.sh bin
check-e2e:    ; @$(STAGE) e2e    $(MAKE) --no-print-directory e2e
check-load:   ; @$(STAGE) load   $(MAKE) --no-print-directory load

# What drives Chromium in the end-to-end tests. Without npm those tests say so.
BROWSER := test/e2e/browser
$(BROWSER)/node_modules/.package-lock.json: $(BROWSER)/package-lock.json
	@if command -v npm >/dev/null; then cd $(BROWSER) && npm ci --no-audit --no-fund; \
	else echo "skip: npm is not installed" >&2; test -z "$$CI"; fi

.PHONY: e2e
e2e: build $(BROWSER)/node_modules/.package-lock.json ## run the end-to-end tests against the static program
	@$(E2E) -timeout 10m ./test/e2e/...

.PHONY: load
load: build ## many calls at once and CALLS (1000) in a row, keys through bad networks; what remains?
	@env CALLS=$(CALLS) $(E2E) -timeout 0 -run '^Test(Load|Entries)' -v ./test/load

.PHONY: soak
soak: build ## keep calls coming for SOAK (20m) and look for what leaks
	@$(STAGE) soak env SOAK=$(SOAK) $(E2E) -timeout 0 -run '^TestSoak$$' -v ./test/load

.PHONY: bench
bench: build ## measure the media path, and what a call costs
	@go test -run '^$$' -bench . -benchmem ./media/...
	@go test -count=1 -run '^TestConcealmentBeatsSilence$$' -v ./media/jitter
	@$(E2E) -run '^TestCost$$' -v ./test/load

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (60) seconds
	@deploy/tools/fuzz.sh $(FUZZTIME)

.PHONY: lint
lint: $(GOLANGCI) ## run the linters
	@$(GOLANGCI) run --allow-parallel-runners ./...
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); \
	else echo "skip: shellcheck is not installed" >&2; test -z "$$CI"; fi

.PHONY: fmt
fmt: $(GOLANGCI) ## format the source
	@$(GOLANGCI) fmt

.PHONY: vuln
vuln: ## look for known vulnerabilities in what the programs use
	@go run golang.org/x/vuln/cmd/govulncheck@v$(GOVULNCHECK_VERSION) ./...

.PHONY: image
image: ## build the container image with docker or podman (TARGET=static: without speech packages)
	@engine=$$(command -v docker || command -v podman) || { echo "neither docker nor podman is installed" >&2; exit 1; }; \
	"$$engine" build --build-arg VERSION=$(VERSION) --target $(or $(TARGET),speech) -t ivrbridge:$(or $(TARGET),latest) .

.PHONY: shots
shots: build $(BROWSER)/node_modules/.package-lock.json ## take the pictures of the documentation again
	@SHOTS=$(CURDIR)/docs/images $(E2E) -run '^TestBrowserPictures$$' ./test/e2e

.PHONY: recordings
recordings: ## render the demo's sentences again, with flite and sox
	@deploy/tools/recordings.sh

.PHONY: clean
clean: ## remove what was built
	@rm -rf bin

# Rebuilt when its version is another one.
$(GOLANGCI): bin/tools/golangci-lint-$(GOLANGCI_VERSION)
	@ln -sf golangci-lint-$(GOLANGCI_VERSION) $@

bin/tools/golangci-lint-$(GOLANGCI_VERSION):
	@mkdir -p bin/tools
	@GOBIN=$(CURDIR)/bin/tools go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$(GOLANGCI_VERSION)
	@mv bin/tools/golangci-lint $@
