"""What follows from a format for other tools: grammars for constrained decoding, transformers' response templates."""

from toolparse.export.grammar import grammar

__all__ = ["grammar"]
