# `make up` and `make test` need nothing but git, make and Python >= 3.11: what they use is installed
# into .venv first, and again only when pyproject.toml or requirements/dev.txt changed.
#
# `make check` never changes a file of the project; `make fix` and `make proto` do.

PYTHONS       := python3.13 python3.12 python3.11 python3
# grpcio-tools 1.62.3 has no wheel for Python 3.13.
PROTO_PYTHONS := python3.12 python3.11 python3
PIP_INSTALL   := -m pip install --quiet --disable-pip-version-check
VENV          := .venv
BIN           := $(VENV)/bin
INSTALLED     := $(VENV)/.installed
PROTO_VENV    := .venv-proto
PROTOC        := $(PROTO_VENV)/bin/python -m grpc_tools.protoc -Iproto
PROTO_READY   := $(PROTO_VENV)/.installed
BENCH_VENV    := .venv-bench
BENCH_READY   := $(BENCH_VENV)/.installed
PROTO_SOURCES := $(wildcard proto/kvorum_proto/*.proto)

ARGS  ?=
SEEDS ?= 200

.DEFAULT_GOAL := help

# First of the pythons in $(1) whose version is at least 3.11 and below 3.$(2), with venv and pip.
find_python = for python in $(1); do \
	  "$$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, $(2)))' \
	    2>/dev/null && break; \
	  python=; \
	done; \
	test -n "$$python" || { echo "$(3)" >&2; exit 1; }

$(INSTALLED): pyproject.toml requirements/dev.txt
	@$(call find_python,$(PYTHONS),99,kvorum needs Python 3.11 or newer with its venv module \
	  (on Debian and Ubuntu: apt-get install python3-venv).); \
	echo "Installing into $(VENV) with $$("$$python" --version) ..."; \
	"$$python" -m venv $(VENV)
	@$(BIN)/python $(PIP_INSTALL) -r requirements/dev.txt
	@$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(PROTO_READY): requirements/proto.txt
	@$(call find_python,$(PROTO_PYTHONS),13,The protobuf compiler of requirements/proto.txt has no \
	  wheel for Python 3.13: make proto and make check need a Python 3.11 or 3.12.); \
	"$$python" -m venv $(PROTO_VENV)
	@$(PROTO_VENV)/bin/python $(PIP_INSTALL) -r requirements/proto.txt
	@touch $@

$(BENCH_READY): requirements/bench.txt
	@$(call find_python,$(PYTHONS),99,No Python 3.11 or newer found.); \
	"$$python" -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python $(PIP_INSTALL) -r requirements/bench.txt
	@touch $@

.PHONY: help
help: ## List these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) \
	  | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

.PHONY: up
up: $(INSTALLED) ## Run a three-node cluster on this machine until Ctrl-C (ARGS="--nodes 5 ...")
	@$(BIN)/kvorum up $(ARGS)

.PHONY: test
test: $(INSTALLED) ## Run every test: unit, scripts, contract, simulator seeds, real processes (ARGS=...)
	@$(BIN)/python -X dev -m pytest $(ARGS)

.PHONY: check
check: $(INSTALLED) proto-check ## Judge format, lint, types, imports and generated code; changes nothing
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted: run 'make fix'." >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: fix
fix: $(INSTALLED) ## Rewrite what a machine can: format, imports, lint, tables of the docs
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .
	@UPDATE_GOLDEN=1 $(BIN)/pytest --quiet tests/unit/test_docs.py tests/unit/test_reliability_docs.py

.PHONY: proto
proto: $(PROTO_READY) ## Generate the protobuf modules from proto/kvorum_proto/*.proto
	@$(PROTOC) --python_out=proto --pyi_out=proto $(PROTO_SOURCES)

.PHONY: proto-check
proto-check: $(PROTO_READY) ## Compare the protobuf modules with what 'make proto' would write
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && mkdir "$$fresh/kvorum_proto" && \
	$(PROTOC) --python_out="$$fresh" --pyi_out="$$fresh" $(PROTO_SOURCES) && \
	for module in "$$fresh"/kvorum_proto/*_pb2.py*; do \
	  cmp -s "$$module" "proto/kvorum_proto/$${module##*/}" || \
	    { echo "proto/kvorum_proto/$${module##*/} is not what its .proto says: run 'make proto'." >&2; \
	      exit 1; }; \
	done

.PHONY: simulate
simulate: $(INSTALLED) ## Run the simulator on SEEDS=200 seeds
	@$(BIN)/python -m tests.simulator --seeds $(SEEDS) $(ARGS)

.PHONY: chaos
chaos: $(INSTALLED) ## Strike at real nodes in network namespaces; needs root (ARGS="--minutes 60 --nodes 5")
	@$(BIN)/python -m tests.chaos $(ARGS)

.PHONY: campaign
campaign: $(INSTALLED) ## Run 5,000 seeds on all cores, then every canary (ARGS="--hours 8 --report NAME" ...)
	@$(BIN)/python -m tests.simulator.campaign $(ARGS)

.PHONY: bench
bench: $(INSTALLED) $(BENCH_READY) ## Measure on this machine, beside etcd if it is installed (ARGS="failover" ...)
	@$(BIN)/python -m tests.bench --etcd-python $(BENCH_VENV)/bin/python $(ARGS)

.PHONY: lock
lock: ## Take the newest versions that pyproject.toml allows into requirements/dev.txt
	@$(call find_python,$(PYTHONS),99,No Python 3.11 or newer found.); \
	fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && "$$python" -m venv "$$fresh" && \
	"$$fresh/bin/python" $(PIP_INSTALL) --upgrade pip && \
	"$$fresh/bin/python" $(PIP_INSTALL) --group dev --editable '.[server]' && \
	{ sed -n '/^#/p' requirements/dev.txt; \
	  "$$fresh/bin/python" -m pip freeze --exclude-editable; } > "$$fresh/dev.txt" && \
	cp "$$fresh/dev.txt" requirements/dev.txt

.PHONY: clean
clean: ## Remove the virtual environments, caches and builds; the data of 'make up' stays
	@rm -rf $(VENV) $(PROTO_VENV) $(BENCH_VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache
	@find client server cli proto tests -name __pycache__ -type d -exec rm -rf {} +
