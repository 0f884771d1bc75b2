# Two commands do all their own set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard sw_emu/*.cpp sw_emu/*.h sw_emu/*.py hls/include/zipml/*.hpp hls/src/*)
CXX_FILES := $(wildcard hls/include/zipml/*.hpp hls/src/*.hpp hls/src/*.cpp hls/tb/*.cpp sw_emu/*.cpp sw_emu/*.h)
CXX_FILES := $(filter-out sw_emu/%.o,$(CXX_FILES))

.PHONY: demo test test-bench test-python lint format bench clean

demo: $(VENV)/.built
	$(BIN)/python -m zipml_pynq.demo

test: lint test-bench test-python

test-python: $(VENV)/.built-test
	$(BIN)/python -m pytest

# ---- set-up ----------------------------------------------------------------------------------
# Each stamp is newer than what it was made from. hls4ml is installed without its dependencies: only
# the C-simulation headers that it carries are used.

$(VENV)/.tools:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet 'setuptools>=68' wheel 'cffi>=1.15'
	$(BIN)/python -m pip install --quiet --no-deps 'hls4ml>=1.0,<2'
	touch $@

$(VENV)/.built: $(VENV)/.tools pyproject.toml setup.py $(NATIVE)
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[demo]'
	touch $@

$(VENV)/.built-test: $(VENV)/.built
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[test,bench]'
	touch $@

# ---- C++ test bench, with sanitizers -----------------------------------------------------------
# The simulation headers are the vendor's: their own shifts trip -fsanitize=shift, and ap_int reads
# itself before it is initialized, so those two checks are off for the kernel (the engine's tests
# cover the shared arithmetic with them on).
BENCH_FLAGS := -std=c++14 -O1 -g -Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-unused-label \
	-Wno-uninitialized -Wno-maybe-uninitialized -Ihls/include \
	-fsanitize=address,undefined -fno-sanitize=shift -fno-sanitize-recover=all
BENCHES := $(foreach top,zipml_sgd zipml_sgd_f32,$(foreach width,64 128 512,$(top)-$(width)))

test-bench: $(BENCHES:%=build/tb/%.passed)

build/tb/%.passed: top = $(word 1,$(subst -, ,$*))
build/tb/%.passed: width = $(word 2,$(subst -, ,$*))
build/tb/%.passed: $(NATIVE) hls/tb/zipml_sgd_tb.cpp $(VENV)/.tools
	@mkdir -p build/tb
	$(CXX) $(BENCH_FLAGS) -isystem "$$($(BIN)/python sw_emu/build_kernel.py --headers)" \
		-DZIPML_WORD_BITS=$(width) $(if $(filter %_f32,$(top)),-DZIPML_BENCH_FLOAT) \
		hls/src/$(top).cpp hls/tb/zipml_sgd_tb.cpp -o build/tb/$*
	build/tb/$*
	@touch $@

# ---- checks ------------------------------------------------------------------------------------

lint: $(VENV)/.built-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

format: $(VENV)/.built-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

bench: $(VENV)/.built-test
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf build $(VENV) demo
	rm -f zipml_pynq/_engine* zipml_pynq/_kernel* sw_emu/*.o
