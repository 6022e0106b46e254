# Everything a developer runs. Needs the .NET SDK and make; what else a target needs, it says.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo sandbox test test-all test-rest test-vm bench bench-client idle footprint load load-delivery kubectl-pci nova-vectors aot-proof screenshots crds crds-check chart chart-check format format-check lint images image-names install-yaml test-images

export DOTNET_NOLOGO := 1
export DOTNET_CLI_TELEMETRY_OPTOUT := 1
export DOTNET_SKIP_FIRST_TIME_EXPERIENCE := 1

CONFIGURATION := Release
# The packages are those of the lock files, on every machine.
LOCKED := -p:RestoreLockedMode=true
IDLE_SECONDS ?= 60
TAG ?= 0.1.0
REGISTRY ?= pcioperator

# One compiler for all projects of a build, whatever the environment says, that doesn't measure what it could compile better: it is gone before that pays.
BUILD := DOTNET_TieredPGO=0 dotnet build -c $(CONFIGURATION) $(LOCKED) -p:UseSharedCompilation=true -v q

# $(call build,PROJECT): builds it without a word when all is well, and without the analyzers (make lint).
define build
	@echo "Building $(1) …"
	@mkdir -p artifacts && $(BUILD) $(1) -p:RunAnalyzers=false > artifacts/build.log 2>&1 \
	  || { cat artifacts/build.log; echo "The build of $(1) failed."; exit 1; }
endef

# What `tools/publish` is told of folders and projects, by the programs' names.
AGENT := src/PciOperator.Agent agent
CONTROLLER := src/PciOperator.Controller controller
PLUGIN := src/PciOperator.Cli kubectl-pci
# After a publish, for tests: none could begin.
OR_NONE_PASSED := || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Show the main job in one command: three simulated nodes, real controller and agents
	$(call build,sandbox/PciOperator.Sandbox)
	@dotnet run --no-build -c $(CONFIGURATION) --project sandbox/PciOperator.Sandbox -- demo

sandbox: ## Keep the simulated cluster running and print its KUBECONFIG line
	$(call build,sandbox/PciOperator.Sandbox)
	@dotnet run --no-build -c $(CONFIGURATION) --project sandbox/PciOperator.Sandbox -- sandbox

test: ## Run all tests but those that boot a kernel, with a share of the cases of those that have very many; the last line is their sum
	@tests/run PciOperator.sln

test-all: ## The same with every case: all faults, all kills, all random hosts
	@PCI_TEST_ALL=1 tests/run PciOperator.sln

test-rest: ## Of test-all what test leaves out: the tests with very many cases, with every case
	@PCI_TEST_ALL=1 tests/run PciOperator.sln -trait Cases=Many

test-vm: ## Boot a real kernel in QEMU and run the published agent in it (tests/vm/install-packages first)
	@echo "Publishing the agent, the controller and what the tests run in the guest …"
	@tests/vm/earlier-agent & tools/publish $(AGENT) $(CONTROLLER) tests/vm/PciOperator.Vm.Guest vm-guest && wait $$! $(OR_NONE_PASSED)
	@tests/run --always-skipped tests/vm/PciOperator.Vm.Tests -reporter verbose

kubectl-pci: ## Publish the kubectl plugin as it ships: artifacts/publish/kubectl-pci/kubectl-pci, for a folder of your PATH
	@tools/publish $(PLUGIN)
	@ls -l artifacts/publish/kubectl-pci/kubectl-pci

screenshots: ## Write the pictures in docs/images: of the page, and of the dashboard (tests/browser/install-packages and tests/vm/install-packages first)
	@PCI_TEST_ALL=1 PCI_SCREENSHOTS=$(CURDIR)/docs/images tests/run tests/PciOperator.Cli.Tests -class '*ScreenshotTests'
	@PCI_TEST_ALL=1 PCI_SCREENSHOTS=$(CURDIR)/docs/images tests/run tests/PciOperator.Tests -class '*DashboardTests'

aot-proof: ## Prove under NativeAOT what the programs use or are about to: gRPC over a Unix socket; and say what the generic host costs
	@tools/publish tests/AotProof aot-proof
	@for part in bare lifetime host grpc; do artifacts/publish/aot-proof/aot-proof $$part; done

bench: ## Run the benchmarks
	@dotnet run -c $(CONFIGURATION) $(LOCKED) --project tests/Benchmarks -- --filter '*'

bench-client: ## Compare our client with the library's: file, memory, start, watch, list, patches (BEFORE=<a client-bench of an earlier commit> adds a row)
	@tools/publish "tests/ClientBench -p:ClientKind=own" client-own
	@tools/publish "tests/ClientBench -p:ClientKind=library" client-library
	@dotnet run -c $(CONFIGURATION) $(LOCKED) --project tests/Benchmarks -- client $(if $(BEFORE),before=$(BEFORE)) own=artifacts/publish/client-own/client-bench library=artifacts/publish/client-library/client-bench

idle: ## Show what the published agent costs on a host with 256 functions while nothing happens (IDLE_SECONDS=60)
	@tools/publish $(AGENT)
	@dotnet run -c $(CONFIGURATION) $(LOCKED) --project tests/Benchmarks -- idle artifacts/publish/agent/pcioperator-agent $(IDLE_SECONDS)

footprint: ## Show what agent and controller cost as shipped: file, time to ready, memory, CPU over a minute (IDLE_SECONDS=60)
	@tools/publish $(AGENT) $(CONTROLLER)
	@dotnet run -c $(CONFIGURATION) $(LOCKED) --project tests/Benchmarks -- footprint artifacts/publish/agent/pcioperator-agent artifacts/publish/controller/pcioperator-controller $(IDLE_SECONDS)

load: ## Count what 2,000 claims at once ask of the API server that PCI_TEST_APISERVER names (LOAD="2000 12 1500": claims, nodes, claims that wait)
	@test -n "$(PCI_TEST_APISERVER)" || { echo "PCI_TEST_APISERVER names no API server: see docs/testing.md."; exit 1; }
	@tools/publish $(CONTROLLER)
	@dotnet run -c $(CONFIGURATION) $(LOCKED) --project tests/Benchmarks -- load "$(PCI_TEST_APISERVER)" artifacts/publish/controller/pcioperator-controller $(LOAD)

load-delivery: ## Count what 200 claims with a pod each ask of the API server that PCI_TEST_APISERVER names, and time the scheduler's wait (LOAD="200 8": claims, nodes)
	@test -n "$(PCI_TEST_APISERVER)" || { echo "PCI_TEST_APISERVER names no API server: see docs/testing.md."; exit 1; }
	@dotnet run -c $(CONFIGURATION) $(LOCKED) --project tests/Benchmarks -- delivery "$(PCI_TEST_APISERVER)" $(LOAD)

nova-vectors: ## Compare with Nova's own answers: make nova-vectors DIR=<folder of cases.jsonl, expected.jsonl, exact.jsonl>
	$(call build,tools/PciOperator.NovaVectors)
	@dotnet run --no-build -c $(CONFIGURATION) --project tools/PciOperator.NovaVectors -- "$(DIR)"

crds: ## Generate crds/ and docs/reference.md from the C# records
	$(call build,tools/PciOperator.CrdGenerator)
	@dotnet run --no-build -c $(CONFIGURATION) --project tools/PciOperator.CrdGenerator -- crds docs/reference.md

crds-check: ## Fail when crds/ or docs/reference.md is not what the C# records say
	$(call build,tools/PciOperator.CrdGenerator)
	@dotnet run --no-build -c $(CONFIGURATION) --project tools/PciOperator.CrdGenerator -- crds docs/reference.md --check

chart: ## Write what the Helm chart has in common with config/, and the PrometheusRule of config/monitoring
	@charts/from-config --prometheus-rule > config/monitoring/prometheus-rule.yaml
	@charts/from-config charts/pci-operator/templates/config

chart-check: ## Fail when the Helm chart is not what config/ says
	@made=$$(mktemp -d) && charts/from-config "$$made/config" && diff -r "$$made/config" charts/pci-operator/templates/config \
	&& charts/from-config --prometheus-rule | diff - config/monitoring/prometheus-rule.yaml; code=$$?; rm -rf "$$made"; \
	[ $$code = 0 ] || { echo "The chart is not what config/ and crds/ say: make chart."; exit 1; }

SOURCES := src sandbox tools tests

lint: ## Build everything with the analyzers, whose warnings are errors; make test leaves them out
	@mkdir -p artifacts && $(BUILD) PciOperator.sln --no-incremental > artifacts/lint.log 2>&1 || { cat artifacts/lint.log; exit 1; }

format: ## Lay out the sources with CSharpier, 140 columns wide; names and var are rules of .editorconfig that the build enforces
	@dotnet tool restore > /dev/null
	@dotnet csharpier format $(SOURCES)

format-check: ## Fail when a source is not laid out as make format would do it
	@dotnet tool restore > /dev/null
	@dotnet csharpier check $(SOURCES)

images: ## Build the container images controller, agent and kubectl-pci (REGISTRY=, TAG=; tools/images says more) with docker or buildah
	@REGISTRY=$(REGISTRY) TAG=$(TAG) tools/images

image-names: ## Write where the images are (REGISTRY=, TAG=) into config/program/kustomization.yaml
	@REGISTRY=$(REGISTRY) TAG=$(TAG) tools/image-names config/program

install-yaml: ## Write artifacts/install.yaml: all of config/ in one file, with the images that REGISTRY= and TAG= name, else those of config/
	@command -v kubectl > /dev/null || { echo "kubectl, which puts config/ together, is not on the PATH."; exit 1; }
	@made=$$(mktemp -d); trap 'rm -rf "$$made"' EXIT; cp -r config crds "$$made"; mkdir -p artifacts; \
	$(if $(filter-out file,$(origin REGISTRY) $(origin TAG)),REGISTRY=$(REGISTRY) TAG=$(TAG) tools/image-names "$$made/config/program";) \
	kubectl kustomize "$$made/config" > "$$made/install.yaml"; mv "$$made/install.yaml" artifacts/install.yaml; \
	echo "artifacts/install.yaml has $$(grep -c '^kind: ' artifacts/install.yaml) objects and the images"; sed -n 's/^ *\(- \)\?image: /  /p' artifacts/install.yaml

test-images: ## Build the images by buildah on bases of Debian packages, and start them as the manifests say (tests/images/install-packages first; as root)
	@echo "Publishing what is in the images …"
	@tools/publish $(AGENT) $(CONTROLLER) $(PLUGIN) src/PciOperator.Agent arm64/agent:linux-arm64 $(OR_NONE_PASSED)
	@mkdir -p artifacts && tests/images/build > artifacts/images.log 2>&1 || { cat artifacts/images.log; false; } $(OR_NONE_PASSED)
	@grep -E ' [0-9.]+ MB ' artifacts/images.log | sort -u
	@tests/run --always-skipped tests/images/PciOperator.Images.Tests
