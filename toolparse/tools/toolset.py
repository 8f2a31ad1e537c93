"""`Tool` and `ToolSet`: tools as the parser uses them, made once and remembered."""

from __future__ import annotations

import contextlib
import re
import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from toolparse.codecs.json import MAX_DEPTH, is_shallow
from toolparse.errors import ToolError
from toolparse.tools.convert import Converter, Path, Tree
from toolparse.tools.exact_values import MISSING
from toolparse.tools.problem_text import Names, Problem, place, show
from toolparse.tools.schema import carried_schema, tool_schema
from toolparse.tools.validation import Validator, check_json

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


class _Core:
    """What depends on a tool's schema alone, shared by all tools that have it."""

    __slots__ = ("__weakref__", "closed", "converter", "name", "parameters", "schema", "validator")

    def __init__(self, schema: dict[str, Any], *, trusted: bool, closed: bool) -> None:
        function = schema["function"]
        name = function.get("name")
        if not isinstance(name, str) or not name.strip() or name == "<lambda>":
            raise ToolError(
                f"a tool has no name: {show(schema)}. "
                'Give it a "name"; in place of a lambda pass a function made with def'
            )
        self.name = name
        self.schema = schema
        self.closed = closed
        parameters = function.get("parameters")
        self.parameters: dict[str, Any] = dict(_NO_PARAMETERS) if parameters is None else parameters
        check_json(name, {key: value for key, value in function.items() if key != "parameters"}, ("function",))
        self.validator = Validator(name, self.parameters, closed=closed)
        if not trusted:  # schemas made from signatures are right; compiling those waits until the first call
            self.validator.compile()
        self.converter = Converter(self.validator.prepared)


class Tool:
    """One tool: its schema, and what follows from it for reading a call's arguments."""

    __slots__ = ("_core", "source")

    def __init__(self, core: _Core, source: Any) -> None:
        self._core = core
        self.source = source

    @classmethod
    def of(cls, tool: Any) -> Tool:
        """A tool from a function, a pydantic model, a dict, ... (see `tool_schema`); a `Tool` passes through.

        Raises:
            ToolError: The tool has no name, or its schema can't be used.
        """
        return tool if isinstance(tool, Tool) else cls(_core(tool), tool)

    @property
    def name(self) -> str:
        """The name that a model calls it by."""
        return self._core.name

    @property
    def schema(self) -> dict[str, Any]:
        """The OpenAI-style dict for chat templates; shared, not to be changed."""
        return self._core.schema

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON schema of the arguments; shared, not to be changed."""
        return self._core.parameters

    @property
    def converter(self) -> Converter:
        """What types the arguments by the schema."""
        return self._core.converter

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # what is compiled is compiled again where it is needed
        return (_restored, (self.schema, self._core.closed)) if self.source is None else (Tool.of, (self.source,))

    def detached(self) -> Tool:
        """The tool without what it was made from (a function, which may be local): its schema alone travels."""
        return Tool(self._core, None)

    def admits(self, key: str) -> str:
        """How text for an argument is read.

        Returns:
            "text" where the value is the text itself (it may be passed on before it ends), "typed" where the
            schema says something else, "unknown" where the argument is undeclared or its schema is silent.
        """
        return self._core.converter.plan(key).kind

    def convert_text(self, key: str, text: str, *, python: bool = False) -> tuple[Any, Problem | None]:
        """The value that a piece of text stands for, as the schema of `key` says.

        Args:
            key: The argument.
            text: What the model wrote, without markup.
            python: Whether the family writes Python's spellings (`True`, `None`, `{'a': 1}`) beside JSON's.

        Returns:
            The value and None; or the text itself and what is wrong with it.
        """
        return self._core.converter.plan(key).convert(text, (key,), python=python)

    def convert_tree(self, tree: Tree, key: str | None = None, *, python: bool = False) -> tuple[Any, list[Problem]]:
        """The arguments (or, with `key`, one argument) of a call that is written as a tree of elements.

        Args:
            tree: The text of an element without children, else its children as (name, tree) pairs in order.
            key: The argument that the tree is the value of; without it the tree holds all arguments.
            python: As for `convert_text`.

        Returns:
            The value, and what does not fit.
        """
        problems: list[Problem] = []
        converter = self._core.converter
        path: Path = () if key is None else (key,)
        too_deep = Problem("invalid-value", f"{place(path)}: nested too deeply", path)
        try:
            if key is not None:
                schema = converter.resolver.child(converter.root, key)
                value = converter.tree(tree, schema, path, problems, python=python)
            elif isinstance(tree, str):  # no element at all: text where arguments should be
                told = Problem("wrong-type", f"{place(path)}: expected arguments, got {show(tree)}", path)
                return {}, [told] if tree.strip() else []
            else:
                value = converter.members(tree, converter.root, path, problems, python=python)
        except RecursionError:  # of a tree that no reader makes, or called from the bottom of a deep stack
            return ({} if key is None else ""), [too_deep]
        return value, problems if is_shallow(value, MAX_DEPTH - len(path)) else [too_deep, *problems]

    def retype(self, key: str, value: Any) -> Any:
        """A value from a family whose template writes every value as a string, as the schema says.

        A string that is exactly a literal (JSON's or Python's) of an admitted type is converted, unless the
        schema admits strings; everything else is returned as it is.
        """
        if not isinstance(value, str):
            return value
        typed = self._core.converter.plan(key).literal(value)
        return value if typed is MISSING else typed

    @property
    def requires_nothing(self) -> bool:
        """Whether a call without any arguments is right."""
        return self.accepts({}, 2)

    def validate(self, arguments: Any) -> list[Problem]:
        """What is wrong with a call's arguments; an empty list when nothing is. Never raises on any value."""
        return self._core.validator.problems(arguments)

    def accepts(self, arguments: dict[str, Any], size: int) -> bool:
        """Whether nothing is wrong with arguments that were read from so many characters of text."""
        return self._core.validator.accepts(arguments, size)


# What families write before a tool's name, and what models make of it.
_PREFIX = re.compile(r"(?:functions?|default_api)[._:/-]?|tools?[.:/]")
_INDEX = re.compile(r"[._:-]?[0-9]+$")
_SEPARATORS = str.maketrans("", "", "_-. ")
_LONGEST_NAME = 200
_RESOLVED = 1_000


class ToolSet(Sequence[Tool]):
    """The tools of one conversation, by name and in order.

    `exact_names`: whether a call must name a tool to the letter; see `resolve`.
    """

    __slots__ = ("_by_core", "_by_name", "_names", "_resolved", "_schemas", "_tools", "exact_names", "names")

    def __init__(self, tools: Iterable[Any] = (), *, exact_names: bool = False) -> None:
        self._tools = tuple(map(Tool.of, tools))
        self.exact_names = exact_names
        self._by_name: dict[str, Tool] = {}
        for tool in self._tools:
            if tool.name in self._by_name:
                raise ToolError(f"two tools are called {tool.name!r}: a call could mean either; rename or drop one")
            self._by_name[tool.name] = tool
        self.names = frozenset(self._by_name)
        self._schemas = [tool.schema for tool in self._tools]
        self._names = Names(self._by_name)
        self._by_core: dict[str, list[Tool]] = {}
        for tool in self._tools:
            self._by_core.setdefault(tool.name.translate(_SEPARATORS), []).append(tool)
        self._resolved: dict[str, Tool | None] = {}

    @classmethod
    def of(cls, tools: Any) -> ToolSet:
        """The set of some tools: None (an empty set), a `ToolSet` (itself), or a list of anything that is a
        tool.

        Sets are remembered: for a list with the same functions, classes and equal dicts as before, this takes
        microseconds. Dicts are compared by content, so changing one is noticed; functions and objects by
        identity.

        Raises:
            ToolError: A tool has no name or an unusable schema, or two have the same name.
        """
        if tools is None:
            return _EMPTY
        if isinstance(tools, ToolSet):
            return tools
        if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Iterable) or isinstance(tools, type):
            raise ToolError(f"tools must be a list of tools, not {show(tools)}: write tools=[...]")
        listed = list(tools)
        # The set holds its sources, so no identity in the key is reused while the key is remembered.
        return _sets.get(_list_key(listed), lambda: cls(listed))

    def get(self, name: Any) -> Tool | None:
        """The tool of that name."""
        return self._by_name.get(name) if isinstance(name, str) else None

    def resolve(self, name: Any) -> tuple[Tool | None, bool]:
        """The tool that a call means, and whether its name had to be repaired.

        A name that is not offered means the one offered tool that it is but for a family's prefix, an index at its
        end, separators (`-` for `_`) or being said twice: `functions.get_weather:3`, `functionsexec5`,
        `get-weather`, `exec.exec`. Where no tool or more than one fits, none is meant.
        """
        tool = self.get(name)
        if tool is not None or self.exact_names or not isinstance(name, str) or len(name) > _LONGEST_NAME:
            return tool, False
        try:
            tool = self._resolved[name]
        except KeyError:
            tool = self._meant(name)
            if len(self._resolved) >= _RESOLVED:
                self._resolved.clear()
            self._resolved[name] = tool
        return tool, tool is not None

    def _meant(self, name: str) -> Tool | None:
        bare = {name, _PREFIX.sub("", name, count=1) if _PREFIX.match(name) else name}
        for written in (bare, {_INDEX.sub("", form) for form in bare}):
            fitting = {
                tool.name: tool
                for form in written
                for once in (form, _said_once(form))
                for tool in self._by_core.get(once.translate(_SEPARATORS), ())
            }
            if fitting:
                return next(iter(fitting.values())) if len(fitting) == 1 else None
        return None

    def suggest(self, name: str) -> str | None:
        """The offered name that was probably meant by an unknown one."""
        return self._names.closest(name)

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """The OpenAI-style dicts for chat templates."""
        return list(self._schemas)

    def __len__(self) -> int:
        return len(self._tools)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name if isinstance(name, str) else name in self._tools

    def __getitem__(self, index: Any) -> Any:
        return self._by_name[index] if isinstance(index, str) else self._tools[index]

    def __repr__(self) -> str:
        return f"ToolSet({', '.join(self._by_name)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, ([tool.source or tool for tool in self._tools], self.exact_names)

    def detached(self) -> ToolSet:
        """The set without what its tools were made from."""
        return ToolSet([tool.detached() for tool in self._tools], exact_names=self.exact_names)


def _restored(schema: dict[str, Any], closed: bool) -> Tool:
    return Tool(_Core(schema, trusted=True, closed=closed), None)


def _unpickled(sources: list[Any], exact_names: bool) -> ToolSet:
    return ToolSet(sources, exact_names=True) if exact_names else ToolSet.of(sources)


def _said_once(name: str) -> str:
    """`exec` for `exec.exec`."""
    half = len(name) // 2
    return name[:half] if len(name) % 2 and name[half] in ".:/" and name[:half] == name[half + 1 :] else name


# --- what is remembered -------------------------------------------------------------------------------------

_Made = TypeVar("_Made")


class _Recent(Generic[_Made]):
    """The last things that were made, by what they were made from."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._known: OrderedDict[Any, _Made] = OrderedDict()

    def get(self, key: Any, make: Callable[[], _Made]) -> _Made:
        """What was made from the key, or is made now; not remembered where the key is None."""
        if key is None:
            return make()
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
        made = make()
        with self._lock:
            self._known[key] = made
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return made


_sets = _Recent[ToolSet](64)
_dicts = _Recent[_Core](512)


class _Memory:
    """Schemas by the identity of what they were made from; keeps nothing alive."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], _Core]] = {}

    def get(self, owner: Any) -> _Core | None:
        entry = self._known.get(id(owner))
        return entry[1] if entry is not None and entry[0]() is owner else None

    def put(self, owner: Any, core: _Core) -> None:
        key, known = id(owner), self._known

        def forget(ref: weakref.ref[Any]) -> None:
            entry = known.get(key)
            if entry is not None and entry[0] is ref:
                del known[key]

        with contextlib.suppress(TypeError):  # an object without weak references is not remembered
            known[key] = (weakref.ref(owner, forget), core)


_objects = _Memory()
_methods = _Memory()
_EMPTY = ToolSet()


_pack = msgspec.msgpack.Encoder().encode


def _fingerprint(tool: dict[str, Any]) -> bytes | None:
    """A dict's content. MessagePack tells 1 from true and from 1.0, in one fast pass."""
    try:
        return _pack(tool)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None  # not plain JSON, or integers beyond 64 bits: simply not remembered


def _list_key(tools: list[Any]) -> tuple[Any, ...] | None:
    """What makes two lists of tools the same; None for lists that are not to be remembered.

    Only functions without a closure and classes are kept alive by the memory of sets: methods, closures and
    objects may hold an environment that should die with its episode. For those, their schemas alone are
    remembered.
    """
    key: list[Any] = []
    for tool in tools:
        if type(tool) is dict:
            content = _fingerprint(tool)
            if content is None:
                return None
            key.append(content)
        elif isinstance(tool, type) or (type(tool) is types.FunctionType and tool.__closure__ is None):
            key.append(id(tool))
        else:
            return None
    return tuple(key)


def _core(tool: Any) -> _Core:
    carried = tool if isinstance(tool, Mapping) else carried_schema(tool)
    if carried is not None:
        content = _fingerprint(carried) if type(carried) is dict else None
        return _dicts.get(content, lambda: _Core(tool_schema(carried), trusted=False, closed=False))
    memory, owner = _objects, tool
    if type(tool) is types.MethodType:
        memory, owner = _methods, tool.__func__
        if not getattr(owner, "__doc__", None):
            # an inherited docstring depends on the class: nothing to share between instances
            return _Core(tool_schema(tool), trusted=True, closed=True)
    known = memory.get(owner)
    if known is None:
        known = _Core(tool_schema(tool), trusted=True, closed=True)
        memory.put(owner, known)
    return known
