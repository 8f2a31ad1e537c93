"""Compiling and rendering chat templates as transformers does, within limits.

The environment is transformers': Jinja's ImmutableSandboxedEnvironment, `trim_blocks`, `lstrip_blocks`, loop controls,
the `generation` tag, `tojson` without escaping, `raise_exception`, `strftime_now`, a `namespace` without underscores.
On top of it stand the guards of `limits.py`: loops, calls, filters, operators and literals are routed through them,
partly by Jinja's own hooks, partly by what the code generator writes. The clock stands still, so that two renderings
differ only where their conversations do.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any, TypeVar

import jinja2
import jinja2.ext
import jinja2.nodes as nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.sandbox import (
    ImmutableSandboxedEnvironment,
    SandboxedEnvironment,
    safe_range,
)
from jinja2.utils import Cycler, Joiner, Namespace

from toolparse.errors import TemplateError
from toolparse.templates.rendering import limits
from toolparse.templates.rendering.limits import Budget, LimitExceeded, Limits, attributes, current, spending, words

NOW = datetime.datetime(2024, 5, 17, 12, 0, 0)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` ... `{% endgeneration %}`: marks what the assistant wrote; renders as its body."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own way to declare it

    def parse(self, parser: Any) -> nodes.Node:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_body", [], lineno=lineno)
        return nodes.CallBlock(call, [], [], body).set_lineno(lineno)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


class _Namespace(Namespace):
    """Jinja's namespace without names that begin with an underscore, as in transformers."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, args = args[0], args[1:]
        attrs = dict(*args, **kwargs)
        for name in attrs:
            _check_name(name)
        Namespace.__init__(self, attrs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(
            f"a namespace cannot hold {name!r}: names must not begin with an underscore"
        )


class _Dict:
    """`dict` without the class behind it."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


def _tojson(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: Any) -> str:
    raise jinja2.exceptions.TemplateError(str(message))


def _strftime_now(form: str) -> str:
    if len(form) > 200 or _PADDED.search(form):
        raise LimitExceeded("the template asks for a date in a format of more than 200 characters, or padded")
    return NOW.strftime(form)


_PADDED = re.compile(r"%[^A-Za-z%]*\d")


def _maker(kind: Callable[..., Any]) -> Callable[..., Any]:
    """What makes things of a kind, without the class: `cycler.reset(raise_exception)` would write into that for all."""

    def make(*args: Any, **kwargs: Any) -> Any:
        return kind(*args, **kwargs)

    return make


def _first(value: Any) -> Any:
    """`random`, for renderings that can be compared."""
    return next(iter(value), "")


class _Code(CodeGenerator):
    """Jinja's code generator, with what templates build routed through the limits."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        current().tick()  # the clock is looked at
        return super().visit(node, *args, **kwargs)

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802
        if not isinstance(node.arg, nodes.Slice):
            super().visit_Getitem(node, frame)
            return
        self._guarded("sliced", [node.node, node.arg.start, node.arg.stop, node.arg.step], frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self._guarded("joined", node.nodes, frame)

    def visit_Call(self, node: nodes.Call, frame: Frame, forward_caller: bool = False) -> None:  # noqa: N802
        if isinstance(node.node, nodes.EnvironmentAttribute) and node.node.name == "counted":
            self._guarded("counted", node.args, frame)
        else:
            super().visit_Call(node, frame, forward_caller=forward_caller)

    def _guarded(self, name: str, parts: Iterable[nodes.Node | None], frame: Frame) -> None:
        """A call of one of the environment's guards."""
        self.write(f"environment.{name}(")
        for part in parts:
            if part is None:
                self.write("None")
            else:
                self.visit(part, frame)
            self.write(", ")
        self.write(")")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        self._made(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self._made(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        self._made(super().visit_Tuple, node, frame)

    def _made(self, visit: Callable[[Any, Frame], None], node: Any, frame: Frame) -> None:
        weighed = bool(node.items) and getattr(node, "ctx", "load") == "load"
        self.write("environment.made(" if weighed else "")
        visit(node, frame)
        self.write(")" if weighed else "")


class _Environment(ImmutableSandboxedEnvironment):
    """The guarded environment; `mutable` allows `list.append` and its like."""

    code_generator_class = _Code
    intercepted_binops = frozenset(SandboxedEnvironment.default_binop_table)
    concat = staticmethod(limits.concat)
    counted = staticmethod(limits.counted)
    joined = staticmethod(limits.joined)
    sliced = staticmethod(limits.sliced)

    def __init__(self, *, mutable: bool) -> None:
        # Constants are not folded: that takes a tenth of the compilation, and the limits must see them anyway.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            finalize=limits.shown,
            extensions=[_Generation, jinja2.ext.loopcontrols],
        )
        self.mutable = mutable
        self.filters["tojson"] = _tojson
        self.filters["random"] = _first
        self.globals = {
            "range": safe_range,
            "dict": _Dict(),
            "namespace": _maker(_Namespace),
            "cycler": _maker(Cycler),
            "joiner": _maker(Joiner),
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }
        self.filters = {name: _guard(name, function) for name, function in self.filters.items()}

    def getattr(self, obj: Any, attribute: str) -> Any:
        # What templates ask for most, without the questions whose answer is known.
        kind = type(obj)
        if kind is dict and attribute not in _DICT_ATTRIBUTES:
            try:
                return obj[attribute]
            except KeyError:
                return self.undefined(obj=obj, name=attribute)
        if kind is _Namespace and not attribute.startswith("_"):
            try:
                value = attributes(obj)[attribute]
            except KeyError:
                return self.undefined(obj=obj, name=attribute)
            if type(value) in _DATA:
                return value
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        allowed = next((names for kind, names in _ALLOWED if isinstance(obj, kind)), frozenset())
        if attr not in allowed and not (self.mutable and attr in _MUTATING and isinstance(obj, (list, dict))):
            return isinstance(obj, (Namespace, jinja2.runtime.Undefined)) and not attr.startswith("_")
        if self.mutable:
            return SandboxedEnvironment.is_safe_attribute(self, obj, attr, value)
        return super().is_safe_attribute(obj, attr, value)

    def _generate(
        self, source: nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        for loop in [node for node in _walk(source) if isinstance(node, nodes.For)]:
            loop.iter = nodes.Call(nodes.EnvironmentAttribute("counted"), [loop.iter], [], None, None)
        return super()._generate(source, name, filename, defer_init)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        return limits.operated(operator, self.binop_table[operator], left, right)

    def made(self, value: Any) -> Any:
        """A list, tuple or dict that stands in the template."""
        budget = current()
        budget.tick()
        return budget.check(value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        text = value.__self__

        def guarded(*args: Any, **kwargs: Any) -> str:
            budget = current()
            args = tuple(limits.laid_out("format", arg) for arg in args)
            budget.foresee("format", text, args, kwargs)
            result: str = budget.check(wrapped(*args, **kwargs))
            return result

        return guarded

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        budget = current()
        budget.tick()
        is_macro = type(__obj) is jinja2.runtime.Macro
        owner = getattr(__obj, "__self__", None) if not is_macro else None
        if isinstance(owner, (str, bytes, int, float)):
            name = getattr(__obj, "__name__", "")
            args = tuple(limits.laid_out(name, arg) for arg in args)
            budget.foresee(name, owner, args, _plain_kwargs(kwargs))
        elif isinstance(__obj, jinja2.runtime.LoopContext):
            args = tuple(limits.counted(arg) for arg in args)
        budget.depth += 1
        if budget.depth > budget.limits.depth:
            raise TemplateError("the template's macros call each other too deeply")
        try:
            if is_macro:  # takes the context of escaping, nothing else that must be looked up
                result = __obj(__context.eval_ctx, *args, **_plain_kwargs(kwargs))
            else:
                result = super().call(__context, __obj, *args, **kwargs)
        finally:
            budget.depth -= 1
        if __self.mutable and isinstance(owner, (list, dict, set)):
            budget.check(owner)
        return budget.check(result)


#: Plain values: neither methods nor anything else that the sandbox wraps.
_DATA = frozenset((str, int, float, bool, list, dict, tuple, type(None)))
_DICT_ATTRIBUTES = frozenset(dir(dict))

_MUTATING = words("append clear extend insert pop popitem remove reverse setdefault sort update")
_TEXT = words(
    "capitalize casefold center count endswith expandtabs find format format_map index isalnum isalpha isascii "
    "isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip "
    "partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines "
    "startswith strip swapcase title translate upper zfill"
)
_LOOP = words("index index0 revindex revindex0 first last length previtem nextitem depth depth0 cycle changed")
#: All that a template may ask of a value by a dot; of what is not here, nothing.
_ALLOWED: tuple[tuple[type, frozenset[str]], ...] = (
    (str, _TEXT),
    (dict, words("copy get items keys values")),
    (list, words("copy count index")),
    (tuple, words("count index")),
    (range, words("count index start stop step")),
    (_Dict, words("fromkeys")),
    (jinja2.runtime.LoopContext, _LOOP),
    (jinja2.runtime.Macro, words("arguments caller catch_kwargs catch_varargs name")),
    (jinja2.runtime.BlockReference, words("super")),
    (Cycler, words("current next reset")),
)


def _plain_kwargs(kwargs: dict[str, Any]) -> dict[str, Any]:
    if not kwargs:
        return kwargs
    return {key: value for key, value in kwargs.items() if key not in ("_loop_vars", "_block_vars")}


#: Filters that pass things on and make no text of them.
_CHEAP = words("count d default first items last length list map reject rejectattr select selectattr tojson reverse")


def _guard(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that is foreseen, counted and weighed."""
    passes = getattr(function, "jinja_pass_arg", None)
    at = 1 if passes is not None else 0  # where the filtered value stands among the arguments
    foreseen = limits.foreseen(name)

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        budget = current()
        value = args[at] if len(args) > at else None
        if foreseen:
            args = tuple(limits.laid_out(name, arg) for arg in args)
            value = args[at] if len(args) > at else None
            budget.foresee(name, value, args[at + 1 :], kwargs)
        elif name in _CHEAP or type(value) is str:
            budget.walk(value)
        else:
            budget.tick(1 + (budget.weigh(value) >> 6))  # it may become text
        result = function(*args, **kwargs)
        return limits.counted(result) if hasattr(result, "__next__") else budget.check(result)

    return guarded


class CompiledTemplate:
    """A chat template, ready to be rendered.

    `source` is its text. `render` takes plain data, copies it and raises TemplateError
    (with the template's own words, where it raised) or LimitExceeded.
    """

    def __init__(self, source: str, template: jinja2.Template, mutable: bool) -> None:
        self.source = source
        self.mutable = mutable
        self._template = template

    def render(self, *, deadline: float | None = None, bounds: Limits = limits.LIMITS, **variables: Any) -> str:
        """The text that the template writes for these variables."""
        budget = Budget(bounds, deadline)
        with spending(budget):
            try:
                # Only the mutable sandbox lets a template change what it is given.
                return self._template.render(_plain(variables) if self.mutable else variables)
            except TemplateError:
                raise
            except RecursionError:
                raise TemplateError("the template calls itself without an end") from None
            except MemoryError:
                raise LimitExceeded("the template needs too much memory") from None
            except Exception as error:
                raise TemplateError(f"{type(error).__name__}: {error}"[:_TOLD]) from error


_TOLD = 1000  # characters of a template's own words


def _plain(value: Any) -> Any:
    """A copy made of plain data only."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def digest(source: str) -> str:
    """The sha256 of a template's text."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


@functools.lru_cache(maxsize=2)
def environment(mutable: bool = False) -> _Environment:
    """The environment that templates are compiled for."""
    return _Environment(mutable=mutable)


K = TypeVar("K")
T = TypeVar("T")


def _keep(cache: OrderedDict[K, T], key: K, value: T, limit: int = 256) -> T:
    cache[key] = value
    while len(cache) > limit:
        with contextlib.suppress(KeyError):
            cache.popitem(last=False)
    return value


_compiled: OrderedDict[tuple[str, bool], CompiledTemplate] = OrderedDict()
_codes: OrderedDict[str, CodeType] = OrderedDict()  # both sandboxes run the same code
_trees: OrderedDict[str, nodes.Template] = OrderedDict()  # parsed and not yet compiled


def compile_template(source: str, *, mutable: bool = False, deadline: float | None = None) -> CompiledTemplate:
    """A template, compiled; kept in memory, never on disk, where nothing is code. Raises TemplateError.

    `deadline`: by `time.monotonic`; without one it has as long as a rendering.
    """
    if not isinstance(source, str):
        raise TemplateError(f"a chat template is a text, not {type(source).__name__}")
    key = digest(source)
    known = _compiled.get((key, mutable))
    if known is not None:
        return known
    env, code = environment(mutable), _codes.get(key)
    if code is None:
        tree = _trees.pop(key, None) or _parse(source)
        code = _keep(_codes, key, _guarded_compile(lambda: env.compile(tree), deadline))
    template = jinja2.Template.from_code(env, code, env.make_globals(None))
    return _keep(_compiled, (key, mutable), CompiledTemplate(source, template, mutable))


@dataclass(frozen=True, slots=True)
class Facts:
    """What a template's source tells without being rendered.

    `mentions_calls`: its code looks at a message's calls. `markers`: constants that look like one marker. `switches`:
    variables about thinking that whoever renders it may set, one at a time, with the values that it knows.
    """

    mentions_calls: bool
    markers: tuple[str, ...]
    switches: tuple[tuple[str, Any], ...] = ()


_CALL_KEYS = frozenset({"tool_calls", "tool_call", "function_call", "function_calls"})
_MARKER = re.compile(r"\s*(<[^<>\n]{1,80}>|\[/?[A-Z][A-Z0-9_ ]*\])\s*")
_SWITCH = re.compile(r"think|thought|reason|effort|budget|(^|_)cot(_|$)", re.IGNORECASE)
_NO_SWITCH = re.compile(r"content|text|past|keep|preserve|history|drop|truncate|tag|token|^has_|^is_", re.IGNORECASE)
_facts: OrderedDict[str, Facts] = OrderedDict()


def facts_of(source: str) -> Facts:
    """Facts about a template; parses it once. Raises TemplateError."""
    key = digest(source)
    known = _facts.get(key)
    if known is not None:
        return known
    tree = _parse(source)
    _keep(_trees, key, tree, 4)
    mentions, markers = False, []
    for node in _walk(tree):
        kind = type(node)
        if kind is nodes.Getattr:
            value = node.attr
        elif kind is nodes.Const and isinstance(node.value, str):
            value = node.value
        else:
            continue
        mentions = mentions or value in _CALL_KEYS
        marker = _MARKER.fullmatch(value)
        if marker and marker.group(1) not in markers:
            markers.append(marker.group(1))
    return _keep(_facts, key, Facts(mentions, tuple(markers[:12]), tuple(_switches(tree))[:8]))


def nodes_of(source: str) -> Iterator[Any]:
    """Every node of a template's tree. Raises TemplateError."""
    return _walk(_parse(source))


def _switches(tree: nodes.Node) -> Iterator[tuple[str, Any]]:
    """Names about thinking that come from outside, with each constant that they are compared with, else yes and no."""
    own: set[str] = set()  # set by the template itself, and never asked whether they are there
    given: set[str] = set()
    known: dict[str, dict[Any, None]] = {}
    for node in _walk(tree):
        kind = type(node)
        if kind is nodes.Name and _SWITCH.search(node.name) and not _NO_SWITCH.search(node.name):
            (own.add(node.name) if node.ctx != "load" else known.setdefault(node.name, {}))
        elif kind is nodes.Test and node.name in ("defined", "undefined") and type(node.node) is nodes.Name:
            given.add(node.node.name)
        elif kind is nodes.Compare and len(names := [n.name for n in _walk(node.expr) if type(n) is nodes.Name]) == 1:
            others = [item for op in node.ops for item in getattr(op.expr, "items", None) or [op.expr]]
            constants = [item.value for item in others if type(item) is nodes.Const]
            known.setdefault(names[0], {}).update(dict.fromkeys(one for one in constants if type(one) in (str, int)))
    for name, values in known.items():
        if _SWITCH.search(name) and not _NO_SWITCH.search(name) and (name in given or name not in own):
            yield from ((name, value) for value in values or (True, False))


def _walk(tree: nodes.Node) -> Iterator[Any]:
    """Every node of a tree in the order of the source: Jinja's own walk asks more of each node and takes longer."""
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        inner: list[Any] = []
        for name in node.fields:
            value = getattr(node, name, None)
            if isinstance(value, nodes.Node):
                inner.append(value)
            elif type(value) is list:
                inner += [item for item in value if isinstance(item, nodes.Node)]
        inner.reverse()
        waiting += inner


def _parse(source: str) -> nodes.Template:
    limits.check_source(source)
    tree: nodes.Template = _guarded_compile(lambda: environment().parse(source))
    return tree


def _guarded_compile(make: Callable[[], Any], deadline: float | None = None) -> Any:
    with spending(Budget(deadline=deadline)):
        try:
            return make()
        except TemplateError:
            raise
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(f"line {error.lineno}: {error.message}") from error
        except (RecursionError, MemoryError):
            raise LimitExceeded("the template is nested too deeply to be compiled") from None
        except Exception as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from error
