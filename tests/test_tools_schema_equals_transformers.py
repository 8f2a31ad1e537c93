"""`tool_schema` equals `transformers.utils.get_json_schema` on every function for which that one works."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Annotated, Any, Dict, List, Literal, Tuple  # noqa: UP035 - old spellings on purpose

import pytest

from toolparse.tools import tool_schema


@pytest.fixture(scope="module")
def get_json_schema() -> Any:
    return pytest.importorskip(
        "transformers.utils", reason="compares with transformers, which is not installed"
    ).get_json_schema


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(Enum):
    ONE = 1
    TWO = "two"
    NONE = None


def integer(x: int):
    """Integer.

    Args:
        x: The number
    """


def floating(x: float) -> float:
    """Float.

    Args:
        x: The number

    Returns:
        The same number
    """


def text(x: str) -> None:
    """Text.

    Args:
        x: The text
    """


def boolean(x: bool):
    """
    Boolean, with a leading newline.

    Args:
        x: The flag
    """


def several(a: int, b: str, c: float, d: bool):
    """Several.

    Args:
        a: First
        b: Second
        c: Third
        d: Fourth
    """


def with_default(a: int, b: str = "x", c: float | None = None):
    """Defaults.

    Args:
        a: First
        b: Second
        c: Third
    """


def keyword_only(a: int, *, b: str, c: int = 1):
    """Keyword only.

    Args:
        a: First
        b: Second
        c: Third
    """


def positional_only(a: int, /, b: int):
    """Positional only.

    Args:
        a: First
        b: Second
    """


def optional(x: int | None):
    """Optional.

    Args:
        x: The number
    """


def optional_new(x: int | None = None):
    """Optional, new spelling.

    Args:
        x: The number
    """


def optional_string_union(x: int | str | None):
    """Optional union.

    Args:
        x: The value
    """


def union(x: int | str):
    """Union.

    Args:
        x: The value
    """


def union_new(x: str | int | float | None):
    """Union, new spelling.

    Args:
        x: The value
    """


def union_complex(x: list[int] | str):
    """Union with a list.

    Args:
        x: The value
    """


def union_complex_optional(x: list[int] | dict[str, float] | None = None):
    """Optional union of containers.

    Args:
        x: The value
    """


def union_duplicates(x: list | tuple):
    """Two names for arrays.

    Args:
        x: The value
    """


def union_of_literals(x: Literal["a"] | int):
    """A literal or a number.

    Args:
        x: The value
    """


def literal(x: Literal["a", "b"]):
    """Literal.

    Args:
        x: One of two
    """


def literal_mixed(x: Literal["a", 1, True, None]):
    """Literals of several types.

    Args:
        x: One of four
    """


def literal_optional(x: Literal["a", "b"] | None = None):
    """Optional literal.

    Args:
        x: One of two
    """


def enum(x: Color):
    """Enum.

    Args:
        x: The color
    """


def enum_int(x: Level = Level.LOW):
    """Enum of ints.

    Args:
        x: The level
    """


def enum_mixed(x: Mixed | None):
    """Mixed enum.

    Args:
        x: Whatever
    """


def lists(a: list, b: List, c: list[int], d: List[List[str]], e: list[int | None]):  # noqa: UP006
    """Lists.

    Args:
        a: Bare
        b: Bare, old
        c: Of ints
        d: Of lists
        e: Of optionals
    """


def tuples(a: tuple, b: Tuple[int, str], c: tuple[int, tuple[str, bool]]):  # noqa: UP006
    """Tuples.

    Args:
        a: Bare
        b: Two
        c: Nested
    """


def dicts(a: dict, b: Dict[str, int], c: dict[str, list[float]], d: dict[str, Any]):  # noqa: UP006
    """Dicts.

    Args:
        a: Bare
        b: Of ints
        c: Of lists
        d: Of anything
    """


def anything(x: Any, y: Any | None = None):
    """Anything.

    Args:
        x: A value
        y: Another
    """


def choices(x: str):
    """Choices.

    Args:
        x: The drink (choices: ["tea", "coffee"])
    """


def choices_spaced(x: str, y: int = 1):
    """Choices with blanks.

    Args:
        x: The drink (Choices: [" tea ", "coffee"])
        y: The size (choices: [1, 2, 3])
    """


def multiline(x: int, y: str):
    """
    A description
    over two lines.

    And another paragraph.

    Args:
        x: A description
            that goes on
            and on
        y: Another one
          that goes on: with a colon
    """


def args_without_blank_line(x: int):
    """Tight.
    Args:
        x: The number
    """


def returns_documented(x: int) -> list[str]:
    """Returns.

    Args:
        x: The number

    Returns:
        A list
        over two lines

    Raises:
        ValueError: never
    """


def returns_custom(x: int) -> Color:
    """Returns an enum.

    Args:
        x: The number
    """


def returns_unsupported(x: int) -> functools.partial:
    """Returns something that has no schema.

    Args:
        x: The number

    Returns:
        A partial
    """


def returns_undocumented(x: int) -> dict[str, int]:
    """Returns.

    Args:
        x: The number
    """


def raises(x: int):
    """Raises.

    Args:
        x: The number

    Raises:
        ValueError: if it is too big
    """


def returns_before_args(x: int) -> int:
    """Odd order.

    Returns:
        The number

    Args:
        x: The number
    """


def no_parameters():
    """Nothing to say."""


def no_parameters_returning() -> str:
    """Nothing to say.

    Returns:
        Something
    """


def annotated(x: Annotated[int, "a number"], y: Annotated[str, "text"] = ""):
    """Annotated hints lose their marks.

    Args:
        x: The number
        y: The text
    """


def extra_documented(x: int):
    """More documented than there is.

    Args:
        x: The number
        y: Not a parameter
    """


def unicode_doc(größe: int, имя: str):
    """Größe – 大小 🙂.

    Args:
        größe: Die Größe
        имя: Имя
    """


def quoted_hint(x: "int", y: "list[str] | None" = None):  # noqa: UP037
    """Hints as strings.

    Args:
        x: The number
        y: The words
    """


def blank_lines_between(x: int, y: int):
    """Blank lines.

    Args:

        x: The first

        y: The second
    """


def note_after(x: int):
    """A note.

    Args:
        x: The number

    Note:
        something else
    """


async def asynchronous(x: int) -> str:
    """Async.

    Args:
        x: The number

    Returns:
        A string
    """
    return str(x)


def generator(x: int):
    """Generator.

    Args:
        x: The number
    """
    yield x


def self_first(self, x: int):
    """A function from a class body.

    Args:
        x: The number
    """


def ellipsis_default(x: int = ...):  # type: ignore[assignment]
    """An ellipsis as default.

    Args:
        x: The number
    """


def return_annotation_any(x: int) -> Any:
    """Any.

    Args:
        x: The number

    Returns:
        Whatever
    """


@functools.cache
def cached(x: int) -> int:
    """Cached.

    Args:
        x: The number
    """
    return x


def _decorator(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@_decorator
def decorated(x: int) -> int:
    """Decorated.

    Args:
        x: The number
    """
    return x


class Toolbox:
    def method(self, x: int, y: str | None = None) -> str:
        """A method.

        Args:
            x: The number
            y: The text

        Returns:
            Both
        """
        return f"{x}{y}"

    @classmethod
    def class_method(cls, x: int):
        """A class method.

        Args:
            x: The number
        """

    @staticmethod
    def static_method(x: int):
        """A static method.

        Args:
            x: The number
        """

    def __call__(self, x: int):
        """A call.

        Args:
            x: The number
        """


class Child(Toolbox):
    def method(self, x: int, y: str | None = None) -> str:  # inherits its docstring
        return ""


@dataclass
class Point:
    """A point.

    Args:
        x: Left to right
        y: Bottom to top
    """

    x: int
    y: float | None = None


FUNCTIONS = [
    obj
    for obj in list(globals().values())
    if (inspect.isfunction(obj) or hasattr(obj, "__wrapped__"))
    and getattr(obj, "__module__", None) == __name__
    and not obj.__name__.startswith("_")
    and obj.__name__ != "get_json_schema"
]
METHODS = [
    Toolbox().method,
    Toolbox.method,
    Toolbox.class_method,
    Toolbox().static_method,
    Child().method,
    Point,
]


def test_there_are_enough_functions() -> None:
    assert len(FUNCTIONS) >= 40


@pytest.mark.parametrize("function", FUNCTIONS + METHODS, ids=lambda f: f.__qualname__)
def test_equals_transformers(function: Any, get_json_schema: Any) -> None:
    expected = get_json_schema(function)
    # equality of dicts ignores order, and templates don't
    assert repr(tool_schema(function)) == repr(expected)


def test_results_belong_to_the_caller() -> None:
    first = tool_schema(lists)
    first["function"]["parameters"]["properties"].clear()
    assert tool_schema(lists)["function"]["parameters"]["properties"]


def test_media_types_equal_transformers(get_json_schema: Any) -> None:
    torch = pytest.importorskip("torch", reason="the audio type is torch.Tensor")
    image = pytest.importorskip("PIL.Image", reason="the image type is PIL.Image.Image")

    def media(sound: torch.Tensor, picture: image.Image, more: list[torch.Tensor] | None = None):
        """Media.

        Args:
            sound: The sound
            picture: The picture
            more: More sounds
        """

    media.__annotations__ = {
        "sound": torch.Tensor,
        "picture": image.Image,
        "more": list[torch.Tensor] | None,
    }
    assert repr(tool_schema(media)) == repr(get_json_schema(media))
