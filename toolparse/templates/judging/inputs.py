"""Reading what a user hands in: tokenizer, processor, template text, named templates, model folder or file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolparse.tokens import tokenizer_of

#: Names under which a set of templates holds the one for tools, best first.
PREFERRED = ("tool_use", "default")


@dataclass
class Source:
    """What a source offers as evidence; `notes` say where it was found or missed."""

    templates: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    response_template: Any = None
    notes: list[str] = field(default_factory=list)
    _tokenizer: Any = None
    _added: frozenset[str] | None = None

    def ordered(self) -> list[tuple[str, str]]:
        """The templates, the one for tools first."""
        rank = {name: index for index, name in enumerate(PREFERRED)}
        return sorted(self.templates.items(), key=lambda item: rank.get(item[0], len(rank)))

    def vocabulary(self) -> frozenset[str]:
        """The tokens that were added to the vocabulary."""
        if self._added is None:
            self._added = _added_tokens(self._tokenizer) if self._tokenizer is not None else frozenset()
        return self._added


def read_source(source: Any) -> Source:
    """The evidence in a source. Never raises for a source without any."""
    if isinstance(source, str) and _is_template(source):
        return Source({"default": source}, notes=["a template's text was given"])
    if isinstance(source, (str, os.PathLike)):
        return _from_path(Path(source))
    if isinstance(source, Mapping):
        named = _named(source)
        return Source(named, notes=[f"named templates were given: {', '.join(sorted(named)) or 'none'}"])
    return _from_tokenizer(source)


def _is_template(text: str) -> bool:
    if "{" in text or "\n" in text:
        return True
    try:
        return not os.path.exists(text) and os.sep not in text
    except ValueError:
        return True


def _named(value: Any) -> dict[str, str]:
    """Named templates in any of the forms in which they are kept: a text, a mapping, a list of pairs."""
    if isinstance(value, str):
        return {"default": value}
    if isinstance(value, Mapping):
        return {str(name): text for name, text in value.items() if isinstance(text, str)}
    if isinstance(value, Iterable):
        pairs = [item for item in value if isinstance(item, Mapping)]
        return {
            str(item["name"]): item["template"]
            for item in pairs
            if "name" in item and isinstance(item.get("template"), str)
        }
    return {}


def _from_tokenizer(source: Any) -> Source:
    """A tokenizer, or a processor that holds one."""
    tokenizer = tokenizer_of(source)
    found = Source(notes=[f"looked at {type(source).__name__}"], _tokenizer=tokenizer)
    for holder in (source, tokenizer):
        template = getattr(holder, "chat_template", None)
        if template and not found.templates:
            found.templates = _named(template)
    if not found.templates:
        found.notes.append("it has no chat template")
    for name in ("bos_token", "eos_token"):
        token = _text(getattr(tokenizer, name, None))
        if token:
            found.tokens[name] = token
    settings = getattr(tokenizer, "init_kwargs", None)
    settings = settings if isinstance(settings, Mapping) else {}
    found.response_template = getattr(tokenizer, "response_template", None) or settings.get("response_template")
    path = getattr(tokenizer, "name_or_path", "")
    if isinstance(path, str) and path:
        found.names = (path.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1],)
    return found


def _text(token: Any) -> str:
    """A special token's text: it may be a string, a dict of a config file, or an AddedToken."""
    if isinstance(token, Mapping):
        token = token.get("content")
    token = getattr(token, "content", token)
    return token if isinstance(token, str) else ""


def _added_tokens(tokenizer: Any) -> frozenset[str]:
    """Added tokens by whatever the tokenizer offers; the whole vocabulary if it offers nothing else."""
    decoder = getattr(tokenizer, "added_tokens_decoder", None)
    if isinstance(decoder, Mapping) and decoder:
        return frozenset(_text(token) for token in decoder.values())
    for method in ("get_added_vocab", "get_vocab"):
        function = getattr(tokenizer, method, None)
        if not callable(function):
            continue
        try:
            vocabulary = function()
        except (NotImplementedError, TypeError, ValueError, AttributeError):
            continue
        if vocabulary:
            return frozenset(str(token) for token in vocabulary)
    return frozenset()


# ------------------------------------------------------------------------------------------------- files and folders


def _from_path(path: Path) -> Source:
    if not path.exists():
        return Source(notes=[f"there is no file or folder {str(path)!r}"])
    if path.is_file():
        return _from_file(path)
    found = Source(notes=[f"looked at folder {path.name!r}"])
    _read_templates(path, found)
    config = _json(path / "tokenizer_config.json")
    if config:
        _read_tokenizer_config(config, found)
    model = _json(path / "config.json")
    kinds = [model.get("model_type"), *(model.get("architectures") or [])]
    found.names = tuple(dict.fromkeys(str(kind) for kind in (*kinds, path.resolve().name) if kind))
    added = _json(path / "tokenizer.json").get("added_tokens") or []
    extra = {_text(token) for token in added if isinstance(token, Mapping)}
    found._added = frozenset({*(found._added or ()), *extra} - {""})
    if not found.templates:
        found.notes.append("the folder holds no chat template")
    return found


def _from_file(path: Path) -> Source:
    if path.suffix != ".json":
        text = _read(path)
        return Source({"default": text} if text else {}, notes=[f"read {path.name!r}"])
    found = Source(notes=[f"read {path.name!r}"])
    _read_tokenizer_config(_json(path), found)
    return found


def _read_templates(folder: Path, found: Source) -> None:
    named = _named(_json(folder / "chat_template.json").get("chat_template"))
    found.templates.update(named)
    text = _read(folder / "chat_template.jinja")
    if text:
        found.templates["default"] = text
    for extra in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        found.templates[extra.stem] = _read(extra)


def _read_tokenizer_config(config: Mapping[str, Any], found: Source) -> None:
    for name, text in _named(config.get("chat_template")).items():
        found.templates.setdefault(name, text)
    for name in ("bos_token", "eos_token"):
        token = _text(config.get(name))
        if token:
            found.tokens.setdefault(name, token)
    decoder = config.get("added_tokens_decoder")
    if isinstance(decoder, Mapping):
        found._added = frozenset(_text(token) for token in decoder.values())
    found.response_template = found.response_template or config.get("response_template")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read(path) or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
