# Everything a developer runs; `make help` lists it.
# Variables: PYTHON (interpreter, 3.11 or later), VENV (environment), PYTEST_ARGS, DEMO_OUT,
# TORCH (what pip installs for torch, e.g. with --index-url of the CPU-only wheels).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= torch torchvision
PYTEST_ARGS ?=
DEMO_OUT ?= demo-output

# Debian and Ubuntu packages that the wheels expect on the system: rasterio links to expat.
SYSTEM_PACKAGES := libexpat1
# The panels are tested in napari on a virtual display, rendered by software.
DISPLAY_PACKAGES := xvfb libegl1 libgl1 libglx-mesa0 libgl1-mesa-dri libxkbcommon-x11-0 \
  libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 \
  libxcb-render-util0 libxcb-xinerama0 libxcb-shape0 libdbus-1-3 libfontconfig1 fonts-dejavu-core

export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP_INSTALL = "$(BIN)/python" -m pip install --progress-bar off

.DEFAULT_GOAL := help
.PHONY: help demo test lint format clean display-packages

help:  ## list the targets
	@grep -E '^[a-z]+: .*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

demo: $(VENV)/.installed  ## install, then run every stage on a synthetic slide
	"$(BIN)/napari-wsss" demo --out "$(DEMO_OUT)"

test: lint  ## install, then run the linters, the type checker and every test
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev  ## run the linters and the type checker
	"$(BIN)/python" -m ruff check .
	"$(BIN)/python" -m ruff format --check .
	"$(BIN)/python" -m mypy

format: $(VENV)/.installed-dev  ## format the code and fix what can be fixed
	"$(BIN)/python" -m ruff check --fix .
	"$(BIN)/python" -m ruff format .

clean:  ## remove the environment, caches and build products
	rm -rf "$(VENV)" .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

display-packages:
	@echo $(DISPLAY_PACKAGES)

# Stamps make a second run quick; they age when pyproject.toml changes.

$(VENV)/.created:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'napari-wsss needs Python 3.11 or later: make PYTHON=python3.11 ...' >&2; exit 1; }
	.ci/system-packages $(SYSTEM_PACKAGES) \
	  $$("$(PYTHON)" -c 'import ensurepip' 2>/dev/null || echo python3-venv)
	"$(PYTHON)" -m venv "$(VENV)"
	touch "$@"

# torch first and by itself, so that a build chosen by hand (CPU, CUDA, ROCm) is kept.
$(VENV)/.torch: $(VENV)/.created
	"$(BIN)/python" -c 'import torch, torchvision' 2>/dev/null || $(PIP_INSTALL) $(TORCH)
	touch "$@"

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(PIP_INSTALL) -e '.[openslide]'
	touch "$@"

$(VENV)/.installed-dev: $(VENV)/.torch pyproject.toml
	.ci/system-packages $(DISPLAY_PACKAGES)
	$(PIP_INSTALL) -e '.[dev]'
	touch "$(VENV)/.installed" "$@"
