"""Measurements: `run.py` against the floor and other parsers, `growth.py` under hostile input."""
