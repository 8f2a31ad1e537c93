"""Serving a model: engines, and an endpoint that speaks the Chat Completions API for any chat template.

`docs/serving.md` shows it; `pip install 'toolparse[serve]'` installs what it needs.
"""

from toolparse.serving.engine import Constraint, Engine, EngineError, Piece, Sampling
from toolparse.serving.scripted import ScriptedEngine

__all__ = ["Constraint", "Engine", "EngineError", "Piece", "Sampling", "ScriptedEngine"]
