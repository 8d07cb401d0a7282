# The workflow of this repository; `make` lists the targets. Everything is installed into $(VENV), nothing outside changes.
# Set-up is remembered in stamp files: it runs again only when TORCH, the C++ sources or the build files change.
#
#   make test TORCH="torch==2.13.0"    another torch requirement (default: torch)
#   make demo DEMO="--quick"           options of `bbs demo`
#   make test PYTEST="-x tests/cpu"    options of pytest
#   make cuda CUDA_ARCHS="80;90"       other CUDA targets (default: those of the last time, at first 90)

PYTHON ?= python3
TORCH  ?= torch
CUDA_TORCH ?= torch==2.14.1
VENV   ?= .venv
DEMO   ?=
BENCH  ?=
REPORT ?=
PYTEST ?=
STATIC ?=
PTX_JUNIT ?= build/ptx.xml
WORKERS ?= $(shell nproc)
CUDA_ARCHS ?= $(or $(shell cat $(STAMPS)/cuda-archs 2> /dev/null),90)

BIN    := $(VENV)/bin
# Of the targets for a GPU, which fetch and make nothing: PYTHON where it is given, else that of $(VENV) if it is there.
GPU_PYTHON := $(if $(filter file,$(origin PYTHON)),$(firstword $(wildcard $(BIN)/python) $(PYTHON)),$(PYTHON))
STAMPS := $(VENV)/stamps
NATIVE := $(shell find csrc -type f) CMakeLists.txt setup.py pyproject.toml tools/build_support.py
CXX_FILES := $(shell find csrc tests/cpp -name '*.h' -o -name '*.cpp' -o -name '*.inl')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-slow test-dist test-dist-slow test-fastreid test-trainers test-ptx test-ptx-all test-emulated test-emulated-all test-ptxvm
.PHONY: test-cuda test-cuda-torch test-cuda-torch-all sanitize-cuda compute-sanitizer test-cpp test-neon build bench cuda cuda-all cuda-report gpu-report
.PHONY: lint format docs docs-serve dist clean FORCE

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(STAMPS)/demo ## set up, then compare the rules on overlapping datasets (DEMO="--quick" for the short form)
	$(BIN)/bbs demo $(DEMO)

test: $(STAMPS)/test ## set up, then run the tests (PYTEST="..." for options)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal $(PYTEST)

test-slow: $(STAMPS)/test ## the tests marked slow: large shapes and peak memory
	$(BIN)/pytest -m "slow and not ptx and not cuda and not cuda_torch and not dist" $(PYTEST)

test-dist: $(STAMPS)/test ## the tests with several processes (Gloo on this machine)
	$(BIN)/pytest tests/dist -m "dist and not slow" $(PYTEST)

test-dist-slow: $(STAMPS)/test ## the slow ones of these: torchrun, killed ranks, random cases
	timeout 1500 $(BIN)/pytest tests/dist tests/training -m "dist and slow" $(PYTEST)

# fast-reid pins an old torch, which it does not need for its heads: it comes without its requirements.
test-fastreid: $(STAMPS)/test ## compat.fastreid against the real package
	$(BIN)/pip install --quiet --no-deps fastreid==1.4.0
	$(BIN)/pip install --quiet yacs termcolor tabulate
	$(BIN)/pytest tests/compat/test_fastreid*.py tests/compat/test_label_dtypes.py tests/build/test_migration_pages.py $(PYTEST)

test-trainers: $(STAMPS)/test ## the recipes of docs/parallel.md with Lightning, accelerate and transformers
	$(BIN)/pip install --quiet lightning accelerate transformers
	$(BIN)/pytest tests/dist/test_recipes.py tests/optim/test_fused_sgd_in_a_trainer.py -m "dist or not dist" $(PYTEST)

test-cpp: $(STAMPS)/venv ## the C++ tests of the kernels: plain, then under the address and the thread sanitizer
	$(BIN)/python tools/cpp_tests.py

test-neon: $(STAMPS)/venv ## the C++ tests for 64-bit ARM, in QEMU (apt-get install g++-aarch64-linux-gnu qemu-user)
	$(BIN)/python tools/cpp_tests.py neon

test-ptx: $(STAMPS)/test $(STAMPS)/images ## the CUDA ops and kernels in the PTX machine, no GPU: a choice of cases (JUnit XML to PTX_JUNIT)
	$(PTX_TESTS) -m "ptx and not exhaustive" $(PYTEST)

test-ptx-all: $(STAMPS)/test $(STAMPS)/images ## every case of these, and every barrier taken out in turn: hours
	$(PTX_TESTS) -m ptx $(PYTEST)

PTX_TESTS = mkdir -p $(dir $(PTX_JUNIT)); \
  PATH="$$($(BIN)/python tools/nvcc_folder.py):$$PATH" $(BIN)/pytest tests/ptx tests/ops -n $(WORKERS) --junitxml=$(PTX_JUNIT)

test-emulated: $(STAMPS)/test $(STAMPS)/images ## whole calls of the CUDA ops on an emulated GPU, against the reference; no GPU
	PATH="$$($(BIN)/python tools/nvcc_folder.py):$$PATH" $(BIN)/pytest tests/emulated -m "not exhaustive" -n $(WORKERS) $(PYTEST)

test-emulated-all: $(STAMPS)/test $(STAMPS)/images ## the same, and that mutations of the host code are noticed
	PATH="$$($(BIN)/python tools/nvcc_folder.py):$$PATH" $(BIN)/pytest tests/emulated -m "" -n $(WORKERS) $(PYTEST)

test-ptxvm: $(STAMPS)/test $(STAMPS)/cuda ## the PTX machine itself: instructions, kernels, and that every checker fires
	PATH="$$($(BIN)/python tools/nvcc_folder.py):$$PATH" $(BIN)/pytest tools/ptxvm/tests -n $(WORKERS) -q $(PYTEST)

test-cuda: ## the same kernels, then the ops, on the GPU of this machine, with the package that is installed
	BBS_EXECUTOR=device $(GPU_PYTHON) -m pytest tests/ptx -m "ptx and not exhaustive" $(PYTEST)
	$(GPU_PYTHON) -m pytest tests/cuda -m cuda $(PYTEST)

# The environment is made anew, in .ci/cuda-torch: nothing of $(VENV) changes, and the tests see only what was installed.
test-cuda-torch: ## beside a CUDA build of torch, no GPU needed: loading, fake CUDA tensors, torch.compile (CUDA_TORCH="torch==2.14.1")
	$(PYTHON) tools/cuda_torch_matrix.py --torch "$(CUDA_TORCH)"

test-cuda-torch-all: ## the same beside several versions of torch and Python; writes the table of docs/install.md
	$(PYTHON) tools/cuda_torch_matrix.py --all
	$(PYTHON) tools/cuda_torch_matrix.py --write

# Memcheck sees the bounds of a tensor only where each has its own cudaMalloc, which a graph's capture does not allow.
# Timing under a sanitizer means nothing.
SANITIZED := -m pytest tests/cuda -m cuda --ignore tests/cuda/test_bench.py --ignore tests/cuda/test_large.py
sanitize-cuda: compute-sanitizer ## tests/cuda under compute-sanitizer: memcheck, then racecheck
	PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck --error-exitcode 1 \
	  $(GPU_PYTHON) $(SANITIZED) -k "not graph" $(PYTEST)
	compute-sanitizer --tool racecheck --error-exitcode 1 $(GPU_PYTHON) $(SANITIZED) $(PYTEST)

compute-sanitizer:
	@command -v $@ > /dev/null || \
	  { echo "bbs-kernels: $@ is not on PATH: it comes with the CUDA toolkit, in its bin folder" >&2; exit 1; }

build: $(STAMPS)/package ## compile and install (editable)

bench: $(STAMPS)/bench ## time this library beside plain PyTorch (BENCH="..." for options)
	$(BIN)/bbs bench $(BENCH)

cuda: $(STAMPS)/images ## compile the CUDA kernels into the package, for CUDA_ARCHS: no GPU needed

cuda-all: ## the same for every target of the static report
	$(MAKE) cuda CUDA_ARCHS="80;86;89;90;100;120"

cuda-report: $(STAMPS)/images ## the CUDA kernels as machine code, against their bounds: no GPU (STATIC="--arch sm_90")
	$(BIN)/python bench/static_report.py --check $(STATIC)

gpu-report: ## offline: build for this GPU, test and measure (REPORT="--budget 500"; "--device cpu" rehearses)
	$(GPU_PYTHON) tools/gpu_report.py $(REPORT)

lint: $(STAMPS)/dev ## ruff, mypy and clang-format, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

format: $(STAMPS)/dev ## let ruff and clang-format rewrite the files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

docs: $(STAMPS)/docs ## build the documentation into site/, warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(STAMPS)/docs ## serve the documentation on 127.0.0.1:8000
	$(BIN)/mkdocs serve --dev-addr 127.0.0.1:8000

dist: $(STAMPS)/dev ## sdist and wheel into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation

clean: ## remove what was built; $(VENV) stays
	rm -rf build dist site *.egg-info python/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf bbs_kernels/include bbs_kernels/images
	rm -f bbs_kernels/*.so $(STAMPS)/package $(STAMPS)/images $(STAMPS)/cuda-archs $(STAMPS)/demo $(STAMPS)/test $(STAMPS)/bench $(STAMPS)/docs $(STAMPS)/dev
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# --- set-up ----------------------------------------------------------------------------------------------------------

$(STAMPS)/venv:
	@tools/preflight.sh "$(PYTHON)"
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# The requirement as text: rewritten, and so newer than what depends on it, only when TORCH changed.
$(STAMPS)/torch-wanted: $(STAMPS)/venv FORCE
	@echo '$(TORCH)' | cmp -s - $@ || echo '$(TORCH)' > $@

# The installed version as text: a new requirement that is already met (2.13.0, then any torch) rebuilds nothing.
$(STAMPS)/torch: $(STAMPS)/torch-wanted
	$(BIN)/python -m pip install "$(TORCH)"
	@$(BIN)/python -c 'from importlib.metadata import version; print(version("torch"))' > $@.new
	@cmp -s $@.new $@ || cp $@.new $@
	@rm $@.new && touch -r $@ $(STAMPS)/torch-wanted

# An environment that has images keeps them: every later install compiles what changed of them.
WITH_CUDA = $(if $(wildcard $(STAMPS)/images),BBS_CUDA=1 BBS_CUDA_ARCHS="$(CUDA_ARCHS)")

$(STAMPS)/package: $(STAMPS)/torch $(NATIVE)
	@tools/preflight.sh "$(PYTHON)"
	$(WITH_CUDA) $(BIN)/python -m pip install --quiet --no-build-isolation --editable .
	@touch $@

$(STAMPS)/cuda: $(STAMPS)/venv requirements-cuda.txt
	$(BIN)/python -m pip install --quiet -r requirements-cuda.txt
	@touch $@

# The targets as text: newer than the images only when they changed.
$(STAMPS)/cuda-archs: $(STAMPS)/venv FORCE
	@echo '$(CUDA_ARCHS)' | cmp -s - $@ || echo '$(CUDA_ARCHS)' > $@

$(STAMPS)/images: $(STAMPS)/torch $(STAMPS)/cuda $(STAMPS)/cuda-archs $(NATIVE)
	@tools/preflight.sh "$(PYTHON)"
	BBS_CUDA=1 BBS_CUDA_ARCHS="$(CUDA_ARCHS)" $(BIN)/python -m pip install --quiet --no-build-isolation --editable .
	@touch $@ $(STAMPS)/package

# Stamps named after the extras of pyproject.toml.
$(STAMPS)/demo $(STAMPS)/test $(STAMPS)/bench $(STAMPS)/docs $(STAMPS)/dev: $(STAMPS)/torch $(NATIVE)
	@tools/preflight.sh "$(PYTHON)"
	$(WITH_CUDA) $(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[$(notdir $@)]"
	@touch $@
