# Everything is kept in ${XDG_CACHE_HOME:-~/.cache}/llm_generate_job, nothing in the repository.
PYTHON ?= python3
SCRIPT = PYTHONPYCACHEPREFIX="$${XDG_CACHE_HOME:-$$HOME/.cache}/llm_generate_job/pycache" \
	exec $(PYTHON) dev

.PHONY: help setup demo serve stop test mutate lint bench load provider wheel screenshots translate clean

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' Makefile

setup: ## fetch what the demo and the tests run on
	@$(SCRIPT)/setup.py test

demo: ## show queued generation with a real model (DEMO_EXIT=1: stop at the end)
	@$(SCRIPT)/demo.py

serve: ## start Odoo with the modules and a local model, in the background
	@$(SCRIPT)/serve.py

stop: ## stop what demo and serve started
	@$(SCRIPT)/stop.py

test: ## run all checks and tests (T=/llm_thread: only these; FAMILY=folder: on the family's addons)
	@T="$(T)" FAMILY="$(FAMILY)" $(SCRIPT)/test.py

mutate: ## break each guard, and require a red test (M=name,name: only these)
	@M="$(M)" $(SCRIPT)/mutate.py

lint: ## check style and conventions
	@$(SCRIPT)/lint.py

bench: ## measure
	@$(SCRIPT)/bench.py

load: ## run 10,000 jobs on three servers, one of which leaves in the middle (VIA=queue_job: there)
	@$(SCRIPT)/bench.py load

provider: ## write the addon of a new provider: NAME=acme (INTO=folder: there, not in addons/)
	@NAME="$(NAME)" INTO="$(INTO)" $(SCRIPT)/provider.py

wheel: ## build a wheel of each module (TEST=1: and run all their tests from there)
	@TEST="$(TEST)" $(SCRIPT)/wheel.py

screenshots: ## take a picture of each view
	@$(SCRIPT)/screenshots.py

translate: ## bring the translation files up to the sources
	@$(SCRIPT)/translate.py

clean: ## stop everything and remove the cache
	@$(SCRIPT)/clean.py
