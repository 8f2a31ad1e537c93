"""What follows from a format for other tools: grammars for constrained decoding, transformers' response templates.

grammar            a format and tools -> rules, a turn at a time
schemas            a tool's JSON schema -> rules for its arguments
expressions        what rules are made of: expressions, and automata over characters
structural_tag     a format and tools -> a structural tag for xgrammar; the words that begin a call
syntaxes           rules -> EBNF, GBNF, Lark, regular expression
response_template  a format <-> transformers' `response_template` dict
"""

from toolparse.export.grammar import grammar
from toolparse.export.response_template import Imported, from_response_template, to_response_template, typed_tools
from toolparse.export.structural_tag import structural_tag, triggers

__all__ = [
    "Imported",
    "from_response_template",
    "grammar",
    "structural_tag",
    "to_response_template",
    "triggers",
    "typed_tools",
]
