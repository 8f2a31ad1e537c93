"""What a template may spend while it is compiled and rendered, and the guards that make it hold.

Chat templates come from strangers. The sandbox keeps them away from Python's insides; this module keeps them from
eating time and memory. The idea: every value that a template can make is small when it is made, so nothing that is
done with it later can be large.

* The source is bounded before anything is compiled: its length, its tags, its words, how deeply its blocks nest.
* Every loop turn, call and filter is a step; steps are limited, and a clock is the last resort. It is looked at between
  steps, so no single step may take long.
* Every string and container that an operator, a filter, a call, a slice, a block or a literal makes is weighed by its
  content (characters and elements, counted along all references, so a list that holds itself twice weighs twice; the
  same for namespaces, views of dicts, ranges and cyclers) and refused above a limit. What can change after it was made
  is weighed again when it becomes text.
* What multiplies (`'a' * 10**9`, `replace`, `join`, `center`, `%1000000d`, a search for half of a text in the other
  half) is estimated before it is done, as the product of what goes in.
* Only named methods of everyday types can be called: what is not known to be harmless is not there.
* Filters that run regular expressions or textwrap take short strings only.

No signals and no threads: it works wherever Python does. Detection runs strangers' templates in a child process all the
same (`judging/isolation.py`): limits inside a process are only as good as the list above.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from jinja2.utils import Cycler, Joiner, Namespace

from toolparse.errors import TemplateError


class LimitExceeded(TemplateError):
    """A template that needs more steps, memory or time than any real one does."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a template may use; some hundred times what real ones need."""

    source: int = 200_000
    tags: int = 4_000
    words: int = 100_000
    nesting: int = 64
    output: int = 4_000_000
    value: int = 1_000_000
    product: int = 16_000_000
    steps: int = 200_000
    visits: int = 1_000_000
    made: int = 20_000_000
    depth: int = 60
    seconds: float = 5.0


LIMITS = Limits()


def words(text: str) -> frozenset[str]:
    """The words of a text, for lists of names."""
    return frozenset(text.split())


_AMPLIFIERS = words(
    "center ljust rjust zfill expandtabs join replace format format_map translate strip lstrip rstrip trim indent "
    "wordwrap truncate batch slice round tojson xmlattr urlize sum random rfind rindex rsplit rpartition pprint"
)
#: Amplifiers that walk through what they are given: an iterator among it must be counted before.
_WALKERS = words("join sum batch slice format format_map")
#: Of these the arguments are sought in the text: C does it in time that grows with the product.
_SEEKING = words("rfind rindex rsplit rpartition")
_STRIPPING = words("strip lstrip rstrip trim")
#: Values that weigh one, whatever they hold.
_SINGLE = frozenset((int, float, bool, type(None)))
_REGEX_FILTERS = words("striptags title urlize wordcount wordwrap xmlattr pprint capitalize")
_REGEX_INPUT = 20_000
_DIGITS = re.compile(r"\d+")
_TAG = re.compile(r"\{[{%]")
_WORD = re.compile(r"\w+|[^\w\s]")
_BLOCK = re.compile(r"\{%[-+]?\s*(end)?(if|for|macro|call|filter|set|block|generation|autoescape|with)\b([^%]*)")
_BIG_INT_BITS = 14_000  # as many digits as Python prints
_STEPS_PER_LOOK = 16  # at the clock
#: What a loop runs over as it is, if it is short: the steps are spent at once.
_PLAIN = frozenset((list, tuple, dict, str, type({}.items()), type({}.keys()), type({}.values())))
_SHORT = 64
_PARTS = 64


class Budget:
    """What one rendering has left."""

    __slots__ = ("deadline", "depth", "limits", "look", "made", "steps", "visits")

    def __init__(self, limits: Limits = LIMITS, deadline: float | None = None) -> None:
        self.limits = limits
        self.steps = limits.steps
        self.look = limits.steps  # at how many steps the clock is looked at
        self.visits = limits.visits
        self.made = limits.made
        self.depth = 0
        self.deadline = deadline if deadline is not None else time.monotonic() + limits.seconds

    def tick(self, count: int = 1) -> None:
        """Spend steps."""
        self.steps -= count
        if self.steps < self.look:
            self._look()

    def _look(self) -> None:
        if self.steps < 0:
            raise LimitExceeded(f"the template needs more than {self.limits.steps} steps: it loops without an end")
        if time.monotonic() > self.deadline:
            raise LimitExceeded("the template takes too long to render")
        self.look = max(0, self.steps - _STEPS_PER_LOOK)

    def check(self, value: Any) -> Any:
        """The value itself, if a template may hold something that large."""
        if isinstance(value, (str, bytes)):
            self.spend(len(value))
        elif isinstance(value, int):
            if value.bit_length() > _BIG_INT_BITS:
                raise LimitExceeded("the template computes with integers of thousands of digits")
        elif value is not None and not isinstance(value, float):
            self.spend(self.weigh(value))
        return value

    def spend(self, size: int) -> None:
        """Account for a value of that size."""
        if size > self.limits.value:
            raise LimitExceeded(f"the template makes a value of more than {self.limits.value} characters")
        self.made -= size
        if self.made < 0:
            raise LimitExceeded("the template makes more text than it may")

    def weigh(self, value: Any, depth: int = 0) -> int:
        """Characters and elements of a value, counted along every reference to them."""
        self.visits -= 1
        if self.visits < 0:
            raise LimitExceeded("the template builds too many nested values")
        if isinstance(value, (str, bytes)):
            return len(value) + 1
        if depth > self.limits.depth:
            raise LimitExceeded("the template nests values too deeply")
        parts = contents(value)
        if parts is None:
            return 1
        total = 1
        for part in parts:
            kind = type(part)
            if kind is str:
                self.visits -= 1
                total += len(part) + 1
            elif kind in _SINGLE:
                self.visits -= 1
                total += 1
            else:
                total += self.weigh(part, depth + 1)
            if total > self.limits.value:
                raise LimitExceeded(f"the template makes a value of more than {self.limits.value} elements")
        return total

    def product(self, *factors: int) -> None:
        """Refuse an operation whose result may be as large as the product of what goes in."""
        size = 1
        for factor in factors:
            size *= max(1, factor)
        if size > self.limits.product:
            raise LimitExceeded("the template asks for an operation whose result would be too large")

    def walk(self, value: Any) -> None:
        """Spend the steps of walking through a value."""
        self.tick(1 + (len(value) >> 6 if isinstance(value, (str, bytes, list, tuple, range, dict)) else 0))

    def foresee(self, name: str, value: Any, args: Iterable[Any], kwargs: dict[str, Any]) -> None:
        """Refuse what multiplies before it is done. `name`: of the method or filter; `value`: what it is applied to."""
        self.walk(value)
        if name in _REGEX_FILTERS and self.weigh(value) > _REGEX_INPUT:
            raise LimitExceeded(f"the template applies {name!r} to a text of more than {_REGEX_INPUT} characters")
        if name not in _AMPLIFIERS or (name == "tojson" and not args and not {"indent", "separators"} & kwargs.keys()):
            return
        if name in _STRIPPING and not args and not kwargs and isinstance(value, str):
            return  # white space at the ends costs a walk over the text, no more
        arguments = [*args, *kwargs.values()]
        own = self.weigh(value)
        if name in _SEEKING:
            self.product(own, max((self.weigh(arg) for arg in arguments), default=1))
        elif name in ("format", "format_map"):
            own += _widths(value)
            # A width may be an argument of its own, also one that is spelt as text, at any depth.
            widths = not isinstance(value, str) or "*" in value or value.count("{") > 1
            self.product(own, 1 + sum(self.weigh(arg) + (self.numbers(arg) if widths else 0) for arg in arguments))
        elif name == "tojson":
            indent = args[1] if isinstance(args, tuple) and len(args) > 1 else kwargs.get("indent", 0)
            width = self.numbers(indent) if isinstance(indent, (int, float)) else self.weigh(indent)
            self.product(own, 1 + self.deepest(value) * width + self.weigh(kwargs.get("separators")))
        else:
            texts = name != "random"
            self.product(own, 1 + sum(self.weigh(arg) + (self.numbers(arg) if texts else 0) for arg in arguments))

    def numbers(self, value: Any, depth: int = 0) -> int:
        """The sum of all numbers in a value, those included that are spelt in its texts."""
        self.visits -= 1
        if self.visits < 0 or depth > self.limits.depth:
            raise LimitExceeded("the template builds too many nested values")
        if isinstance(value, bool) or value is None:
            return 0
        if isinstance(value, (int, float)):
            return int(min(abs(value), 1 << 60)) if value == value else 0
        if isinstance(value, (str, bytes)):
            return _widths(value) if depth or len(value) <= _SHORT else 0
        parts = contents(value)
        return sum(self.numbers(part, depth + 1) for part in parts) if parts is not None else 0

    def deepest(self, value: Any, depth: int = 0) -> int:
        """How deeply a value nests."""
        self.visits -= 1
        if self.visits < 0 or depth > self.limits.depth:
            raise LimitExceeded("the template nests values too deeply")
        parts = None if isinstance(value, (str, bytes, range)) else contents(value)
        return 1 + max((self.deepest(part, depth + 1) for part in parts), default=0) if parts is not None else 1


def contents(value: Any) -> Iterable[Any] | None:
    """What a value holds, where it holds anything; names and values of a namespace."""
    if isinstance(value, (dict, Mapping)):
        return (part for item in value.items() for part in item)
    if isinstance(value, (list, tuple, set, frozenset, range, ItemsView, KeysView, ValuesView)):
        return value
    if isinstance(value, Namespace):
        return (part for item in attributes(value).items() for part in item)
    if isinstance(value, Cycler):
        return value.items
    if isinstance(value, Joiner):
        return (value.sep,)
    return None


def attributes(namespace: Namespace) -> dict[str, Any]:
    """What a namespace holds."""
    found: dict[str, Any] = object.__getattribute__(namespace, "_Namespace__attrs")
    return found


def check_source(source: str) -> None:
    """Refuse a source that takes long to compile: counted by regular expressions, before anything reads it."""
    bounds = LIMITS
    if len(source) > bounds.source:
        raise LimitExceeded(f"the template's text is longer than {bounds.source} characters")
    if len(_TAG.findall(source)) > bounds.tags:
        raise LimitExceeded(f"the template has more than {bounds.tags} tags")
    if len(_WORD.findall(source)) > bounds.words:
        raise LimitExceeded(f"the template has more than {bounds.words} words and signs")
    depth = 0
    for end, kind, rest in _BLOCK.findall(source):
        if not (kind == "set" and "=" in rest):
            depth += -1 if end else 1
        if depth > bounds.nesting:
            raise LimitExceeded(f"the template's blocks nest more than {bounds.nesting} deep")


def foreseen(name: str) -> bool:
    """Whether a filter needs more than a look at how large its value is."""
    return name in _AMPLIFIERS or name in _REGEX_FILTERS


def laid_out(name: str, value: Any) -> Any:
    """What an amplifier walks through: an iterator as a list, whose content can be weighed."""
    if name in _WALKERS and (hasattr(value, "__next__") or type(value) is Counted):
        return list(counted(value))
    return value


def _widths(value: Any) -> int:
    """The field widths that a format string asks for."""
    if not isinstance(value, (str, bytes)):
        return 0
    text = value if isinstance(value, str) else value.decode("latin-1")
    return sum(int(run) if len(run) < 15 else 1 << 50 for run in _DIGITS.findall(text))


class _Current(threading.local):
    budget: Budget | None = None


_current = _Current()


def current() -> Budget:
    """The budget of the rendering under way; a fresh one while a template is being compiled."""
    budget = _current.budget
    if budget is None:
        budget = _current.budget = Budget()
    return budget


@contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Make a budget the current one of this thread."""
    before, _current.budget = _current.budget, budget
    try:
        yield
    finally:
        _current.budget = before


class Counted:
    """An iterable that spends a step per element."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Iterable[Any]) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[Any]:
        budget = current()
        for item in self._inner:
            budget.tick()
            yield item


class CountedSequence(Counted):
    """A counted iterable of known length, so that `loop.length` needs no copy."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._inner)  # type: ignore[arg-type]  # made only around what has a length


def counted(value: Any) -> Any:
    """`value` for a loop, counted."""
    if type(value) in _PLAIN and len(value) <= _SHORT:
        current().tick(len(value))
        return value
    if value is None or isinstance(value, Counted) or not hasattr(value, "__iter__"):
        return value
    return CountedSequence(value) if hasattr(value, "__len__") else Counted(value)


def concat(parts: Iterable[str]) -> str:
    """`"".join` that stops when the text gets too long."""
    budget = current()
    limit = budget.limits.output
    pieces: list[str] = []
    size = 0
    rest = iter(parts)
    while True:
        some = list(islice(rest, _PARTS))
        size += sum(map(len, some))
        if size > limit:
            raise LimitExceeded(f"the template writes more than {limit} characters")
        if len(some) < _PARTS:
            budget.made -= size
            if budget.made < 0:
                raise LimitExceeded("the template makes more text than it may")
            return "".join([*pieces, *some]) if pieces else "".join(some)
        pieces += some
        budget.tick()


def joined(*parts: Any) -> str:
    """What `~` makes of these parts."""
    budget = current()
    if all(type(part) is str for part in parts):
        size = sum(map(len, parts))
        if size <= budget.limits.value:
            budget.spend(size)
            return "".join(parts)
    return concat(str(part) for part in budget.check(parts))


def shown(value: Any) -> Any:
    """A value that is about to become text: what could change since it was made is weighed again."""
    if type(value) is not str:
        current().weigh(value)
    return value


def sliced(value: Any, *bounds: Any) -> Any:
    """What a slice makes."""
    budget = current()
    budget.tick()
    return budget.check(value[slice(*bounds)])


def operated(operator: str, function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """What an operator makes of two values, refused before it is made where it would be too large."""
    budget = current()
    budget.tick()
    if operator == "+" and type(left) is str and type(right) is str:
        budget.spend(len(left) + len(right))
        return left + right
    if operator == "*":
        _foresee_times(budget, left, right)
    elif operator == "**":
        if isinstance(left, int) and isinstance(right, int):
            budget.product(max(1, left.bit_length()) * 1000, abs(right))
    elif operator == "%" and isinstance(left, (str, bytes)):
        budget.foresee("format", left, right if isinstance(right, tuple) else (right,), {})
    elif operator == "+" and isinstance(left, (str, bytes, list, tuple)) and hasattr(right, "__len__"):
        budget.product(len(left) + len(right))
    return budget.check(function(left, right))


def _foresee_times(budget: Budget, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > _BIG_INT_BITS:
            raise LimitExceeded("the template computes with integers of thousands of digits")
        return
    if isinstance(right, (str, bytes, list, tuple)):
        left, right = right, left
    if isinstance(left, (str, bytes, list, tuple)) and isinstance(right, int):
        budget.product(budget.weigh(left), right)
