"""Tools: from functions to JSON schemas, from text to typed arguments, from arguments to problems.

    schema        anything callable -> the dict that chat templates expect
    type_hints    type hints -> JSON schema         docstrings     descriptions, in every usual style
    schema_types  which types a schema admits       exact_values   text that is exactly one value
    convert       text and trees -> values          validation     arguments -> problems
    explaining    why arguments don't fit                problem_text   problems in a model's words
    toolset       Tool and ToolSet, which put it all together and remember it
    fitting       readings that are made only when asked for: coerce, infer

Nothing heavy is imported before it is needed: pydantic and docstring-parser when a schema needs them,
jsonschema-rs when a schema is compiled.
"""

from toolparse.tools.convert import Tree, untyped_tree
from toolparse.tools.fitting import coerce, infer
from toolparse.tools.problem_text import Problem
from toolparse.tools.schema import tool_schema
from toolparse.tools.toolset import Tool, ToolSet
from toolparse.tools.type_hints import Injected

__all__ = ["Injected", "Problem", "Tool", "ToolSet", "Tree", "coerce", "infer", "tool_schema", "untyped_tree"]
