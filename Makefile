# kubecore: the two commands a user needs are `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
EXTENSION := kubecore/_native.abi3.so
RUST_SOURCES := $(shell find native -name '*.rs' -o -name Cargo.toml -o -name build.rs) Cargo.toml Cargo.lock
PYTEST := PYTHONPATH=. $(BIN)/python -m pytest -q -rs
# Its jobs are its own, also where make has several.
CARGO := env --unset=MAKEFLAGS --unset=MFLAGS cargo
# Tests of a file share what they start. Slow ones wait for processes much of the time; the longest files begin.
FAST_WORKERS ?= 2
SLOW_WORKERS ?= 3
# Whatever the environment says: kubecore starts hundreds of times in the tests, and is compiled once.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 16

# ---------------------------------------------------------------- building
$(VENV)/.synced: requirements.lock
	test -x $(UV) || { $(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet uv==0.13.9; }
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip sync --quiet --require-hashes requirements.lock
	touch $@

kubecore/api/data/.baked: $(wildcard build_backend/*.py build_backend/*.txt) $(VENV)/.synced
	$(BIN)/python build_backend/bake.py
	touch $@

# With them all that stands on tokio, most of the workspace, is compiled once for the extension and the crates' tests.
TEST_FEATURES := --features kubecore-native/tests

target/.dev-extension: $(RUST_SOURCES)
	$(CARGO) build --locked -p kubecore-native $(TEST_FEATURES)
	cp -f target/debug/lib_native.so $(EXTENSION).new && mv -f $(EXTENSION).new $(EXTENSION)
	touch $@

.PHONY: setup
setup: $(VENV)/.synced kubecore/api/data/.baked target/.dev-extension ## make the virtual environment, the baked data and a development build

PYTHON_SOURCES := $(shell find kubecore build_backend proto -name '*.py' -o -name '*.pyi' -o -name '*.proto' -o -name '*.txt') pyproject.toml

$(VENV)/.installed: $(VENV)/.synced $(RUST_SOURCES) $(PYTHON_SOURCES)
	@cargo --version > /dev/null || { echo "kubecore is built with Rust 1.88 or newer: install it (rustup.rs) first" >&2; exit 1; }
	@echo "Building kubecore with optimisation, without a word until it is done: some minutes of two idle cores the first time."
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pip install --quiet --no-deps --no-build-isolation --force-reinstall .
	touch $@

.PHONY: install
install: $(VENV)/.installed ## build with optimisation and install kubecore into the virtual environment

.PHONY: wheel
wheel: $(VENV)/.synced ## build a wheel into dist/ that works where there is no Rust
	$(BIN)/python -m build --wheel --outdir dist .

# ---------------------------------------------------------------- running
.PHONY: demo
demo: install ## build, boot a cluster, run the example of the README on it, show the answer
	$(BIN)/python examples/demo.py

# ---------------------------------------------------------------- checking
.PHONY: test
test: ## everything CI runs: lint, native, unit, integration and end to end tests
	# What is compiled, beside what is downloaded.
	$(MAKE) --no-print-directory --jobs=3 --output-sync=line setup test-packages
	$(MAKE) --no-print-directory --jobs=3 --output-sync=line test-beside-rust test-beside-python test-beside-go
	$(MAKE) --no-print-directory test-slow

# What is of one thread for the most part, side by side; in each row one after another.
.PHONY: test-beside-rust test-beside-python test-beside-go
test-beside-rust:
	$(MAKE) --no-print-directory lint-rust
	$(MAKE) --no-print-directory test-native
	$(MAKE) --no-print-directory test-fuzz
test-beside-python:
	$(MAKE) --no-print-directory lint-python
	$(MAKE) --no-print-directory lint-stubs
	$(MAKE) --no-print-directory test-fast
# What slow tests compare with takes minutes to compile: in the time that the others leave.
test-beside-go: setup
	nice -n 19 $(BIN)/python -m tests.support.building_ahead

.PHONY: test-native
test-native: ## the Rust crates' own tests
	PROPTEST_RNG_SEED=1 $(CARGO) test --locked --workspace $(TEST_FEATURES) --quiet

.PHONY: test-packages
test-packages:
	tests/install-packages

.PHONY: test-fast
test-fast: setup test-packages ## Python tests that take milliseconds each
	$(PYTEST) -m "not slow" -n $(FAST_WORKERS) --dist loadfile tests

.PHONY: test-slow
test-slow: setup test-packages ## end to end: real kubectl, real clients, kill -9, wheels
	$(PYTEST) -m slow -n $(SLOW_WORKERS) --dist loadfile --no-loadscope-reorder tests

# What cargo-fuzz would set, without its need for a nightly compiler; libFuzzer itself comes with libfuzzer-sys.
FUZZ_FLAGS := --cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
	$(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)
FUZZ_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_RUNS ?= 100000
FUZZ_SECONDS ?= 60

.PHONY: test-fuzz
test-fuzz: ## what reads bytes from the network, with arbitrary ones: as many as FUZZ_RUNS, others each time in spite of the seed
	# Not --locked: what the workspace's crates have come to need since is added to its lock file.
	RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --quiet --release --manifest-path tests/fuzz/Cargo.toml \
		--target-dir target/fuzz --target $(FUZZ_HOST)
	for target in tests/fuzz/fuzz_targets/*.rs; do \
		name=$$(basename $$target .rs); corpus=$$(mktemp -d); \
		target/fuzz/$(FUZZ_HOST)/release/$$name -runs=$(FUZZ_RUNS) -max_total_time=$(FUZZ_SECONDS) -seed=1 -max_len=4096 \
			-artifact_prefix=target/fuzz/ $$corpus tests/fuzz/seeds/$$name > target/fuzz/$$name.log 2>&1 \
			|| { tail -n 40 target/fuzz/$$name.log; exit 1; }; \
		tail -n 1 target/fuzz/$$name.log; \
		rm -rf $$corpus; \
	done

.PHONY: test-laws
test-laws: setup ## look for new counterexamples of the laws that tests of the rest repeat: minutes, random
	HYPOTHESIS_PROFILE=explore API_LAWS_EXAMPLES=2000 CONTROLLER_LAWS_EXAMPLES=300 $(PYTEST) -m "slow or not slow" \
		tests/integration/apiserver/laws tests/integration/controllers $(shell grep -rl "^from hypothesis" tests/unit tests/native)

.PHONY: lint
lint: lint-python lint-rust ## formatting, style, types, import contracts

.PHONY: lint-python
lint-python: setup ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports --no-cache

.PHONY: lint-stubs
lint-stubs: setup ## hold _native.pyi against the extension
	# pyo3 makes __all__ itself; the stub need not repeat it.
	PYTHONPATH=. $(BIN)/python -m mypy.stubtest kubecore._native --mypy-config-file pyproject.toml \
		--allowlist <(echo kubecore._native.__all__)

.PHONY: lint-rust
lint-rust: ## rustfmt and clippy
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path tests/fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets --quiet -- -D warnings

.PHONY: format
format: ## format Python and Rust
	$(BIN)/ruff format . && $(BIN)/ruff check --fix . && cargo fmt --all

# ---------------------------------------------------------------- measuring
.PHONY: bench
bench: install ## run every bench beside its peer (installs the peers from Debian)
	benches/install-peers
	$(BIN)/kubecore bench all

.PHONY: bench-rust
bench-rust: ## criterion benches of the core
	cargo bench --locked -p kubecore-core

# ---------------------------------------------------------------- keeping
.PHONY: lock
lock: ## pin the dependencies anew
	cargo update --workspace
	$(UV) pip compile --quiet --generate-hashes --universal --python-version 3.11 --group dev pyproject.toml -o requirements.lock --custom-compile-command "make lock"

.PHONY: clean
clean: ## remove everything that was built
	rm -rf target $(VENV) dist $(EXTENSION) kubecore/api/data
