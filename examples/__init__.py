"""Programs to run and read: ``python examples/NAME.py``."""
