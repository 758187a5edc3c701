# The commands of a contributor; each is a script that works without make, too.
#   make test ARGS='-k align'    hands arguments to pytest

.PHONY: help demo test lint format check coverage lowest action readers

help: ## list these commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: ## make a sample bag, convert it, show the dataset
	scripts/demo

test: ## build with colcon and run the tests, or some of them: ARGS='-k align'
	scripts/test $(ARGS)

lint: ## rules, format and types
	scripts/lint

format: ## format the code, and mend what can be
	scripts/lint --fix

check: ## everything that a change must pass, as CI runs it
	.ci/run

coverage: ## the tests, and how much of the package they run
	scripts/coverage $(ARGS)

lowest: ## the tests with the lowest versions that are allowed (Python 3.10)
	scripts/test_lowest $(ARGS)

action: ## the tests of convert_server's action, without ROS: builds its type with ROS's wheels
	scripts/test_action $(ARGS)

readers: ## real LeRobots, whose tests are left out otherwise
	scripts/lerobot_reader 0.4.4
	scripts/lerobot_reader 0.6.1
