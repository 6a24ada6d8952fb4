"""The parts of deploy/gpu-check. Python's standard library alone: it runs where nothing can be installed."""
