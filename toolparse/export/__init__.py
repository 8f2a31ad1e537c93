"""What follows from a format for other tools: grammars for constrained decoding, transformers' response templates."""

from toolparse.export.grammar import grammar
from toolparse.export.response_template import Imported, from_response_template, to_response_template

__all__ = ["Imported", "from_response_template", "grammar", "to_response_template"]
