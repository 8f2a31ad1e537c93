"""`tool_schema` where transformers gives up, and on everything that is not a function."""

# No `from __future__ import annotations`: hints here are objects, as in most programs.

import datetime
import decimal
import functools
import typing
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict

import pydantic
import pytest

from tests.conftest import run_python
from toolparse.errors import ToolError
from toolparse.tools import Injected, Tool, tool_schema


def parameters(obj: Any) -> dict[str, Any]:
    schema = tool_schema(obj)
    assert schema["type"] == "function"
    Tool.of({"type": "function", "function": schema["function"]})  # compiles: it is valid JSON Schema
    result: dict[str, Any] = schema["function"]["parameters"]
    return result


def properties(obj: Any) -> dict[str, Any]:
    result: dict[str, Any] = parameters(obj)["properties"]
    return result


def taking(hint: Any) -> Any:
    """A function of one parameter."""

    def f(x):
        return x

    f.__annotations__ = {"x": hint}
    return f


# --- docstrings ---------------------------------------------------------------------------------------------------


def test_without_docstring() -> None:
    def f(x: int, y: str | None = None) -> str:
        return ""

    assert tool_schema(f) == {
        "type": "function",
        "function": {
            "name": "f",
            "description": "",
            "parameters": {
                "type": "object",
                "properties": {"x": {"type": "integer"}, "y": {"type": "string", "nullable": True}},
                "required": ["x"],
            },
            "return": {"type": "string"},
        },
    }


def test_some_arguments_undocumented() -> None:
    def f(x: int, y: str):
        """F.

        Args:
            x: The number
        """

    assert properties(f) == {"x": {"type": "integer", "description": "The number"}, "y": {"type": "string"}}


def google(x: int, y: str = ""):
    """Does a thing.

    Longer words.

    Args:
        x (int): The number
        y (str, optional): The text,
            which goes on

    Returns:
        str: A result
    """


def numpy(x: int, y: str = ""):
    """Does a thing.

    Longer words.

    Parameters
    ----------
    x : int
        The number
    y : str, optional
        The text,
        which goes on

    Returns
    -------
    str
        A result
    """


def sphinx(x: int, y: str = ""):
    """Does a thing.

    Longer words.

    :param x: The number
    :param str y: The text,
        which goes on
    :returns: A result
    """


def epydoc(x: int, y: str = ""):
    """Does a thing.

    Longer words.

    @param x: The number
    @param y: The text,
        which goes on
    @return: A result
    """


@pytest.mark.parametrize("function", [google, numpy, sphinx, epydoc], ids=lambda f: f.__name__)
def test_docstring_styles(function: Any) -> None:
    described = tool_schema(function)["function"]
    assert described["description"] == "Does a thing.\n\nLonger words."
    assert described["parameters"]["properties"] == {
        "x": {"type": "integer", "description": "The number"},
        "y": {"type": "string", "description": "The text, which goes on"},
    }
    assert described["parameters"]["required"] == ["x"]


def test_numpy_names_sharing_a_line() -> None:
    def f(x: int, y: int):
        """F.

        Parameters
        ----------
        x, y : int
            Coordinates
        """

    assert {p["description"] for p in properties(f).values()} == {"Coordinates"}


def test_types_from_the_docstring_only_without_an_annotation() -> None:
    def f(a, b, c: str, d):
        """F.

        Args:
            a (int): A
            b (list, optional): B
            c (int): C
            d (SomeClass): D
        """

    assert properties(f) == {
        "a": {"type": "integer", "description": "A"},
        "b": {"type": "array", "description": "B"},
        "c": {"type": "string", "description": "C"},
        "d": {"description": "D"},
    }


def test_broken_choices_stay_words() -> None:
    def f(x: str, y: int):
        """F.

        Args:
            x: The drink (choices: tea, coffee)
        """

    assert properties(f)["x"] == {"type": "string", "description": "The drink (choices: tea, coffee)"}


def test_choices_where_transformers_gives_up() -> None:
    def f(x: str, y: int):
        """F.

        Args:
            x: The drink (choices: ["tea", "coffee"])
        """

    assert properties(f)["x"] == {"type": "string", "description": "The drink", "enum": ["tea", "coffee"]}


# --- types --------------------------------------------------------------------------------------------------------


class Model(pydantic.BaseModel):
    """A model."""

    count: int = pydantic.Field(ge=0, description="How many")
    tags: list[str] = []


class Node(pydantic.BaseModel):
    value: int
    children: list["Node"] = []


@dataclass
class Address:
    """Where somebody lives.

    Attributes:
        street: The street
    """

    street: str
    number: int = 1
    lines: list[str] = field(default_factory=list)
    hidden: int = field(default=0, init=False)


@dataclass
class Tree:
    left: Optional["Tree"] = None
    address: Address | None = None


class Options(TypedDict):
    """Some options."""

    name: str
    size: NotRequired[int]


class Loose(TypedDict, total=False):
    name: typing.Required[str]
    size: int


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Odd(Enum):
    A = (1, 2)


UserId = NewType("UserId", int)
T = typing.TypeVar("T")
B = typing.TypeVar("B", bound=int)

CASES: list[tuple[Any, dict[str, Any]]] = [
    (datetime.datetime, {"type": "string", "format": "date-time"}),
    (datetime.date, {"type": "string", "format": "date"}),
    (uuid.UUID, {"type": "string", "format": "uuid"}),
    (set[int], {"type": "array", "uniqueItems": True, "items": {"type": "integer"}}),
    (frozenset, {"type": "array", "uniqueItems": True}),
    (Sequence[str], {"type": "array", "items": {"type": "string"}}),
    (Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
    (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
    (tuple[int], {"type": "array", "prefixItems": [{"type": "integer"}], "minItems": 1, "maxItems": 1}),
    (Annotated[int, "a number"], {"type": "integer", "description": "a number"}),
    (Annotated[int, pydantic.Field(ge=0, le=9)], {"type": "integer", "minimum": 0, "maximum": 9}),
    (
        Annotated[str, pydantic.Field(pattern="^a", description="starts with a")],
        {"type": "string", "pattern": "^a", "description": "starts with a"},
    ),
    (Annotated[int | None, "maybe"], {"type": "integer", "nullable": True, "description": "maybe"}),
    (
        list[Annotated[int, pydantic.Field(gt=0)]],
        {"type": "array", "items": {"type": "integer", "exclusiveMinimum": 0}},
    ),
    (UserId, {"type": "integer"}),
    (T, {}),
    (B, {"type": "integer"}),
    (object, {}),
    (Color | None, {"type": "string", "enum": ["red", "blue"], "nullable": True}),
    (Literal["a"] | None, {"type": "string", "enum": ["a"], "nullable": True}),
    (dict[str, datetime.date], {"type": "object", "additionalProperties": {"type": "string", "format": "date"}}),
]


@pytest.mark.parametrize(
    ("hint", "expected"), CASES, ids=lambda v: str(v)[:40] if "0x" not in str(v) else type(v).__name__
)
def test_hints(hint: Any, expected: dict[str, Any]) -> None:
    assert properties(taking(hint)) == {"x": expected}


def test_decimal_and_bytes_come_from_pydantic() -> None:
    def f(x: decimal.Decimal, y: bytes):
        return x

    assert {"number", "string"} <= {option.get("type") for option in properties(f)["x"]["anyOf"]}
    assert properties(f)["y"]["type"] == "string"


def test_pydantic_model_as_a_parameter() -> None:
    def f(m: Model, many: list[Model], maybe: Model | None = None):
        return m

    schema = parameters(f)
    assert schema["properties"] == {
        "m": {"$ref": "#/$defs/Model"},
        "many": {"type": "array", "items": {"$ref": "#/$defs/Model"}},
        "maybe": {"anyOf": [{"$ref": "#/$defs/Model"}, {"type": "null"}]},
    }
    assert schema["$defs"]["Model"]["properties"]["count"] == {
        "type": "integer",
        "minimum": 0,
        "description": "How many",
    }
    tool = Tool.of(f)
    assert tool.validate({"m": {"count": 1}, "many": [], "maybe": None}) == []
    assert [p.code for p in tool.validate({"m": {"count": -1}, "many": []})] == ["invalid-value"]


def test_recursive_types() -> None:
    def f(node: Node, tree: Tree):
        return node

    tool = Tool.of(f)
    good = {
        "node": {"value": 1, "children": [{"value": 2}]},
        "tree": {"left": {"left": None}, "address": {"street": "s"}},
    }
    assert tool.validate(good) == []
    problems = tool.validate({"node": {"value": 1, "children": [{"value": "x"}]}, "tree": {}})
    assert problems[0].path == ("node", "children", 0, "value")


def test_dataclass_fields() -> None:
    assert parameters(taking(Address))["$defs"]["Address"] == {
        "type": "object",
        "properties": {
            "street": {"type": "string", "description": "The street"},
            "number": {"type": "integer", "default": 1},
            "lines": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["street"],
        "description": "Where somebody lives.",
    }


@pytest.mark.parametrize(("cls", "required"), [(Options, ["name"]), (Loose, ["name"]), (Pair, ["left"])], ids=str)
def test_typed_dicts_and_named_tuples(cls: Any, required: list[str]) -> None:
    body = parameters(taking(cls))["$defs"][cls.__name__]
    assert body["required"] == required
    assert len(body["properties"]) == 2


def test_typed_dict_of_typing_extensions() -> None:
    extensions = pytest.importorskip("typing_extensions", reason="tests its TypedDict")
    movie = extensions.TypedDict("Movie", {"title": str, "year": extensions.NotRequired[extensions.ReadOnly[int]]})

    assert parameters(taking(movie))["$defs"]["Movie"] == parameters(movie)
    assert parameters(movie) == {
        "type": "object",
        "properties": {"title": {"type": "string"}, "year": {"type": "integer"}},
        "required": ["title"],
    }


def test_two_classes_of_one_name() -> None:
    first = pydantic.create_model("Item", a=(int, ...))
    second = pydantic.create_model("Item", b=(str, ...))

    @dataclass
    class Item:
        c: float

    def f(x, y, z):
        return x

    f.__annotations__ = {"x": first, "y": list[second], "z": Item}
    schema = parameters(f)
    assert len(schema["$defs"]) == 3
    tool = Tool.of(f)
    assert tool.validate({"x": {"a": 1}, "y": [{"b": ""}], "z": {"c": 1.5}}) == []
    assert len(tool.validate({"x": {"b": ""}, "y": [{"a": 1}], "z": {}})) == 3


def test_a_property_called_title_or_default_survives() -> None:
    class Book(pydantic.BaseModel):
        title: str
        default: Model
        description: str = "d"

    schema = parameters(Book)
    assert schema["properties"]["title"] == {"type": "string"}
    assert schema["properties"]["default"] == {"$ref": "#/$defs/Model"}


def test_unresolvable_hints_stay_open() -> None:
    def f(x: "NowhereDefined", y: "int"):  # noqa: F821
        return x

    assert properties(f) == {"x": {}, "y": {"type": "integer"}}


def test_types_without_a_json_form() -> None:
    class Session:
        pass

    def needs(session: Session, x: int):
        return x

    with pytest.raises(ToolError, match=r"tool 'needs': parameter 'session' has the type .*Session, which has no JSON"):
        tool_schema(needs)

    def may(x: int, session: Session | None = None):
        return x

    assert list(properties(may)) == ["x"]

    def nested(x: dict[str, list[Session]]):
        return x

    with pytest.raises(ToolError, match="nested"):
        tool_schema(nested)

    def odd(x: Odd = Odd.A):
        return x

    assert tool_schema(odd)["function"]["name"] == "odd"


# --- parameters that are not the model's --------------------------------------------------------------------------


def test_injected_parameters() -> None:
    class InjectedToolArg:
        """What LangChain calls its mark."""

    class Session:
        pass

    def f(
        a: Annotated[Session, Injected],
        b: Annotated[Session, Injected()],
        c: Annotated[str, InjectedToolArg],
        x: int,
    ):
        """F.

        Args:
            a: A
            b: B
            c: C
            x: X
        """

    assert properties(f) == {"x": {"type": "integer", "description": "X"}}
    assert parameters(f)["required"] == ["x"]


def test_partial() -> None:
    def f(a: int, b: str, c: float = 1.0):
        """F.

        Args:
            a: A
            b: B
            c: C
        """

    bound = functools.partial(f, b="x")
    assert tool_schema(bound)["function"]["name"] == "f"
    assert tool_schema(bound)["function"]["description"] == "F."
    assert list(properties(bound)) == ["a", "c"]
    assert list(properties(functools.partial(functools.partial(f, 1), c=2.0))) == ["b"]
    assert parameters(functools.partial(f, 1))["required"] == ["b"]


def test_variadic() -> None:
    def f(x: int, *args: int, **kwargs: Any):
        """F.

        Args:
            x: The number
            args: More
            kwargs: Options
        """

    assert properties(f) == {"x": {"type": "integer", "description": "The number"}}
    assert parameters(f)["additionalProperties"] is True
    assert Tool.of(f).validate({"x": 1, "other": object}) == []

    def typed(**kwargs: int):
        return kwargs

    assert parameters(typed) == {"type": "object", "properties": {}, "additionalProperties": {"type": "integer"}}
    assert [p.code for p in Tool.of(typed).validate({"a": "x"})] == ["wrong-type"]
    assert Tool.of(typed).convert_text("anything", "5") == (5, None)


def test_field_as_default() -> None:
    def f(x: int = pydantic.Field(description="A number", ge=1), y: int = pydantic.Field(3, description="Other")):
        return x

    schema = parameters(f)
    assert schema["required"] == ["x"]
    assert schema["properties"]["x"] == {"type": "integer", "description": "A number", "minimum": 1}
    assert schema["properties"]["y"]["description"] == "Other"


# --- other callables and classes ----------------------------------------------------------------------------------


class Adder:
    """Adds.

    Args:
        x: The number
    """

    def __call__(self, x: int, y: int = 0) -> int:
        return x + y

    def method(self, x: int) -> int:
        return x


def test_callable_object() -> None:
    described = tool_schema(Adder())["function"]
    assert described["name"] == "Adder"
    assert described["description"] == "Adds."
    assert described["parameters"]["properties"] == {
        "x": {"type": "integer", "description": "The number"},
        "y": {"type": "integer"},
    }


def test_methods() -> None:
    assert list(properties(Adder().method)) == ["x"]
    assert list(properties(Adder.method)) == ["x"]


def test_plain_class() -> None:
    class Search:
        """Searches."""

        def __init__(self, query: str, limit: int = 10) -> None:
            self.query = query

    described = tool_schema(Search)["function"]
    assert described["description"] == "Searches."
    assert list(described["parameters"]["properties"]) == ["query", "limit"]
    assert "return" not in described


def test_pydantic_model_as_a_tool() -> None:
    described = tool_schema(Model)["function"]
    assert described == {
        "name": "Model",
        "description": "A model.",
        "parameters": {
            "type": "object",
            "properties": {
                "count": {"type": "integer", "minimum": 0, "description": "How many"},
                "tags": {"type": "array", "items": {"type": "string"}, "default": []},
            },
            "required": ["count"],
        },
    }


def test_recursive_pydantic_model_as_a_tool() -> None:
    described = tool_schema(Node)["function"]
    assert list(described["parameters"]["properties"]) == ["value", "children"]
    assert Tool.of(Node).validate({"value": 1, "children": [{"value": "x"}]}) != []


def test_model_with_a_documented_docstring() -> None:
    class Documented(pydantic.BaseModel):
        """Finds things.

        Args:
            query: What to find
        """

        query: str

    described = tool_schema(Documented)["function"]
    assert described["description"] == "Finds things."
    assert described["parameters"]["properties"]["query"]["description"] == "What to find"


def test_dataclass_and_typed_dict_as_tools() -> None:
    assert tool_schema(Address)["function"]["description"] == "Where somebody lives."
    assert parameters(Address)["required"] == ["street"]
    assert parameters(Options)["required"] == ["name"]
    assert parameters(Tree)["properties"]["left"]["anyOf"][0] == {"$ref": "#/$defs/Tree"}


def test_builtins_without_signature() -> None:
    with pytest.raises(ToolError, match="signature"):
        tool_schema(type("Weird", (), {"__call__": print, "__signature__": 3})())


# --- dicts and objects of other libraries -------------------------------------------------------------------------

BODY = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
EXPECTED = {"type": "function", "function": {"name": "f", "description": "F.", "parameters": BODY}}


@pytest.mark.parametrize(
    "tool",
    [
        EXPECTED,
        {"function": EXPECTED["function"]},
        EXPECTED["function"],
        {"type": "function", "name": "f", "description": "F.", "parameters": BODY},
        {"name": "f", "description": "F.", "input_schema": BODY},
        {"name": "f", "description": "F.", "inputSchema": BODY},
    ],
    ids=["openai", "untyped", "bare", "responses", "anthropic", "mcp"],
)
def test_dicts(tool: Any) -> None:
    before = repr(tool)
    result = tool_schema(tool)
    assert result == EXPECTED
    result["function"]["parameters"]["properties"].clear()
    assert repr(tool) == before


def test_dict_keeps_what_it_has() -> None:
    tool = {"type": "function", "function": {**EXPECTED["function"], "strict": True}, "cache": 1}
    assert tool_schema(tool) == tool
    assert tool_schema({"name": "f", "inputSchema": BODY, "annotations": {"readOnlyHint": True}})["function"][
        "annotations"
    ] == {"readOnlyHint": True}


def test_objects_of_other_libraries() -> None:
    class McpTool:
        name = "f"
        description = "F."
        inputSchema = BODY  # noqa: N815

    class LangChainTool:
        name = "f"
        description = "F."
        args_schema = Model

        def __call__(self, *args: Any) -> None: ...

    assert tool_schema(McpTool()) == EXPECTED
    assert list(properties(LangChainTool())) == ["count", "tags"]


@pytest.mark.parametrize("junk", [None, 3, "f", 1.5, object(), ["f"]], ids=lambda v: type(v).__name__)
def test_not_a_tool(junk: Any) -> None:
    with pytest.raises(ToolError, match="a tool can't be made from"):
        tool_schema(junk)


def test_dict_without_anything() -> None:
    with pytest.raises(ToolError, match="has no name"):
        tool_schema({"a": 1})
    with pytest.raises(ToolError, match='"function" must be a dict'):
        tool_schema({"type": "function", "function": "f"})


def test_importing_is_cheap() -> None:
    code = (
        "import sys, toolparse.tools; "
        "print([m for m in ('torch', 'transformers', 'pydantic', 'jsonschema', 'jsonschema_rs', 'docstring_parser') "
        "if m in sys.modules])"
    )
    assert run_python(code) == "[]\n"
