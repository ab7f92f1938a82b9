# Each target installs what it needs, once. `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
DOCS := $(VENV)/.installed-docs
NPM := $(VENV)/npm
PAGE := out/page
RUNTIME := ort.wasm.bundle.min.mjs ort-wasm-simd-threaded.wasm ort.webgpu.bundle.min.mjs ort-wasm-simd-threaded.asyncify.wasm

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow fuzz test-browser lint format docs docs-serve page train bank bench figures experiments clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(RUN): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(RUN)

$(DOCS): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@ $(RUN)

setup: $(DEV) ## create the virtual environment with all dependencies

demo: $(RUN) ## stylize the example photos in the example styles
	$(BIN)/adain grid --content examples/content --style examples/style --output out/demo

test: $(DEV) ## run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(DEV) ## run the slow tests, and the GPU tests if there is a GPU
	$(BIN)/python -m pytest -n 2 -m '(slow or gpu) and not browser'

$(NPM): docs/page/package.json
	mkdir -p $@
	cp $< $@
	npm install --prefix $@ --no-audit --no-fund
	@touch $@

fuzz: $(DEV) ## try 20,000 damaged images, and as many other hostile files as is in proportion
	FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest tests/fuzz --timeout 7200

test-browser: page ## run the browser tests; needs Chromium and npm
	$(BIN)/python -m pytest -m browser

lint: $(DEV) ## check style, types, and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DOCS) ## build the documentation site in out/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

docs-serve: $(DOCS) ## show the documentation site at http://127.0.0.1:8000/ while you write
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

page: $(NPM) $(DEV) ## build the static page, with its networks and the runtime that it needs, in out/page; needs npm
	rm -rf $(PAGE)
	mkdir -p $(PAGE)/runtime
	cp -R docs/page/. $(PAGE)
	rm $(PAGE)/package.json
	cp $(addprefix $(NPM)/node_modules/onnxruntime-web/dist/,$(RUNTIME)) $(PAGE)/runtime
	$(BIN)/adain export --method adain-lite --part style-encoder --output $(PAGE)/style_encoder.onnx
	$(BIN)/adain export --method adain-lite --part stylizer --output $(PAGE)/stylizer.onnx
	$(BIN)/adain export --method adain-lite --part stylizer --output $(PAGE)/stylizer_int8.onnx \
		--precision int8 --calibration examples/content examples/style

train: $(RUN) ## train AdaIN on COCO and WikiArt; ARGS='--data.content DIR --data.style DIR' for your own images
	$(BIN)/python train.py fit --config configs/adain.yaml $(ARGS)

bank: $(RUN) ## rebuild the bank of styles of adain-lite for its present weights; STYLES=DIR is a folder of paintings
	@test -n "$(STYLES)" || { echo "make bank STYLES=DIR: expected a folder of paintings"; exit 2; }
	$(BIN)/adain encode-style --method adain-lite --style "$(STYLES)" --limit 2000 \
		--output checkpoints/adain_lite_bank.safetensors
	cd checkpoints && sha256sum *.safetensors > SHA256SUMS

bench: $(RUN) ## benchmark training and stylizing against a textbook implementation
	$(BIN)/python -m benchmarks.speed

figures: $(DEV) ## make the tables of the documentation again; ARGS='--only NAME ...' for some of them
	$(BIN)/python -m benchmarks.figures $(ARGS)

experiments: $(DEV) ## run the experiments of docs/experiments.md and docs/methods.md again; takes about twelve hours
	$(BIN)/python -m benchmarks.figures --only docs/experiments.md comparison photorealism "experiments regions"

clean: ## remove the virtual environment, caches, and output folders
	rm -rf $(VENV) out dist .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
