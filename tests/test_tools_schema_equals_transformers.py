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


def documented(function: Any) -> Any:
    """The function with a docstring that describes each parameter."""
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    function.__doc__ = "A description.\n\n    Args:\n" + "".join(f"        {name}: Words\n" for name in names)
    return function


def hinted(hint: Any, *default: Any) -> Any:
    def function(x): ...

    function.__annotations__ = {"x": hint}
    function.__defaults__ = default
    return documented(function)


HINTS = [
    *(int, str, bool, float, Any, Any | None),
    *(int | None, int | str | None, int | str, str | int | float | None),
    *(list[int] | str, list[int] | dict[str, float] | None, list | tuple, Literal["a"] | int),
    *(Literal["a", "b"], Literal["a", 1, True, None], Literal["a", "b"] | None),
    *(Color, Level, Mixed | None),
    *(list, List, list[int], List[List[str]], list[int | None]),  # noqa: UP006
    *(tuple, Tuple[int, str], tuple[int, tuple[str, bool]]),  # noqa: UP006
    *(dict, Dict[str, int], dict[str, list[float]], dict[str, Any]),  # noqa: UP006
]


def floating(x: float) -> float:
    """Float.

    Args:
        x: The number

    Returns:
        The same number
    """


@documented
def several(a: int, b: str, c: float, d: bool): ...


@documented
def with_default(a: int, b: str = "x", c: float | None = None): ...


@documented
def keyword_only(a: int, *, b: str, c: int = 1): ...


@documented
def positional_only(a: int, /, b: int): ...


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


@documented
def returns_custom(x: int) -> Color: ...


@documented
def returns_nothing(x: int) -> None: ...


def returns_unsupported(x: int) -> functools.partial:
    """Returns something that has no schema.

    Args:
        x: The number

    Returns:
        A partial
    """


@documented
def returns_undocumented(x: int) -> dict[str, int]: ...


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


@documented
def annotated(x: Annotated[int, "a number"], y: Annotated[str, "text"] = ""): ...


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


@documented
def quoted_hint(x: "int", y: "list[str] | None" = None):  # noqa: UP037
    ...


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


@documented
def generator(x: int):
    yield x


@documented
def self_first(self, x: int): ...


@documented
def ellipsis_default(x: int = ...): ...


def return_annotation_any(x: int) -> Any:
    """Any.

    Args:
        x: The number

    Returns:
        Whatever
    """


@functools.cache
@documented
def cached(x: int) -> int:
    return x


def _decorator(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@_decorator
@documented
def decorated(x: int) -> int:
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
    and obj.__name__ not in ("get_json_schema", "hinted", "documented")
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
    assert len(FUNCTIONS) + len(HINTS) >= 50


@pytest.mark.parametrize("default", [(), (None,)], ids=["needed", "optional"])
@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_hints_equal_transformers(hint: Any, default: tuple[Any, ...], get_json_schema: Any) -> None:
    function = hinted(hint, *default)
    assert repr(tool_schema(function)) == repr(get_json_schema(function))


@pytest.mark.parametrize("function", FUNCTIONS + METHODS, ids=lambda f: f.__qualname__)
def test_equals_transformers(function: Any, get_json_schema: Any) -> None:
    expected = get_json_schema(function)
    # equality of dicts ignores order, and templates don't
    assert repr(tool_schema(function)) == repr(expected)


def test_results_belong_to_the_caller() -> None:
    first = tool_schema(several)
    first["function"]["parameters"]["properties"].clear()
    assert tool_schema(several)["function"]["parameters"]["properties"]


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
