# SPDX-License-Identifier: Apache-2.0
# The commands of the project. Each installs the Debian packages it needs, when they are missing;
# the work itself is CMake's, CTest's, pytest's and the scripts' in tools/.

BUILD ?= build
JOBS ?= $(shell nproc)
PYTHON ?= /usr/bin/python3
SEEDS ?= 1000
FUZZ_SECONDS ?= 60
PYTEST_ARGS ?=
CTEST_ARGS ?=

VENV_PYTHON = $(BUILD)/venv/bin/python
CMAKE_ARGS = -G Ninja --no-warn-unused-cli -DPython_EXECUTABLE=$(PYTHON) -DPython3_EXECUTABLE=$(PYTHON)
CTEST = ctest --no-tests=error --output-on-failure --no-label-summary -j $(JOBS) $(CTEST_ARGS)
# The limits of tests, times what the caller asks for and what a sanitizer costs.
times = $(shell awk 'BEGIN { print $(1) * $(or $(RAY_TEST_TIMEOUT_MULTIPLIER),1) }')
# Sanitizers name functions and lines through this program.
export ASAN_SYMBOLIZER_PATH = /usr/bin/llvm-symbolizer-14
# Thread sanitizer can't map its shadow when the kernel places things too randomly.
UNRANDOM = $(shell setarch -R true 2>/dev/null && echo setarch -R)

# A report ends the process that it is about. Those of daemons and workers would be lost in the logs of
# a session, so all go to files, and one is an error whatever the test says.
ASAN_FLAGS = detect_leaks=1:abort_on_error=1:handle_segv=2:handle_sigbus=2:handle_sigill=2:handle_sigfpe=2
TSAN_FLAGS = halt_on_error=1:second_deadlock_stack=1:external_symbolizer_path=$(ASAN_SYMBOLIZER_PATH)

.PHONY: all runtime run test chaos bench sim crash lint format sanitize asan tsan fuzz clean help
.PHONY: deps-build deps-test deps-lint configure

all: deps-build deps-test configure ## builds everything, into build/
	cmake --build $(BUILD) -j $(JOBS)
	tools/venv.sh $(BUILD) $(PYTHON)

runtime: deps-build configure
	cmake --build $(BUILD) -j $(JOBS) --target runtime
	tools/venv.sh $(BUILD) $(PYTHON)

run: runtime ## builds and runs the example: pi, by sampling tasks
	$(VENV_PYTHON) examples/python/monte_carlo_pi.py

test: all ## builds and runs all tests: CTest, then pytest
	$(CTEST) --test-dir $(BUILD)
	tools/pytest.sh $(VENV_PYTHON) $(PYTEST_ARGS)

# -rP: each test tells its seed, how many it killed and how long the longest recovery took.
chaos: all ## kills processes in the full counts that are promised; 25 minutes
	RAY_CHAOS_FULL=1 $(VENV_PYTHON) -m pytest -q -rP -p no:cacheprovider tests/chaos/python \
		$(PYTEST_ARGS)

bench: all ## builds and runs the benchmarks
	$(VENV_PYTHON) bench/run.py

sim: deps-build configure ## runs SEEDS seeds in the simulator
	@if [ -e sim/CMakeLists.txt ]; then \
		cmake --build $(BUILD) -j $(JOBS) --target ray-sim && \
		$(BUILD)/bin/ray-sim --seeds $(SEEDS) && \
		$(BUILD)/bin/ray-sim --breaks --seeds $(SEEDS); \
	else echo "sim: no sim/CMakeLists.txt yet, nothing to run"; fi

# In a build of its own, since these fault points cost something on the way of every task. `make asan`
# has them too.
crash: deps-build deps-test ## kills real processes between any two shared stores (RAY_CHAOS_FULL=1: all counts)
	cmake -S . -B $(BUILD)/crash $(CMAKE_ARGS) --log-level=WARNING -DRAY_FAULT_STEPS=ON \
		-DRAY_BUILD_PYTHON=OFF >/dev/null
	cmake --build $(BUILD)/crash -j $(JOBS) --target crash_protocols
	$(CTEST) -L crash --test-dir $(BUILD)/crash

lint: deps-lint all ## checks format, house rules, purity, headers; clang-tidy; cppcheck
	tools/lint.sh $(BUILD) $(JOBS)

format: deps-lint ## formats every C file
	git ls-files '*.c' '*.h' | xargs -r clang-format-14 -i

sanitize: asan tsan ## builds and runs the C tests under ASan+UBSan and under TSan

# Both are clang's: they show at the same time that the tree is clean under its warnings.
asan: deps-build deps-test deps-lint
	cmake -S . -B $(BUILD)/asan $(CMAKE_ARGS) --log-level=WARNING -DCMAKE_BUILD_TYPE=Debug \
		-DCMAKE_C_COMPILER=clang-14 "-DCMAKE_C_FLAGS=-O1 -DRAY_DEBUG_ASSERTS" \
		-DRAY_BUILD_PYTHON=OFF -DRAY_SANITIZE=address,undefined -DRAY_FAULT_STEPS=ON >/dev/null
	cmake --build $(BUILD)/asan -j $(JOBS)
	rm -rf $(BUILD)/asan/reports && mkdir $(BUILD)/asan/reports
	RAY_TEST_TIMEOUT_MULTIPLIER=$(call times,5) \
	UBSAN_OPTIONS=print_stacktrace=1:abort_on_error=1:log_path=$(abspath $(BUILD))/asan/reports/ub \
	ASAN_OPTIONS=$(ASAN_FLAGS):log_path=$(abspath $(BUILD))/asan/reports/a \
		$(CTEST) -LE nosan --test-dir $(BUILD)/asan; \
	tools/reports.sh $(BUILD)/asan/reports $$?

tsan: deps-build deps-test deps-lint
	cmake -S . -B $(BUILD)/tsan $(CMAKE_ARGS) --log-level=WARNING -DCMAKE_BUILD_TYPE=Debug \
		-DCMAKE_C_COMPILER=clang-14 "-DCMAKE_C_FLAGS=-O1 -DRAY_DEBUG_ASSERTS" \
		-DRAY_BUILD_PYTHON=OFF -DRAY_SANITIZE=thread >/dev/null
	$(UNRANDOM) cmake --build $(BUILD)/tsan -j $(JOBS)
	rm -rf $(BUILD)/tsan/reports && mkdir $(BUILD)/tsan/reports
	RAY_TEST_TIMEOUT_MULTIPLIER=$(call times,10) \
	TSAN_OPTIONS=$(TSAN_FLAGS):log_path=$(abspath $(BUILD))/tsan/reports/t \
		$(UNRANDOM) $(CTEST) -LE nosan --test-dir $(BUILD)/tsan; \
	tools/reports.sh $(BUILD)/tsan/reports $$?

fuzz: deps-build deps-lint ## fuzzes every decoder, FUZZ_SECONDS in all
	@if ls tests/fuzz/fuzz_*.c >/dev/null 2>&1; then \
		cmake -S . -B $(BUILD)/fuzzing $(CMAKE_ARGS) --log-level=WARNING -DCMAKE_BUILD_TYPE=Debug \
			-DCMAKE_C_COMPILER=clang-14 "-DCMAKE_C_FLAGS=-O1 -DRAY_DEBUG_ASSERTS" \
			-DRAY_BUILD_PYTHON=OFF -DRAY_FUZZ=ON -DRAY_SANITIZE=address,undefined >/dev/null && \
		cmake --build $(BUILD)/fuzzing -j $(JOBS) --target fuzz_targets && \
		tools/fuzz.sh $(BUILD)/fuzzing $(FUZZ_SECONDS) $(JOBS); \
	else echo "fuzz: no tests/fuzz/fuzz_*.c yet, nothing to run"; fi

clean: ## removes build/
	rm -rf $(BUILD)

help: ## prints this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 18

configure:
	@cmake -S . -B $(BUILD) $(CMAKE_ARGS) --log-level=WARNING >/dev/null

deps-build deps-test deps-lint:
	@tools/install_deps.sh $(@:deps-%=%)
