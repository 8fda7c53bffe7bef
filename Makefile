# make demo     train, sample and score on handwritten digits, in minutes
# make demo-weather  generate weather, train on it, forecast and score, in minutes
# make demo-molecules  train on small molecules that come with a library, generate and score some, in minutes
# make figure2  the paper's toy: three predictions in 2 to 512 dimensions, in minutes
# make docs     the documentation as a site, in site/index.html
# make test     format, lint, types, import contracts, tests
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo demo-weather demo-molecules figure2 docs test clean

.venv: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "rawdiff needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]' || \
	  { rm -rf .venv; exit 1; }
	@touch .venv

demo: .venv
	$(BIN)/rawdiff train recipes/demo.yaml
	$(BIN)/rawdiff sample runs/demo
	$(BIN)/rawdiff eval runs/demo
	$(BIN)/rawdiff report runs/demo
	@echo
	@echo "page:    runs/demo/report.html"
	@echo "picture: runs/demo/samples/picture.png"
	@echo "scores:  runs/demo/scores.json"
	@echo "log:     runs/demo/metrics.jsonl  (tensorboard --logdir runs/demo/tensorboard)"

data/flow.zarr: | .venv
	$(BIN)/python -m rawdiff_weather.generated $@ --days 1460

demo-weather: .venv data/flow.zarr
	$(BIN)/rawdiff train recipes/weather_demo.yaml
	$(BIN)/rawdiff sample runs/weather_demo --init 2004-10-01T00 --steps 20 --members 8
	$(BIN)/rawdiff eval runs/weather_demo
	@echo
	@echo "page:      runs/weather_demo/scores/forecast/index.html"
	@echo "forecast:  runs/weather_demo/forecast.zarr"

data/small_molecules.sdf: | .venv
	$(BIN)/python -m rawdiff_molecules.dictionary $@ --heavy-atoms 7

demo-molecules: .venv data/small_molecules.sdf
	$(BIN)/rawdiff prepare recipes/molecules_demo.yaml
	$(BIN)/rawdiff train recipes/molecules_demo.yaml
	$(BIN)/rawdiff sample runs/molecules_demo
	$(BIN)/rawdiff eval runs/molecules_demo
	@echo
	@echo "molecules: runs/molecules_demo/samples/molecules.sdf, drawn in picture.png beside it"
	@echo "scores:    runs/molecules_demo/scores.json"

figure2: .venv
	$(BIN)/rawdiff study recipes/figure2.yaml --grid flow.prediction=x,eps,v \
	  --grid data.num_dims=2,8,16,512 --metric curve/distance --parallel 2
	@echo
	$(BIN)/python benchmarks/figure2.py studies/figure2
	@echo "study:  studies/figure2/picture.png"
	@echo "table:  studies/figure2/table.md"

docs: .venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

test: .venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses 2 --dist loadfile

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
