# `make demo` and `make test` set up everything they need; they require only Python 3.11 or later and make.
#   make install             sets everything up, no more
#   make docs                the documentation site, in build/site; every link is checked
#   make test-fast           linters and the tests that are not marked slow
#   make test-long           the tests of several machines, clusters and MuJoCo Warp, which take many minutes
#   make PYTHON=python3.12   another interpreter
#   make TORCH=cuda          PyTorch with CUDA (the default where there is an NVIDIA GPU), or TORCH=cpu

PYTHON ?= python3
TORCH ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
BIN := .venv/bin
READY := .venv/.ready
FPO := runs/demo-fpo
PPO := runs/demo-ppo

.PHONY: install demo docs test test-fast test-long lint clean

$(READY): pyproject.toml constraints.txt scripts/setup.sh
	PYTHON="$(PYTHON)" TORCH="$(TORCH)" sh scripts/setup.sh .venv
	@touch $@

install: $(READY)

# Trains GridWorld with FPO and with PPO for as long; evaluates the flow under five samplers; draws both: by these steps
# the Gaussian goes one way from the middle, where the flow still goes either way.
demo: $(READY)
	@rm -rf $(FPO) $(PPO)
	$(BIN)/flowrl train gridworld.yaml --name $(notdir $(FPO)) --set total_steps=131072
	$(BIN)/flowrl train gridworld.yaml --name $(notdir $(PPO)) --set total_steps=131072 --set algorithm=ppo
	$(BIN)/flowrl eval $(FPO) --sampler euler:10,midpoint:5,heun:5,rk4:4,dopri5 --episodes 500
	$(BIN)/flowrl plot $(FPO) $(PPO) --field --out runs/demo.png

docs: $(READY)
	$(BIN)/python scripts/site.py
	$(BIN)/zensical build --strict
	$(BIN)/python scripts/links.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -n 4 --dist worksteal -m "not long"

test-long: lint
	$(BIN)/pytest -m long

test-fast: lint
	$(BIN)/pytest -n 4 --dist worksteal -m "not slow"

clean:
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache
