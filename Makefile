# make demo: install, then do the main job on the embedded data.  make test: check, then test.  make check: lint and types.
.PHONY: demo test check install clean
BIN := .venv/bin
STAMP := .venv/.installed-$(shell cat pyproject.toml constraints.txt Makefile | cksum | tr ' ' -)
WORKERS ?= 2
export TOKENIZERS_PARALLELISM ?= false

demo: $(STAMP)
	$(BIN)/mcontriever demo --output runs/demo

test: check
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

install: $(STAMP)

$(STAMP):
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --clear --python ">=3.11" .venv && \
	  uv pip install --quiet --python $(BIN)/python $${PIP_FIND_LINKS:+--find-links $$PIP_FIND_LINKS} \
	    --constraint constraints.txt --editable ".[test]"; \
	else \
	  python3 -m venv --clear .venv && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"; \
	fi
	@touch $@

clean:
	rm -rf .venv runs build dist
