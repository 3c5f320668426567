# rmaplab: `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DEV    := $(VENV)/.ready-dev
VMA_TESTS := rmap-test-1,rmap-test-2,rmap-test-3,rmap-test-4,test-mmap,test-mmap2,test-mmap3

.PHONY: help demo test check lint types bench bench-against bench-check bench-files bench-census bench-growth bench-programs fit time boundary campaign pressure hostile fuzz counts vmas bpf kernels servers account replay clean
help:      ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 15

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	$(BIN)/python -m rmaplab.lab.compiling
	@touch $@

$(DEV): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)   ## install, then the announcement's table: three kernels, predicted beside published (and this one, with a C compiler)
	$(BIN)/rmaplab compare forkbench --levels 6,7 --kernels 2.4.21,2.6.2,2.6.5-rc1-aa1 $(if $(shell command -v cc),--host,)

test: $(DEV)     ## the test suite: the model on all CPUs, then what asks the real kernel, one by one
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not host"
	$(BIN)/python -m pytest -q -m host

lint: $(DEV)     ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV)    ## mypy --strict
	$(BIN)/mypy

check: lint types test   ## lint, types, tests (the import arrows are a test)

bench: $(DEV)    ## the speed and memory figures of the README, beside the real kernel's, in one run
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/host.py
	$(BIN)/python benchmarks/box.py
	$(BIN)/python benchmarks/live.py

bench-against: $(DEV)    ## this tree against REV=a git revision, in turns, as ratios (some ten minutes; PAIRS=3, ONLY=fault)
	$(BIN)/python -m benchmarks.against $(if $(REV),'$(REV)') $(if $(PAIRS),--pairs '$(PAIRS)') $(if $(ONLY),--only '$(ONLY)')

fit: $(DEV)      ## fit the price list to level 6 again and store it: half a minute (docs/time.md)
	$(BIN)/rmaplab fit --save src/rmaplab/kernels/prices_2004.json

time: $(DEV)     ## the tables of docs/time.md: what the fit hangs on, CPUs, threads (some two minutes)
	$(BIN)/python benchmarks/times.py

boundary: $(DEV)    ## the maps of docs/box.md: on which boxes the announcement's outcome follows (half an hour)
	$(BIN)/rmaplab boundary --lines 32,64,128 --plot docs/boundary.svg
	$(BIN)/rmaplab boundary --schedulers own,parent-first,short-slices,one-queue --overcommit 0,2 --plot docs/boundary-schedulers.svg
	$(BIN)/rmaplab boundary --reclaim --highpte yes --swap-step 64M --plot docs/boundary-reclaim.svg

campaign: $(DEV)    ## 10^5 random calls per kernel, check() after every one: some minutes
	$(BIN)/python benchmarks/campaign.py $(if $(CALLS),--calls '$(CALLS)')

pressure: $(DEV)    ## 10^5 random calls per kernel on boxes too small for them, all recounted after each: hours
	$(BIN)/python benchmarks/pressure.py $(if $(CALLS),--calls '$(CALLS)') $(if $(FIRST),--first '$(FIRST)') $(if $(KERNELS),--kernels $(KERNELS))

hostile: $(DEV)     ## 1,000 programs that mean harm, each on a small machine with bounds; files outside hashed before and after (half an hour)
	$(BIN)/python -m benchmarks.hostile $(if $(RUNS),--runs '$(RUNS)') $(if $(SEED),--first '$(SEED)')

bench-check: $(DEV)    ## check's two sides beside the host's alone, in turns, 300 strangers beside (root; some minutes)
	$(BIN)/python -m benchmarks.pace

bench-files: $(DEV)    ## files: cached faults, 1 GiB mapped, 20,000 mmaps, as ratios (some two minutes, 4 GB)
	$(BIN)/python -m benchmarks.files

bench-census: $(DEV)   ## a census of 5,000 processes beside their smaps_rollup, of 1 M VMAs beside the dump, in turns (root, 3 GB; a minute)
	$(BIN)/python -m benchmarks.census

bench-growth: $(DEV)   ## many VMAs and processes beside few, on every kernel, as ratios (4 GB; some four minutes)
	$(BIN)/python -m benchmarks.growth $(if $(KERNELS),--kernels '$(KERNELS)')

bench-programs: $(DEV) ## programs on a simulated kernel: forkbench, a fault, a system call, start, as ratios (a C compiler, 1 GB; a minute)
	$(BIN)/python -m benchmarks.programs

bpf:       ## compile the BPF programs again (needs Debian 12's clang and llvm); commit what it makes
	for name in task_vma peek; do src/rmaplab/host/bpf/build $$name.bpf.c $$name.bpf.o; done

counts: $(DEV)    ## anon_vmas and chains of fork trees, model and the real kernel side by side (root, perf, a 6.x kernel)
	$(BIN)/python benchmarks/counts.py

fuzz: $(DEV)     ## 20,000 random scripts, and 2,000 of the other habits, on the model and on this machine's kernel (6.18, as root): a quarter of an hour
	$(BIN)/rmaplab check --fuzz 20000 --seed $(or $(SEED),33) --jobs $(or $(JOBS),$(shell nproc))
	$(BIN)/rmaplab check --fuzz 2000 --habits all --seed $(or $(SEED),33) --jobs $(or $(JOBS),$(shell nproc))

vmas: $(READY)   ## rmap-test and test-mmap at their published sizes: what walks from a file's page visit (some ten minutes, 2 GB)
	$(BIN)/rmaplab compare manyvmas --tests $(VMA_TESTS)
	$(BIN)/rmaplab compare manyvmas --tests $(VMA_TESTS) --kernels 2.6.5-rc1-aa1 --indexes list,rbtree,prio_tree,interval_tree
	$(BIN)/rmaplab compare manyvmas --mlock

replay: $(DEV)   ## recorded programs: replay beside a loop over the same calls, and 1,000 garbled logs (a minute)
	$(BIN)/python -m benchmarks.replay
	$(BIN)/python -m benchmarks.garble 1000

kernels: $(READY)  ## who, live and check on Debian's kernels 6.1 and 6.12, booted in qemu (apt-get, qemu-system-x86; some minutes)
	$(BIN)/python -m benchmarks.kernels

servers: $(READY)  ## live beside PostgreSQL, Redis and gunicorn: exact, near, and what it costs them (root, a quiet machine; some five minutes)
	$(BIN)/python -m benchmarks.servers

account: $(DEV)  ## as root: the README's commands by a fresh account on an install of root's (PYTHONS="python3.12 python3.13")
	$(BIN)/python benchmarks/account.py $(foreach python,$(PYTHONS),--python $(python))

clean:     ## remove the environment and all caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
