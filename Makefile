# make demo: install, then do the main job on the embedded data.  make test: check, then test.  make check: lint and types.
# make test-avx2: tests that depend on the processor once more, held down to AVX2. A machine without more has run them.
# make soak MINUTES=30: kill commands at random moments, and compare what they leave with undisturbed runs.
# make docs: the documentation site, into build/docs.
.PHONY: demo test test-avx2 soak check docs install clean
BIN := .venv/bin
STAMP := .venv/.installed-$(shell cat pyproject.toml constraints.txt Makefile | cksum | tr ' ' -)
WORKERS ?= 3
export TOKENIZERS_PARALLELISM ?= false

demo: $(STAMP)
	$(BIN)/mcontriever demo --output runs/demo

test: check
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --forks $(WORKERS)

AVX2_ONLY := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2
BEYOND_AVX2 := from mcontriever.processor import instruction_sets as found; raise SystemExit(found() <= {"avx2", "fma3"})
PROCESSOR_TESTS := tests/test_cpu_operators.py tests/test_processor.py tests/test_train.py tests/test_train_refusals.py \
  tests/test_finetune.py tests/test_mine.py tests/journeys tests/encoder/test_cpu_int8.py tests/encoder/test_encoder.py \
  tests/encoder/test_saved_model.py tests/encoder/test_texts_to_vectors.py tests/encoder/test_without_transformers.py \
  tests/retrieval/embedding tests/retrieval/test_calibrated_search.py tests/retrieval/test_searcher.py \
  tests/retrieval/vector_search tests/pretraining/test_infonce.py tests/pretraining/test_inbatch.py \
  tests/pretraining/test_moco.py tests/training/test_engine_settings.py

test-avx2: $(STAMP)
	@if $(BIN)/python -c '$(BEYOND_AVX2)'; then \
	  $(AVX2_ONLY) OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --forks $(WORKERS) $(PROCESSOR_TESTS); \
	else echo "make test-avx2: this processor has nothing beyond AVX2, so make test covers it"; fi

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

MINUTES ?= 30

soak: $(STAMP)
	$(BIN)/python benchmarks/reliability/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

docs: $(STAMP)
	$(BIN)/python docs/generate_reference.py
	$(BIN)/mkdocs build --quiet

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
