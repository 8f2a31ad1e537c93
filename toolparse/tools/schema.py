"""Anything that can be called with named arguments, as the OpenAI-style dict that chat templates expect.

For functions the result equals `transformers.utils.get_json_schema` wherever that one works: `_strict` is the
same procedure, and only when it gives up does `_generous` take over, which never asks for a docstring or a
hint.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from toolparse.errors import ToolError
from toolparse.tools import docstrings, type_hints

Schema = dict[str, Any]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_PARAMETER_KEYS = ("parameters", "input_schema", "inputSchema")
# attributes under which tool objects of other libraries keep a schema
_OBJECT_KEYS = (*_PARAMETER_KEYS, "params_json_schema", "args_schema")


_NAMED_TYPES: dict[str, type] = {
    "str": str, "string": str, "int": int, "integer": int, "float": float, "bool": bool, "boolean": bool,
    "list": list, "dict": dict,
}  # fmt: skip


def tool_schema(obj: Any) -> Schema:
    """The OpenAI-style schema of a tool: `{"type": "function", "function": {...}}`.

    Args:
        obj: A function, method, async function, `functools.partial`, callable object, class, pydantic model,
            dataclass, TypedDict, an OpenAI, Anthropic or MCP dict, or a tool object of another library.

    Returns:
        A new dict that belongs to the caller.

    Raises:
        ToolError: The object can't be described; the message names it and says what to do.
    """
    if isinstance(obj, Mapping):
        return _from_mapping(obj)
    if isinstance(obj, type):
        return _wrap(_from_class(obj))
    carried = carried_schema(obj)
    if carried is not None:
        return carried
    if not callable(obj):
        raise ToolError(
            f"a tool can't be made from {_short(obj)}: pass a function, a pydantic model, a dataclass, "
            'or a dict {"type": "function", "function": {"name": ..., "parameters": {...}}}'
        )
    return _wrap(_from_callable(obj))


def _wrap(function: Schema) -> Schema:
    return {"type": "function", "function": function}


# --- dicts and objects that bring a schema ------------------------------------------------------------------


def _from_mapping(tool: Mapping[str, Any]) -> Schema:
    tool = _copied(tool)
    function = tool.get("function")
    if function is not None:
        if not isinstance(function, dict):
            raise ToolError(f'a tool\'s "function" must be a dict with "name" and "parameters", not {_short(function)}')
        return tool if "type" in tool else {"type": "function", **tool}
    if "name" not in tool and not any(key in tool for key in _PARAMETER_KEYS):
        raise ToolError(
            f"a tool has no name: {_short(tool)} is no tool dict; "
            'write {"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}'
        )
    if tool.get("type") in ("function", "custom"):  # the Responses and the Messages API write the fields flat
        del tool["type"]
    result: Schema = {key: tool[key] for key in ("name", "description") if key in tool}
    for key in _PARAMETER_KEYS:
        if key in tool:
            result["parameters"] = tool.pop(key)
            break
    result.update((key, value) for key, value in tool.items() if key not in result)
    return _wrap(result)


def _copied(tool: Mapping[str, Any]) -> Schema:
    try:
        return copy.deepcopy(dict(tool))
    except Exception as error:
        raise ToolError(f"tool {_short(tool.get('name'))} can't be copied ({error}): use plain JSON values") from error


def carried_schema(obj: Any) -> Schema | None:
    """The schema that an object of another library carries (MCP, LangChain, ...); None for functions."""
    if isinstance(obj, type | types.FunctionType | types.MethodType | types.BuiltinFunctionType | functools.partial):
        return None
    whole = getattr(obj, "json_schema", None)
    if isinstance(whole, Mapping) and ("function" in whole or "name" in whole):
        return _from_mapping(whole)
    name = getattr(obj, "name", None)
    if not isinstance(name, str):
        return None
    for key in _OBJECT_KEYS:
        parameters = getattr(obj, key, None)
        if isinstance(parameters, type):
            try:
                parameters = _from_class(parameters)["parameters"]
            except ToolError:
                continue
        if isinstance(parameters, Mapping):
            function: Schema = {"name": name}
            description = getattr(obj, "description", None)
            function["description"] = description if isinstance(description, str) else ""
            function["parameters"] = _copied(parameters)
            return _wrap(function)
    return None


# --- classes ------------------------------------------------------------------------------------------------


def _from_class(cls: type) -> Schema:
    if _is_pydantic(cls):
        return _from_pydantic(cls)
    if type_hints.is_fields(cls):
        if not type_hints.is_typed_dict(cls):
            strict = _strict(cls)
            if strict is not None:
                return strict
        maker = type_hints.Generous()
        try:
            parameters = maker.fields(cls)
        except type_hints.Unsupported as error:
            raise _no_json(cls.__name__, error) from error
        return _function(cls.__name__, parameters.pop("description", ""), _with_defs(parameters, maker))
    return _from_callable(cls)


def _is_pydantic(cls: type) -> bool:
    # by name first: a program without pydantic models should not pay for importing pydantic
    if not any(base.__module__.startswith("pydantic") for base in cls.__mro__):
        return False
    import pydantic

    return issubclass(cls, pydantic.BaseModel)


def _from_pydantic(cls: Any) -> Schema:
    try:
        schema = type_hints.without_titles(cls.model_json_schema())
    except Exception as error:
        raise ToolError(
            f"tool {cls.__name__!r}: pydantic can't write a JSON schema for this model: {_first_line(error)}"
        ) from error
    defs = schema.get("$defs", {})
    if "$ref" in schema and "properties" not in schema:  # a model that contains itself is a reference at the root
        body = defs.get(schema["$ref"].removeprefix("#/$defs/"), {})
        schema = {**body, "$defs": defs}
    doc = docstrings.anything(schema.get("description"))
    properties = schema.get("properties", {})
    for name, text in doc.params.items():
        if isinstance(properties.get(name), dict):
            properties[name].setdefault("description", text)
    ordered: Schema = {"type": "object", "properties": properties}
    for key, value in schema.items():
        if key not in ("$defs", "description"):
            ordered.setdefault(key, value)
    if defs:
        ordered["$defs"] = defs
    return _function(cls.__name__, doc.description, ordered)


# --- callables ----------------------------------------------------------------------------------------------


def _from_callable(obj: Any) -> Schema:
    if not isinstance(obj, functools.partial):
        strict = _strict(obj)
        if strict is not None:
            return strict
    return _generous(obj)


def _strict(func: Any) -> Schema | None:
    """What `get_json_schema` returns; None where it raises, or where its result can't fit the signature."""
    # An instance is described by its class's annotations there, under the name "operation": of no use.
    if not isinstance(func, type) and not hasattr(func, "__name__"):
        return None
    text = inspect.getdoc(func)
    if not text:
        return None
    try:
        doc = docstrings.google(text.strip())
        annotations = typing.get_type_hints(func)
        parameters = inspect.signature(func).parameters
        # A marked parameter never reaches the model, a variadic one can't be passed by its own name.
        raw = typing.get_type_hints(func, include_extras=True)
        if any(parameter.kind in _VARIADIC for parameter in parameters.values()):
            return None
        if any(type_hints.is_injected(hint) for hint in raw.values()):
            return None
        skipped = _receiver(parameters)
        shown = [name for name in parameters if name != skipped]
        if any(parameters[name].annotation is inspect.Parameter.empty for name in shown):
            return None
        returns = annotations.pop("return", inspect.Parameter.empty)
        # transformers lists properties in the order of the annotations
        properties = {name: type_hints.plain(hint) for name, hint in annotations.items() if name != skipped}
        if properties.keys() != set(shown):
            return None
        for name, schema in properties.items():
            description, choices = docstrings.split_choices(doc.params[name])
            if choices is not None:
                schema["enum"] = choices
            schema["description"] = description
    except Exception:  # noqa: BLE001 - annotations and docstrings are arbitrary; the other way copes with them
        return None
    schema = {"type": "object", "properties": properties}
    required = [name for name in shown if parameters[name].default is inspect.Parameter.empty]
    if required:
        schema["required"] = required
    function = _function(func.__name__, doc.description, schema)
    _add_return(function, returns, doc.returns)
    return function


def _generous(obj: Any) -> Schema:
    """A schema for any callable: what is documented is described, what is annotated is typed."""
    target, bound, positional = _unwrap(obj)
    code = target if _has_code(target) or isinstance(target, type) else type(target).__call__
    name = _name(obj, target)
    doc = docstrings.anything(inspect.getdoc(code))
    if code is not target or isinstance(target, type):
        outer = docstrings.anything(type_hints.own_doc(target if isinstance(target, type) else type(target)))
        doc = docstrings.Doc(
            outer.description or doc.description,
            {**outer.params, **doc.params},
            doc.returns,
            {**outer.types, **doc.types},
        )
    try:
        signature = inspect.signature(obj)
    except (TypeError, ValueError) as error:
        raise ToolError(
            f"tool {name!r}: its signature can't be read ({error}); wrap it in a function, or pass a dict"
        ) from error
    annotated = type_hints.hints_of(inspect.getattr_static(target, "__init__") if isinstance(target, type) else code)
    maker = type_hints.Generous()
    properties: Schema = {}
    required: list[str] = []
    rest: Any = None
    skipped = None if positional else _receiver(signature.parameters)
    for key, parameter in signature.parameters.items():
        if key == skipped or key in bound or parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            continue
        hint = annotated.get(key, inspect.Parameter.empty)
        if type_hints.is_injected(hint) or (
            parameter.kind is inspect.Parameter.POSITIONAL_ONLY and _defaulted(parameter)
        ):
            continue
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            rest = _rest(maker, hint)
            continue
        schema = _parameter(maker, key, parameter, hint, doc, name)
        if schema is None:
            continue
        properties[key] = schema
        if not _defaulted(parameter):
            required.append(key)
    result: Schema = {"type": "object", "properties": properties}
    if required:
        result["required"] = required
    if rest is not None:
        result["additionalProperties"] = rest
    function = _function(name, doc.description, _with_defs(result, maker))
    if not isinstance(target, type):
        _add_return(function, annotated.get("return", inspect.Parameter.empty), doc.returns)
    return function


def _parameter(
    maker: type_hints.Generous, key: str, parameter: inspect.Parameter, hint: Any, doc: docstrings.Doc, tool: str
) -> Schema | None:
    """One parameter's schema; None for one that only the program can supply."""
    field = _field_info(parameter.default)
    if hint is inspect.Parameter.empty:
        schema = _documented_type(doc.types.get(key))
    else:
        if field is not None:
            hint = typing.Annotated[hint, field]
        try:
            schema = maker.schema(hint)
        except type_hints.Unsupported as error:
            if _defaulted(parameter):
                return None
            raise _no_json(tool, error, key, hint) from error
    text = doc.params.get(key)
    if text is not None:
        try:
            text, choices = docstrings.split_choices(text)
        except (ValueError, TypeError):
            choices = None
        schema = {**schema, "description": text}
        if choices is not None:
            schema["enum"] = choices
    elif field is not None and getattr(field, "description", None):
        schema = {**schema, "description": field.description}
    return schema


def _rest(maker: type_hints.Generous, hint: Any) -> Any:
    """`additionalProperties` of a function with **kwargs."""
    if hint is inspect.Parameter.empty or hint is Any:
        return True
    try:
        return maker.schema(hint) or True
    except type_hints.Unsupported:
        return True


def _documented_type(text: str | None) -> Schema:
    """A type named in the docstring, for parameters without an annotation, where it is beyond doubt."""
    word = (text or "").split(",", 1)[0].strip()
    return type_hints.plain(_NAMED_TYPES[word]) if word in _NAMED_TYPES else {}


def _field_info(default: Any) -> Any:
    """pydantic's `Field(...)` written as a default value."""
    return default if type(default).__name__ == "FieldInfo" and hasattr(default, "is_required") else None


def _defaulted(parameter: inspect.Parameter) -> bool:
    if parameter.default is inspect.Parameter.empty:
        return False
    field = _field_info(parameter.default)
    return field is None or not field.is_required()


def _receiver(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    """The first parameter if it is an unannotated `self` or `cls`."""
    first = next(iter(parameters), None)
    if first in ("self", "cls") and parameters[first].annotation is inspect.Parameter.empty:
        return first
    return None


def _unwrap(obj: Any) -> tuple[Any, frozenset[str], bool]:
    """What a partial calls in the end, the keywords that it binds, and whether it binds positions."""
    bound: set[str] = set()
    positional = False
    while isinstance(obj, functools.partial):
        bound.update(obj.keywords)
        positional = positional or bool(obj.args)
        obj = obj.func
    return obj, frozenset(bound), positional


def _has_code(obj: Any) -> bool:
    return inspect.isroutine(obj) or hasattr(obj, "__wrapped__")


def _name(obj: Any, target: Any) -> str:
    names = (getattr(obj, "__name__", None), getattr(target, "__name__", None), getattr(obj, "name", None))
    return next((name for name in names if isinstance(name, str) and name), type(target).__name__)


def _function(name: str, description: str, parameters: Schema) -> Schema:
    return {"name": name, "description": description, "parameters": parameters}


def _with_defs(parameters: Schema, maker: type_hints.Generous) -> Schema:
    if maker.defs:
        parameters["$defs"] = maker.defs
    return parameters


def _add_return(function: Schema, hint: Any, text: str | None) -> None:
    """Add "return" as transformers does: only for hints that it can convert."""
    if hint is inspect.Parameter.empty:
        return
    try:
        schema = type_hints.plain(hint)
    except type_hints.Unsupported:
        return
    if text is not None:
        schema["description"] = text
    function["return"] = schema


def _no_json(tool: str, error: type_hints.Unsupported, key: str | None = None, hint: Any = None) -> ToolError:
    culprit = hint if hint is not None else (error.args[0] if error.args else "?")
    where = f"parameter {key!r} has" if key is not None else "it uses"
    shown = getattr(culprit, "__qualname__", None) or str(culprit)
    return ToolError(
        f"tool {tool!r}: {where} the type {shown}, which has no JSON form. Give it a type that a model "
        "can write, or hide it from the model: a default, functools.partial, or Annotated[..., Injected]"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a broken __repr__ must not hide the real problem
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."
