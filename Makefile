# Every target works as root and without; what root adds is said beside it.

# sudo has a PATH of its own, which often lacks the place where Go installs itself.
ifeq ($(shell command -v go),)
export PATH := /usr/local/go/bin:$(PATH)
endif

PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
BIN     := bin/vswitch
LDFLAGS := -s -w $(if $(VERSION),-X main.version=$(VERSION))

# The version comes by LDFLAGS: under sudo git may refuse to read a tree that
# belongs to somebody else, and -buildvcs would then fail the build.
GOBUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

# The benchmark is left out: under the race detector its numbers mean nothing.
RACE ?= ./dataplane/... ./control/... ./internal/... ./cmd/...

FUZZTIME ?= 1m

.DEFAULT_GOAL := help
.PHONY: help generate generated build demo test test-cni race bench bench-quick bench-guard bench-mutex soak attacks bench-micro fuzz lint damage mutate twins conformance check install deb docker-plugin test-runtimes test-debian12 clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

generate: ## compile the BPF programs (clang-14, llvm-14, libbpf-dev, linux-libc-dev)
	go generate ./control/kernel

build: ## build bin/vswitch, one static binary
	$(GOBUILD) -o $(BIN) ./cmd/vswitch

demo: build ## build, then show the switch at work in its own namespaces (root)
	$(BIN) demo

test: build ## run every test; without root in user namespaces, as far as those go
	VSWITCH_BINARY=$(CURDIR)/$(BIN) go test -timeout 30m ./...

# Without the option every child process sleeps a second before it ends.
race: ## run the tests under the race detector (needs a C compiler)
	GORACE=atexit_sleep_ms=0 CGO_ENABLED=1 go test -race -timeout 40m $(RACE)

bench: build ## measure against the kernel and other switches, an hour and a half (root)
	go run ./bench -binary $(CURDIR)/$(BIN) -html docs/bench/report.html

bench-quick: build ## the main rows from few and short rounds, under 3 minutes (root)
	go run ./bench -quick -binary $(CURDIR)/$(BIN)

BASELINE ?= docs/bench/baseline.json

bench-guard: build ## fail where a ratio is worse than in BASELINE beyond the noise (root)
	go run ./bench -kernel-only -guard $(BASELINE) -binary $(CURDIR)/$(BIN)

bench-mutex: build ## how long the daemon waits for its own locks under load (root)
	go run ./bench -contention .bench/mutex -binary $(CURDIR)/$(BIN)

SOAK ?= 10m
FAIR ?= 0.9

soak: build ## all attacks at once for SOAK (10m), here and at the kernel's bridge; fails where others keep less than FAIR (0.9) of theirs (root)
	go run ./bench -soak $(SOAK) -fair $(FAIR) -binary $(CURDIR)/$(BIN)

attacks: build ## the same, one attack after the other, those among them that take a whole CPU (root)
	go run ./bench -soak $(SOAK) -each -fair $(FAIR) -binary $(CURDIR)/$(BIN)

MICRO ?= ./dataplane/...

bench-micro: ## Go benchmarks of each stage, for benchstat
	go test -run '^$$' -bench . -benchmem -count 6 $(MICRO)

# go test -fuzz takes one target of one package at a time: FUZZJOBS of them run side
# by side with one worker each, so that each has a processor for FUZZTIME. Making
# inputs smaller is bounded: by default it may take longer than the whole run. When
# the time is up in the middle of an input the command may fail with "context deadline
# exceeded" and nothing found (go.dev/issue/75804, until Go 1.27); a find names its
# failing input.
FUZZ     ?= .*
FUZZNOT  ?= none
FUZZJOBS ?= $(shell nproc)

fuzz: ## run the fuzz targets that match FUZZ (all) and not FUZZNOT, for FUZZTIME (1m) each
	@grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's/:func / /' | grep -E ' ($(FUZZ))$$' | grep -vE ' ($(FUZZNOT))$$' | sort | \
	xargs -P $(FUZZJOBS) -L 1 sh -c 'out=$$(go test -run "^$$" -fuzz "^$$1$$" -parallel 1 -fuzztime $(FUZZTIME) -fuzzminimizetime 100x "$$(dirname $$0)" 2>&1); code=$$?; \
		echo "$$1 in $$(dirname $$0): $$(echo "$$out" | grep -o "execs: [0-9]*" | tail -1)"; \
		[ $$code = 0 ] || case "$$out" in *"Failing input"*) false;; *"context deadline exceeded"*) ;; *) false;; esac || { echo "$$out"; exit 1; }'

test-debian12: ## demo and kernel tests on Debian 12's kernel, emulated (qemu-system-x86, busybox-static)
	internal/oldkernel/run bookworm

test-runtimes: build docker-plugin ## with the runtimes of a newer Debian, and the .deb on a fresh one (root, debootstrap)
	go run ./internal/debroot/make
	cd internal/runtimetest/cri && CGO_ENABLED=0 go build -o $(CURDIR)/bin/ . ./bare
	cd internal/runtimetest/critest && CGO_ENABLED=0 go test -c -o $(CURDIR)/bin/critest sigs.k8s.io/cri-tools/cmd/critest
	VSWITCH_TEST_RUNTIMES=1 VSWITCH_BINARY=$(CURDIR)/$(BIN) VSWITCH_CRI=$(CURDIR)/bin/cri VSWITCH_CRI_BARE=$(CURDIR)/bin/bare VSWITCH_CRITEST=$(CURDIR)/bin/critest VSWITCH_DOCKER_PLUGIN=$(CURDIR)/bin/docker-plugin go test ./internal/runtimetest -count=1 -v $(if $(RUN),-run '$(RUN)')

test-cni: build ## the suites of containernetworking with vswitch as their plugin (root, iptables)
	internal/cnisuite/run $(BIN)

lint: ## gofmt, go vet, staticcheck, and whether documents and generated files are up to date
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "gofmt: not formatted: $$files" >&2; exit 1; fi
	go vet ./...
	go vet -tags man ./cmd/vswitch
	go vet -tags unobserved ./dataplane/...
	go tool staticcheck ./...
	go test ./docs ./internal/deptest ./internal/conformance
	go test -run '$(WRITTEN)' ./control/metrics ./control/server ./control/web ./cmd/vswitch

# Tests that hold a file against the code it is written from, which takes seconds: among all
# others they would fail after ten minutes.
WRITTEN = ^(TestReasons|TestOpenAPI|TestDocumented|TestDashboardNames|TestCommandsAreDocumented|TestCommandLine)

generated: ## compile the BPF programs, and fail where they were not those of their sources
	@was=$$(mktemp -d) && cp control/kernel/programs_bpfel.* $$was && $(MAKE) --no-print-directory generate && \
	for file in control/kernel/programs_bpfel.*; do \
		cmp $$file $$was/$${file##*/} || { echo "$$file was not what its sources say, and is now: commit it" >&2; stale=1; }; \
	done; rm -r "$$was"; [ -z "$$stale" ]

MUTATE ?= 10000000

mutate: ## send MUTATE (10 million) damaged frames through a switch in memory
	VSWITCH_MUTATE=$(MUTATE) go test ./dataplane -count=1 -run '^TestF32MutatedFrames$$' -timeout 30m -v

damage: ## every bit and every length of the state's two files, some minutes
	VSWITCH_DAMAGE=every go test ./control/state -count=1 -run '^Test(F20|F21)' -timeout 30m -v

TWINS ?= 10m

twins: ## the kernel's side against the stages for TWINS (10m) each, 2^20 forged segments to each kind of flow (root)
	VSWITCH_TWINS=$(TWINS) VSWITCH_FORGED=1048576 VSWITCH_TEST_NETNS=1 go test ./dataplane ./control/kernel -count=1 -run '^(TestTwins|TestTwinsAlone|TestC26ForgedSegments)$$' -timeout 10h -v

conformance: ## run the tests that carry rows and write docs/conformance.md (root)
	go run ./internal/conformance

check: lint test race ## all that a change has to pass

install: build ## install program, units, completions, manual and docs below PREFIX (/usr/local)
	PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) packaging/install $(BIN)

deb: build ## build bin/vswitch_VERSION_ARCH.deb (dpkg-deb)
	VERSION=$(VERSION) packaging/deb/build $(BIN) bin

docker-plugin: ## build the directory bin/docker-plugin for docker plugin create
	rm -rf bin/docker-plugin
	mkdir -p bin/docker-plugin/rootfs/bin
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o bin/docker-plugin/rootfs/bin/ ./packaging/docker-plugin
	cp packaging/docker-plugin/config.json bin/docker-plugin

clean: ## remove what was built
	rm -rf bin
