"""Type hints as JSON schema.

`plain` is transformers' mapping, construct for construct, and raises `Unsupported` where transformers raises.
`Generous` starts from it and goes on where it stops: nested models, dataclasses, TypedDicts, named tuples,
`Annotated`, sets, sequences, dates, UUIDs, decimals, constrained types. Python classes with fields become
`$defs` entries, so recursive types work; what remains is asked of pydantic.
"""

from __future__ import annotations

import collections
import dataclasses
import inspect
import types
import typing
from collections import abc
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Union, get_args, get_origin

from toolparse.tools import docstrings

Schema = dict[str, Any]

_BASIC: dict[Any, Schema] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    list: {"type": "array"},
    tuple: {"type": "array"},
    dict: {"type": "object"},
    Any: {},
}
# transformers has these two by identity; comparing names spares importing torch and PIL
_MEDIA = {("torch", "Tensor"): "audio", ("PIL.Image", "Image"): "image"}
_SCALARS = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
# keywords whose values are data, not schemas
_DATA = ("default", "const", "enum", "examples", "description")
_KEYED = ("properties", "$defs", "patternProperties")
_SETS = (set, frozenset, abc.Set, abc.MutableSet)
_LISTS = (collections.deque, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection)
_MAPS = (abc.Mapping, abc.MutableMapping, collections.defaultdict, collections.OrderedDict)
_UNIONS: tuple[Any, ...] = (Union, types.UnionType)
_SKIP = {"SkipJsonSchema", "InjectedToolArg", "InjectedToolCallId", "InjectedState", "InjectedStore", "Injected"}


class Unsupported(Exception):
    """A hint with no JSON form that this mapping knows."""


class Injected:
    """Marks a parameter that the program supplies and no model sees: `Annotated[Session, Injected]`."""


def plain(hint: Any) -> Schema:
    """The schema that transformers gives this hint.

    Raises:
        Unsupported: transformers raises here.
    """
    return _plain(hint, plain)


def _plain(hint: Any, inner: Callable[[Any], Schema]) -> Schema:
    """One level of transformers' mapping; `inner` maps what stands inside the hint."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is None:
        if isinstance(hint, type) and issubclass(hint, Enum):
            return _literals([member.value for member in hint])
        try:
            basic = _BASIC.get(hint)
        except TypeError:  # an unhashable hint
            basic = None
        if basic is not None:
            return dict(basic)
        media = _MEDIA.get((getattr(hint, "__module__", ""), getattr(hint, "__qualname__", "")))
        if media is not None:
            return {"type": media}
        raise Unsupported(hint)
    if origin in _UNIONS:
        members = [inner(arg) for arg in args if arg is not type(None)]
        if len(members) == 1:
            schema: Schema = members[0]
        elif all(member.keys() == {"type"} and isinstance(member["type"], str) for member in members):
            names = sorted({member["type"] for member in members})
            schema = {"type": names[0] if len(names) == 1 else names}
        else:
            schema = {"anyOf": members}
        if type(None) in args:
            if "$ref" in schema:  # a keyword beside `$ref` is ignored by older readers
                schema = {"anyOf": [schema, {"type": "null"}]}
            else:
                schema["nullable"] = True
        return schema
    if origin is Literal and args:
        return _literals(list(args))
    if origin is list:
        return {"type": "array", "items": inner(args[0])} if args else {"type": "array"}
    if origin is tuple:
        if not args:
            return {"type": "array"}
        if len(args) == 1 or ... in args:
            raise Unsupported(hint)
        return {"type": "array", "prefixItems": [inner(arg) for arg in args]}
    if origin is dict:
        schema = {"type": "object"}
        if len(args) == 2:
            schema["additionalProperties"] = inner(args[1])
        return schema
    raise Unsupported(hint)


def _literals(values: list[Any]) -> Schema:
    if not values or any(type(value) not in _SCALARS for value in values):
        raise Unsupported(values)
    names = list(dict.fromkeys(_SCALARS[type(value)] for value in values))
    return {"type": names[0] if len(names) == 1 else names, "enum": values}


def _is_read_only(origin: Any) -> bool:
    return getattr(origin, "_name", None) == "ReadOnly"  # of Python 3.13, or of typing_extensions


def is_injected(hint: Any) -> bool:
    """Whether a parameter's hint says that the program supplies it."""
    if get_origin(hint) is not Annotated:
        return isinstance(hint, type) and any(base.__name__ in _SKIP for base in hint.__mro__)
    kinds = (mark if isinstance(mark, type) else type(mark) for mark in get_args(hint)[1:])
    return any(base.__name__ in _SKIP for kind in kinds for base in kind.__mro__)


def describe(hint: Any) -> str | None:
    """The description in an `Annotated` hint: a plain string, or pydantic's `Field(description=...)`."""
    if get_origin(hint) is not Annotated:
        return None
    for mark in get_args(hint)[1:]:
        text = mark if isinstance(mark, str) else getattr(mark, "description", getattr(mark, "documentation", None))
        if isinstance(text, str) and text:
            return text
    return None


class Generous:
    """Maps hints for one tool and collects the `$defs` that they need."""

    def __init__(self) -> None:
        self.defs: dict[str, Schema] = {}
        self._names: dict[Any, str] = {}

    def schema(self, hint: Any) -> Schema:
        """The schema of a hint.

        Raises:
            Unsupported: not even pydantic knows a JSON form.
        """
        origin, args = get_origin(hint), get_args(hint)
        if origin is Annotated:
            return self._annotated(hint, args)
        if origin in (typing.Required, typing.NotRequired, ClassVar, typing.Final) or _is_read_only(origin):
            return self.schema(args[0]) if args else {}
        if isinstance(hint, typing.NewType):
            return self.schema(hint.__supertype__)
        if isinstance(hint, typing.TypeVar):
            return self.schema(hint.__bound__) if hint.__bound__ is not None else {}
        if isinstance(hint, str | typing.ForwardRef):
            return {}  # a name that could not be resolved: the type is unknown, not impossible
        if type(hint).__name__ == "TypeAliasType":
            return self.schema(hint.__value__)
        if hint is object:
            return {}
        if isinstance(hint, type) and origin is None:
            own = self._class(hint)
            if own is not None:
                return own
        container = self._container(hint, origin, args)
        if container is not None:
            return container
        try:
            return _plain(hint, self.schema)
        except Unsupported:
            return self._pydantic(hint)

    def _container(self, hint: Any, origin: Any, args: tuple[Any, ...]) -> Schema | None:
        """Containers beyond list, tuple and dict."""
        kind = origin if origin is not None else hint
        if not isinstance(kind, type):
            return None
        if kind is tuple and args:
            if args[-1] is ...:
                return {"type": "array", "items": self.schema(args[0])}
            if len(args) > 1:
                return None
            return {"type": "array", "prefixItems": [self.schema(args[0])], "minItems": 1, "maxItems": 1}
        if kind in _MAPS:
            values = {"additionalProperties": self.schema(args[1])} if len(args) == 2 else {}
            return {"type": "object", **values}
        if kind not in (*_SETS, *_LISTS):
            return None
        unique = {"uniqueItems": True} if kind in _SETS else {}
        items = {"items": self.schema(args[0])} if args and args[0] is not Any else {}
        return {"type": "array", **unique, **items}

    def _annotated(self, hint: Any, args: tuple[Any, ...]) -> Schema:
        inner, marks = args[0], [mark for mark in args[1:] if not isinstance(mark, str)]
        schema: Schema | None = None
        if marks and not is_fields(inner):
            # constraints such as Field(ge=0) are pydantic's business; where it can't read them they are
            # dropped
            try:
                schema = self._pydantic(Annotated[(inner, *marks)])
            except Unsupported:
                schema = None
        if schema is None:
            schema = self.schema(inner)
        text = describe(hint)
        if text is not None:
            schema = {**schema, "description": text}
        return schema

    def _class(self, cls: type) -> Schema | None:
        """A class with fields, as a reference into `$defs`; None for any other class."""
        if not is_fields(cls):
            return None
        name = self._names.get(cls)
        if name is None:
            name = self._free_name(cls.__name__)
            self._names[cls] = name
            self.defs[name] = {}  # holds the place: a field may refer back to the class
            self.defs[name] = self.fields(cls)
        return {"$ref": f"#/$defs/{name}"}

    def fields(self, cls: type) -> Schema:
        """The object schema of a dataclass, TypedDict or named tuple."""
        hints = hints_of(cls)
        if dataclasses.is_dataclass(cls):
            fields = {
                field.name: (
                    hints.get(field.name, Any),
                    field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
                    field.default,
                )
                for field in dataclasses.fields(cls)
                if field.init
            }
        elif is_typed_dict(cls):
            required = _required_keys(cls)
            fields = {key: (hint, key in required, dataclasses.MISSING) for key, hint in hints.items()}
        else:
            defaults: dict[str, Any] = cls._field_defaults  # type: ignore[attr-defined]
            names: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]
            fields = {
                key: (hints.get(key, Any), key not in defaults, defaults.get(key, dataclasses.MISSING)) for key in names
            }
        doc = docstrings.anything(own_doc(cls))
        properties: Schema = {}
        for key, (hint, _required, default) in fields.items():
            schema = self.schema(hint)
            if key in doc.params and "description" not in schema:
                schema = {**schema, "description": doc.params[key]}
            if type(default) in _SCALARS:
                schema = {**schema, "default": default}
            properties[key] = schema
        result: Schema = {"type": "object", "properties": properties}
        needed = [key for key, (_hint, required, _default) in fields.items() if required]
        if needed:
            result["required"] = needed
        if doc.description:
            result["description"] = doc.description
        return result

    def _pydantic(self, hint: Any) -> Schema:
        import pydantic

        try:
            if isinstance(hint, type) and issubclass(hint, pydantic.BaseModel):
                schema = hint.model_json_schema()
            else:
                schema = pydantic.TypeAdapter(hint).json_schema()
        except Exception as error:
            raise Unsupported(hint) from error
        return self.adopt(schema, hint)

    def adopt(self, schema: Schema, hint: Any = None) -> Schema:
        """Take over a schema that pydantic made: its titles go, its `$defs` join ours under free names."""
        schema = without_titles(schema)
        defs = schema.pop("$defs", {})
        renamed = {
            name: name if self.defs.get(name) in (None, body) else self._free_name(name) for name, body in defs.items()
        }
        moved = any(old != new for old, new in renamed.items())
        for name, body in defs.items():
            self.defs[renamed[name]] = _rename_refs(body, renamed) if moved else body
        if moved:
            schema = _rename_refs(schema, renamed)
        if isinstance(hint, type) and "$ref" not in schema and "properties" in schema and hint.__module__ != "builtins":
            name = self._names.get(hint) or self._free_name(hint.__name__)
            self._names[hint] = name
            self.defs[name] = schema
            return {"$ref": f"#/$defs/{name}"}
        return schema

    def _free_name(self, name: str) -> str:
        free, number = name, 2
        while free in self.defs:
            free, number = f"{name}_{number}", number + 1
        return free


def is_fields(cls: Any) -> bool:
    """Whether a class is described by its annotated fields alone."""
    if not isinstance(cls, type):
        return False
    return dataclasses.is_dataclass(cls) or is_typed_dict(cls) or is_named_tuple(cls)


def is_typed_dict(cls: type) -> bool:
    """Whether a class is a TypedDict, from `typing` or from `typing_extensions` (which differ before 3.13)."""
    return issubclass(cls, dict) and hasattr(cls, "__required_keys__") and hasattr(cls, "__total__")


def is_named_tuple(cls: type) -> bool:
    """Whether a class was made by `NamedTuple` or `namedtuple`."""
    return issubclass(cls, tuple) and cls is not NamedTuple and hasattr(cls, "_fields")


def hints_of(obj: Any) -> dict[str, Any]:
    """The hints of a function or class with their marks; a name that can't be resolved stays a string."""
    try:
        return typing.get_type_hints(obj, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations are arbitrary code: resolve one by one what can be resolved
        pass
    raw: dict[str, Any] = {}
    for owner in reversed(getattr(obj, "__mro__", (obj,))):
        raw.update(getattr(owner, "__annotations__", None) or {})
    target = inspect.unwrap(obj) if callable(obj) and not isinstance(obj, type) else obj
    scope = getattr(target, "__globals__", None)
    if scope is None:
        import sys

        scope = vars(sys.modules.get(getattr(obj, "__module__", "") or "", types))
    hints = {}
    for name, hint in raw.items():
        if isinstance(hint, str):
            try:
                # what typing.get_type_hints does too; the annotation is the user's own program text
                hint = eval(hint, scope)  # nosec B307
            except Exception:  # noqa: BLE001 - a name imported for type checkers only, say
                hint = str(hint)
        hints[name] = type(None) if hint is None else hint
    return hints


def own_doc(cls: type) -> str | None:
    """A class's docstring, unless Python generated it."""
    text = cls.__dict__.get("__doc__")
    if not isinstance(text, str) or text.startswith(f"{cls.__name__}("):
        return None
    return inspect.cleandoc(text)


def without_titles(schema: Any, *, names: bool = False) -> Any:
    """A copy without the titles that pydantic makes; `names` says that the keys are property names."""
    if isinstance(schema, dict):
        result = {}
        for key, value in schema.items():
            if key == "title" and not names and isinstance(value, str):
                continue
            if not names and key in _DATA:
                result[key] = value
                continue
            result[key] = without_titles(value, names=not names and key in _KEYED)
        return result
    if isinstance(schema, list):
        return [without_titles(item) for item in schema]
    return schema


def _rename_refs(schema: Any, names: dict[str, str], *, keyed: bool = False) -> Any:
    """The schema with its references (also those of pydantic's discriminators) under the new names.

    `keyed` says that the keys of this dict are property names, not keywords.
    """
    if isinstance(schema, str) and schema.startswith("#/$defs/"):
        name = schema.removeprefix("#/$defs/")
        return f"#/$defs/{names.get(name, name)}"
    if isinstance(schema, dict):
        return {
            key: value if key in _DATA and not keyed else _rename_refs(value, names, keyed=not keyed and key in _KEYED)
            for key, value in schema.items()
        }
    if isinstance(schema, list):
        return [_rename_refs(item, names) for item in schema]
    return schema


def _required_keys(cls: type) -> frozenset[str]:
    """A TypedDict's required keys; `__required_keys__` is wrong where annotations are strings."""
    declared: frozenset[str] = getattr(cls, "__required_keys__", frozenset())
    required = set(declared)
    for key, hint in hints_of(cls).items():
        if get_origin(hint) is typing.NotRequired:
            required.discard(key)
        elif get_origin(hint) is typing.Required:
            required.add(key)
    return frozenset(required)
