"""Ways to build a model: the contract in base.py and one file a backend."""
