# Three commands do all their own set-up: `make demo`, `make notebook` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard sw_emu/*.cpp sw_emu/*.h sw_emu/*.hpp sw_emu/*.py sw_emu/tb/*.cpp \
	sw_emu/simulation/*.h \
	hls/include/zipml/*.hpp hls/src/*.hpp hls/src/*.cpp hls/src/stages/*.hpp)
CXX_FILES := $(wildcard hls/include/zipml/*.hpp hls/src/*.hpp hls/src/*.cpp hls/src/stages/*.hpp \
	hls/tb/*.hpp hls/tb/*.cpp sw_emu/*.cpp sw_emu/*.h sw_emu/*.hpp sw_emu/tb/*.cpp \
	sw_emu/simulation/*.h tests/fuzz/*.cpp tests/rtl/*.h tests/rtl/*.cpp benchmarks/*.cpp \
	wheels/python/*.c)

.PHONY: demo notebook test test-native test-bench test-cross test-python test-side-by-side test-alone \
	test-elsewhere test-newest run-newest \
	test-floors run-floors lint format docs fuzz rtl bench study-levels study-mnist study-nonlinear \
	study-paper study-end-to-end study-distributed study-defaults study-defaults-auto study-defaults-levels \
	study-refinement study-deep study-deep-quick \
	test-wheel wheels wheels-again check-wheels wheels-pythons wheels-sdist wheels-arm wheels-windows \
	check-workflow clean

demo: $(VENV)/.built
	$(BIN)/python -m zipml_pynq.demo

# Opens Jupyter Lab on the notebooks; options for it in JUPYTER.
notebook: $(VENV)/.built-notebook
	$(BIN)/jupyter lab --notebook-dir notebooks $(JUPYTER)

# On all cores: first what compiles, then tests that go side by side, then those that do not, beside
# the ones in other environments.
together = +$(MAKE) --no-print-directory --output-sync=target -j$$(nproc)
test:
	$(together) lint docs test-bench test-cross
	$(MAKE) --no-print-directory test-side-by-side
	$(together) test-alone test-elsewhere

# Everything in C++.
test-native: $(VENV)/.tools
	$(together) test-bench test-cross

# Side by side where no test has a port, or a time, that others would take.
SIDE_BY_SIDE := $(addprefix tests/,data training learn command_line hls overlay deep \
	$(patsubst %,accelerator/test_%.py,engine engine_rows engine_refusals kernel segments refine host held proximal))
test-python: test-side-by-side test-alone

test-side-by-side: $(VENV)/.built-test
	$(BIN)/python -m pytest --numprocesses=$$(nproc) $(SIDE_BY_SIDE)

test-alone: $(VENV)/.built-test
	$(BIN)/python -m pytest $(addprefix --ignore=,$(SIDE_BY_SIDE))

# One after the other: together they would keep more cores busy than two.
test-elsewhere: $(VENV)/.built-test
	$(MAKE) --no-print-directory -j1 test-newest
	$(MAKE) --no-print-directory -j1 test-floors
	$(MAKE) --no-print-directory -j1 test-wheel

# First Python of a minor version that runs: on PATH, or one of pyenv's.
find_python = $(firstword $(foreach python,python3.$(1) $(wildcard $(shell pyenv root 2>/dev/null)/versions/3.$(1).*/bin/python),\
	$(if $(shell $(python) -c 'print(1)' 2>/dev/null),$(python))))
NEWEST ?= $(or $(call find_python,14),$(call find_python,13))
OLDEST ?= $(or $(call find_python,10),$(PYTHON))

# Everything that does without pynq, on the newest Python and NumPy 2, on the extensions that the first
# environment built.
test-newest: $(VENV)/.built-test
	$(if $(NEWEST),$(MAKE) --no-print-directory run-newest NEWEST=$(NEWEST),\
		@echo "test-newest: skipped, because no Python later than 3.12 is installed")

run-newest: $(VENV)-newest/.ready
	PYTHONPATH=$(CURDIR) $(VENV)-newest/bin/python -m pytest $(addprefix tests/,test_package.py data/test_pack.py \
		data/test_packed_file.py data/test_columns.py data/test_normalization.py data/test_streams.py \
		accelerator/test_host.py accelerator/test_engine_refusals.py command_line learn/test_defaults.py \
		learn/test_models.py training/test_reference.py training/test_plan.py)

$(VENV)-newest/.ready: pyproject.toml
	$(NEWEST) -m venv --clear $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet 'numpy>=2' scipy cffi safetensors 'setuptools>=68' \
		'scikit-learn>=1.6' tqdm 'click>=8.2' pandas pytest hypothesis
	touch $@

# What a board's image brings, at its oldest: pynq 3.1, and once more 3.0, in an environment of their own
# on the same extensions; setuptools 59.6 does not read pyproject.toml. Without Python 3.10, which these
# floors have wheels for, pynq alone is the image's.
IMAGE := $(if $(call find_python,10),setuptools==59.6.0 numpy==1.21.5 scipy==1.8.0 cffi==1.15.0,\
	'setuptools<81' 'numpy<2' scipy cffi) pynq==3.1.2 'pycparser<3'

test-floors: $(VENV)/.built-test
	$(MAKE) --no-print-directory run-floors OLDEST=$(OLDEST)

run-floors: $(VENV)-floors/.ready
	PYTHONPATH=$(CURDIR) $(VENV)-floors/bin/python -m pytest tests/devices tests/test_package.py tests/data/test_pack.py \
		tests/data/test_packed_file.py $(filter-out tests/accelerator/test_engine% \
		tests/accelerator/test_kernel%,$(wildcard tests/accelerator/test_*.py))
	PYTHONPATH=$(CURDIR):$(CURDIR)/$(VENV)-floors/pynq-3.0 $(VENV)-floors/bin/python -m pytest tests/devices/test_overlay.py \
		tests/accelerator/test_driver.py tests/accelerator/test_loaded.py

$(VENV)-floors/.ready: pyproject.toml
	$(OLDEST) -m venv --clear $(VENV)-floors
	$(VENV)-floors/bin/python -m pip install --quiet $(IMAGE) safetensors pytest hypothesis tqdm
	$(VENV)-floors/bin/python -m pip install --quiet --no-deps --target $(VENV)-floors/pynq-3.0 pynq==3.0.1
	touch $@

# ---- set-up ----------------------------------------------------------------------------------
# Each stamp is newer than what it was made from. hls4ml is installed without its dependencies: only
# the C-simulation headers that it carries are used.

# setuptools would take what it built before; the rest of the folder is others', perhaps at work.
FRESH := rm -rf build/lib* build/temp* build/bdist*

$(VENV)/.tools:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet 'setuptools>=68' wheel 'cffi>=1.15'
	$(BIN)/python -m pip install --quiet --no-deps 'hls4ml>=1.0,<2'
	touch $@

$(VENV)/.built: $(VENV)/.tools pyproject.toml setup.py $(NATIVE)
	$(FRESH)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[demo]'
	touch $@

$(VENV)/.built-notebook: $(VENV)/.tools pyproject.toml setup.py $(NATIVE)
	$(FRESH)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[notebooks]'
	touch $(VENV)/.built $@

# What the demo needs and more, so one build serves both. Tests of the kernel are skipped where it
# was not built, so here it has to be.
$(VENV)/.built-test: $(VENV)/.tools pyproject.toml setup.py $(NATIVE)
	$(FRESH)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[test,bench,docs]'
	$(BIN)/python -c 'import zipml_pynq._kernel'
	touch $(VENV)/.built $@

# Packages of public tables, which nothing but one study needs; pandas is there for the tests.
$(VENV)/.built-study: $(VENV)/.built-test
	$(FRESH)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[study]'
	touch $(VENV)/.built $(VENV)/.built-test $@

# ---- C++ test bench, with sanitizers -----------------------------------------------------------
# The kernel is built on the vendor's simulation headers: their own shifts trip -fsanitize=shift, and
# ap_int reads itself before it is initialized, so those two checks are off for it. The same bench
# runs the engine with every check on, on two threads, with this machine's best loops, the portable ones,
# AVX2's and AVX-VNNI's (where they do not run, the best again), those on planes at every size; function
# clones are off there, whose loops are the portable ones once more. In the long sweep the
# kernel's processes run side by side, with clocks; in the short one, as the vendor's C simulation has
# it, one after the other.
BENCH_FLAGS := -std=c++14 -O1 -g1 -Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-unused-label \
	-Wno-uninitialized -Wno-maybe-uninitialized -Ihls/include -Isw_emu \
	-fsanitize=address,undefined -fno-sanitize-recover=all
ENGINE_FLAGS := -pthread -DZIPML_NO_CLONES -DZIPML_VECTOR_LOOPS -DZIPML_ON_PLANES
LOOPS := portable avx2 avxvnni avx512bw
TOPS := zipml_sgd zipml_sgd_f32 zipml_sgd_levels zipml_sgd_refetch zipml_sgd_wide
WIDTHS := 64 128 512
# The widest tables of levels need the deepest port in co-simulation.
# The engine reads words of all widths by one loop, so those in the middle are the first kernel's alone; the
# wide kernel is the first one's code.
BENCHES := $(filter-out $(patsubst %,engine-%-128,$(wordlist 2,4,$(TOPS))) \
	$(foreach width,128 512,kernel-zipml_sgd_wide-$(width) engine-zipml_sgd_wide-$(width)),\
	$(foreach top,$(TOPS),$(foreach width,$(WIDTHS),kernel-$(top)-$(width) engine-$(top)-$(width)))) \
	$(TOPS:%=quick-%-64) quick-zipml_sgd_levels-512

# The engine is the same for all benches, and takes longest: first.
test-bench: build/tb/engine.o $(BENCHES:%=build/tb/%.passed)

build/tb/engine.o: $(NATIVE)
	@mkdir -p build/tb
	$(CXX) $(BENCH_FLAGS) $(ENGINE_FLAGS) -c sw_emu/engine.cpp -o $@

$(filter build/tb/engine-%,$(BENCHES:%=build/tb/%.passed)): build/tb/engine.o

build/tb/%.passed: build_name = $(word 1,$(subst -, ,$*))
build/tb/%.passed: top = $(word 2,$(subst -, ,$*))
build/tb/%.passed: width = $(word 3,$(subst -, ,$*))
build/tb/%.passed: options = -DZIPML_WORD_BITS=$(width) \
	$(if $(filter %_f32,$(top)),-DZIPML_BENCH_FLOAT) $(if $(filter %_levels,$(top)),-DZIPML_BENCH_LEVELS) \
	$(if $(filter %_refetch,$(top)),-DZIPML_BENCH_REFETCH) $(if $(filter %_wide,$(top)),-DZIPML_BENCH_WIDE)
build/tb/kernel-%.passed: subject = -isystem sw_emu/simulation -pthread hls/src/$(top).cpp \
	-fno-sanitize=shift -DZIPML_WATCH -Ihls/tb
build/tb/quick-%.passed: subject = hls/src/$(top).cpp -fno-sanitize=shift -DZIPML_BENCH_QUICK
build/tb/engine-%.passed: subject = sw_emu/tb/engine_top.cpp build/tb/engine.o $(ENGINE_FLAGS) \
	-DZIPML_BENCH_ENGINE
build/tb/%.passed: $(NATIVE) $(wildcard hls/tb/*) $(VENV)/.tools
	@mkdir -p build/tb
	$(CXX) $(BENCH_FLAGS) $(options) $(subject) \
		-isystem "$$($(BIN)/python sw_emu/build_kernel.py --headers)" hls/tb/zipml_sgd_tb.cpp -o build/tb/$*
	build/tb/$*
	$(if $(filter engine-%,$*),for loops in portable avx2 avxvnni; do ZIPML_LOOPS=$$loops build/tb/$* || exit 1; done)
	@touch $@

# ---- packing and engine on Arm -----------------------------------------------------------------
# A board builds them for itself, without any vendor header: built here as there (the flags are those
# of sw_emu/extension.py), run under qemu, the same bits as this machine's portable loops; so do its
# other loops. Linked statically, so that no libraries of the target have to be installed.
CROSS_aarch64 := aarch64-linux-gnu-g++ qemu-aarch64 neon neondot
CROSS_armhf := arm-linux-gnueabihf-g++ qemu-arm portable
CROSS_BUILD := -std=c++14 -O3 -ffp-contract=off -Wall -Wextra -Werror -Wno-psabi -DZIPML_ON_PLANES \
	-Ihls/include -Isw_emu sw_emu/tb/checksum.cpp $(filter-out sw_emu/kernel%,$(wildcard sw_emu/*.cpp))

test-cross: cross-aarch64 cross-armhf

build/cross/host.txt: $(NATIVE)
	@mkdir -p build/cross
	$(CXX) $(CROSS_BUILD) -o build/cross/host
	ZIPML_LOOPS=portable build/cross/host > $@.new
	for loops in $(LOOPS) best; do ZIPML_LOOPS=$$loops build/cross/host | cmp $@.new - || exit 1; done
	mv $@.new $@

cross-%: build/cross/host.txt
	@for tool in $(wordlist 1,2,$(CROSS_$*)); do command -v $$tool > /dev/null || { \
		echo "test-cross: $* skipped, because $$tool is not installed"; exit 0; }; done; \
	set -ex -- $(CROSS_$*); \
	$$1 $(CROSS_BUILD) -static -o build/cross/$*; \
	for loops in portable $(wordlist 3,9,$(CROSS_$*)); do \
		ZIPML_LOOPS=$$loops $$2 build/cross/$* > build/cross/$*.txt; \
		cmp build/cross/host.txt build/cross/$*.txt; \
	done

# ---- wheels --------------------------------------------------------------------------------------
# For every machine, by cross compilation: build/wheels/dist. What the checks need beyond that is at
# the top of each one's module in wheels/.

$(VENV)-wheels/.ready: wheels/requirements.txt
	$(PYTHON) -m venv --clear $(VENV)-wheels
	$(VENV)-wheels/bin/python -m pip install --quiet -r $<
	touch $@

wheels: $(VENV)-wheels/.ready
	$(VENV)-wheels/bin/python -m wheels $(TARGETS)

$(VENV)-wheels/.checkers: $(VENV)-wheels/.ready wheels/checkers.txt
	$(VENV)-wheels/bin/python -m pip install --quiet -r wheels/checkers.txt
	touch $@

# Minutes: the compiler begins from nothing.
wheels-again: $(VENV)-wheels/.ready
	$(VENV)-wheels/bin/python -m wheels.again

check-wheels: $(VENV)-wheels/.checkers
	$(VENV)-wheels/bin/python -m wheels.rules

check-workflow: $(VENV)-wheels/.checkers
	$(VENV)-wheels/bin/zizmor --offline --persona=pedantic .github/workflows

wheels-pythons: $(VENV)/.built-test
	$(BIN)/python -m wheels.installed

wheels-sdist: $(VENV)/.built-test
	$(BIN)/python -m wheels.installed --sdist

wheels-arm: $(VENV)/.built-test
	$(BIN)/python -m wheels.arm

wheels-windows: $(VENV)/.built-test $(VENV)-wheels/.ready build/cross/host.txt
	PYTHONPATH=. $(BIN)/python wheels/bits.py > build/wheels/bits.txt
	$(VENV)-wheels/bin/python -m wheels.windows build/cross/host.txt build/wheels/bits.txt

# Not the cross-compiled one, which takes minutes where nothing of it is there: the engine that was
# built here anyway, packed as they are, in an empty environment without a compiler.
test-wheel: $(VENV)/.built-test
	$(BIN)/python -m wheels.installed --here

# ---- RTL -----------------------------------------------------------------------------------------
# For those who have PandA-Bambu, Verilator and Yosys: build/rtl.

rtl: $(VENV)/.built-test
	$(BIN)/python -W ignore -m tests.rtl

# ---- fuzzing -------------------------------------------------------------------------------------
# Minutes; a little of it is among the tests. Writes the figures of docs/reliability.md.

fuzz: $(VENV)/.built-test
	$(BIN)/python -W ignore -m tests.fuzz
	$(BIN)/python -m docs.write_numbers

# ---- checks ------------------------------------------------------------------------------------

lint: $(VENV)/.built-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

format: $(VENV)/.built-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

# ---- documentation ---------------------------------------------------------------------------
# A warning is an error, and so is whatever a reader's browser would have to fetch from elsewhere.

docs: $(VENV)/.built-test
	rm -rf build/site
	$(BIN)/sphinx-build -q -E -W --keep-going -b html -c docs -d build/doctrees . build/site
	@! grep -rnoE '<(script|link|img|iframe)[^>]*(src|href)="(https?:)?//[^"]*"' --include='*.html' build/site
	@echo "documentation: build/site/index.html"

# ---- measurements ----------------------------------------------------------------------------
# Beside QUIVER where ZIPML_QUIVER names a checkout of its repository.
# What a user has who installs the package and scikit-learn, and nothing else.
build/plain/.built: $(VENV)/.built-test
	$(BIN)/python -m venv build/plain
	build/plain/bin/pip install -q '.[sklearn]'
	touch $@

bench: $(VENV)/.built-test build/plain/.built
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.loops
	$(BIN)/python -m benchmarks.packing
	$(BIN)/python -m benchmarks.levels
	$(BIN)/python -m benchmarks.command_line
	$(BIN)/python -m benchmarks.fits --plain build/plain/bin/python
	$(BIN)/python -m benchmarks.fits --avx2
	$(BIN)/python -m benchmarks.wheel
	$(BIN)/python -m benchmarks.distributed

study-levels: $(VENV)/.built-test
	$(BIN)/python -m studies.levels

study-mnist: $(VENV)/.built-test
	$(BIN)/python -m studies.mnist

study-nonlinear: $(VENV)/.built-test
	$(BIN)/python -m studies.nonlinear

# Every figure of the paper, or one: make study-paper-refetching.
study-paper: $(VENV)/.built-test
	$(BIN)/python -m studies.paper

study-paper-%: $(VENV)/.built-test
	$(BIN)/python -m studies.paper $*

study-end-to-end: $(VENV)/.built-test
	$(BIN)/python -m studies.end_to_end

study-distributed: $(VENV)/.built-test
	$(BIN)/python -m studies.distributed

study-refinement: $(VENV)/.built-test
	$(BIN)/python -m studies.refinement

study-defaults: $(VENV)/.built-study
	$(BIN)/python -m studies.defaults

study-defaults-auto study-defaults-levels: study-defaults-%: $(VENV)/.built-study
	$(BIN)/python -m studies.defaults_pairs $*

# Hours on two cores: stopped, it goes on where it was. The quick one takes minutes.
study-deep: $(VENV)/.built-test
	$(BIN)/python -m studies.deep

study-deep-quick: $(VENV)/.built-test
	$(BIN)/python -m studies.deep --quick --output build/deep_quick

clean:
	rm -rf build $(VENV) $(VENV)-newest $(VENV)-floors $(VENV)-wheels demo
	rm -f zipml_pynq/_engine* zipml_pynq/_kernel* sw_emu/*.o
