"""Reading what a user hands in: tokenizer, processor, template text, named templates, model folder, file or hub id."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolparse.errors import SourceError
from toolparse.registry import hub_address, kind_of
from toolparse.tokens import tokenizer_of

#: Names under which a set of templates holds the one for tools, best first.
PREFERRED = ("tool_use", "default")

#: The JSON files of a model folder, the one that is believed first before the others.
_CONFIGS = ("chat_template.json", "tokenizer_config.json", "tokenizer.json", "config.json")

# No template and no tokenizer.json comes near it.
_MOST_BYTES = 256_000_000


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
    """The evidence in a source; a tokenizer may have none.

    Raises SourceError for a file, a folder or a model on the hub that can't be read or holds nothing of the kind.
    """
    if isinstance(source, str):
        kind = kind_of(source)
        if kind == "text":
            return Source({"default": source}, notes=["a template's text was given"])
        if kind == "hub":
            return _from_hub(source)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        try:
            return _from_path(path)
        except OSError as error:
            raise SourceError(f"{path} can't be read: {error.strerror or error}") from error
    if isinstance(source, Mapping):
        named = _named(source)
        given = f"named templates were given: {', '.join(sorted(named)) or 'none'}"
        return Source(named, notes=["a template's text was given" if [*named] == ["default"] else given])
    return _from_tokenizer(source)


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
    found.tokens = _special(lambda name: getattr(tokenizer, name, None))
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


def _special(get: Callable[[str], Any]) -> dict[str, str]:
    """The special tokens that templates write by their names."""
    return {name: text for name in ("bos_token", "eos_token") if (text := _text(get(name)))}


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


def _from_hub(model: str) -> Source:
    from toolparse.templates.judging.hub import folder_of

    found = _from_folder(folder_of(model), f"looked at {model!r} on the hub")
    # Types of models are shared by those that call tools and those that don't: the id says more.
    found.names = (hub_address(model)[0].rpartition("/")[2],)
    return found


def _from_path(path: Path) -> Source:
    if path.is_dir():
        found = _from_folder(path, f"looked at folder {path.name!r}")
        if not (found.templates or any((path / name).is_file() for name in _CONFIGS)):
            raise SourceError(f"the folder {str(path)!r} holds no chat template, no tokenizer and no config.json")
        found.names = tuple(dict.fromkeys((*found.names, path.resolve().name)))
        return found
    if not path.is_file():
        if path.exists():
            raise SourceError(f"{path} is neither a file nor a folder, but a pipe or a device")
        raise SourceError(f"there is no file or folder {path}{_instead(str(path))}")
    if path.suffix == ".gguf":
        return _from_gguf(path)
    found = Source(notes=[f"read {path.name!r}"])
    if path.suffix != ".json":
        text = text_of(path)
        if not text.strip():
            raise SourceError(f"{path} is empty: no chat template")
        found.templates["default"] = text
        return found
    _read_config(path, found)
    if not found.templates:
        beside = _from_folder(path.parent, f"looked at {path.name!r} and what is beside it")
        if not (beside.templates or found._added or found.response_template):
            raise SourceError(f"{path} holds no chat_template, and there is no chat_template.jinja beside it")
        return beside if beside.templates else found
    return found


def _instead(path: str) -> str:
    """Where else a path that does not exist may have been meant to lead."""
    hub = re.fullmatch(r"https?:/+[^/]+/([\w.-]+/[\w.-]+)(/.*)?", path)
    return f"; a model on the hub is given by its id, {hub[1]!r}" if hub else ""


def _from_folder(path: Path, note: str) -> Source:
    found = Source(notes=[note])
    for name in _CONFIGS:
        if (path / name).is_file():
            try:
                _read_config(path / name, found)
            except SourceError as error:
                found.notes.append(f"passed over: {error}")
    extra = sorted((path / "additional_chat_templates").glob("*.jinja"))
    for file in [path / "chat_template.jinja", *extra]:
        if file.is_file():
            found.templates["default" if file.parent == path else file.stem] = text_of(file)
    if not found.templates:
        found.notes.append("the folder holds no chat template")
    return found


def _read_config(path: Path, found: Source) -> None:
    """What a JSON file of a model folder says; what others said before it stands."""
    try:
        config = json.loads(text_of(path))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise SourceError(f"{path} is not JSON: {reason}") from error
    if not isinstance(config, Mapping):
        raise SourceError(f"{path} holds no chat_template: it is JSON, but no object")
    template = config.get("chat_template")
    named = _named(template)
    if template is not None and not named:
        raise SourceError(f"{path}: chat_template must be a text, or texts with their names")
    for name, text in named.items():
        found.templates.setdefault(name, text)
    found.tokens = {**_special(config.get), **found.tokens}
    decoder = config.get("added_tokens_decoder")
    added = [*(decoder.values() if isinstance(decoder, Mapping) else ()), *(config.get("added_tokens") or ())]
    texts = {_text(token) for token in added if isinstance(token, Mapping)} - {""}
    if texts:
        found._added = frozenset({*(found._added or ()), *texts})
    found.response_template = found.response_template or config.get("response_template")
    kinds = [config.get("model_type"), *(config.get("architectures") or [])] if path.name == "config.json" else []
    found.names = (*found.names, *(str(kind) for kind in kinds if kind))


def _from_gguf(path: Path) -> Source:
    """The metadata of a GGUF file: templates, special tokens, names."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise SourceError(
            f"{path.name}: GGUF files are read by the gguf package: pip install 'toolparse[gguf]'"
        ) from error

    class Metadata(GGUFReader):  # type: ignore[misc]
        """The header alone: a file that is cut off raises where it ends, weights are not looked at."""

        def _get(self, offset: int, dtype: Any, count: int = 1, *order: Any, **options: Any) -> Any:
            found = super()._get(offset, dtype, count, *order, **options)
            if len(found) != count:
                raise ValueError("it ends within its header")
            return found

        def _build_tensors(self, *_: Any) -> None:
            pass

    try:
        data = {name: field.contents() for name, field in Metadata(path).fields.items()}
    except (ValueError, LookupError, TypeError, OverflowError, MemoryError, RuntimeError) as error:
        raise SourceError(f"{path} is not a whole GGUF file; fetch it again") from error
    head = "tokenizer.chat_template"
    found = Source(notes=[f"read the metadata of {path.name!r}"])
    for key, text in data.items():
        if isinstance(text, str) and (key == head or key.startswith(f"{head}.")):
            found.templates[key[len(head) + 1 :] or "default"] = text
    tokens = data.get("tokenizer.ggml.tokens") or []
    kinds = data.get("tokenizer.ggml.token_type") or []
    control, user_defined = 3, 4
    found._added = frozenset(text for text, kind in zip(tokens, kinds, strict=False) if kind in (control, user_defined))
    for name in ("bos", "eos"):
        id = data.get(f"tokenizer.ggml.{name}_token_id")
        if isinstance(id, int) and id < len(tokens):
            found.tokens[f"{name}_token"] = tokens[id]
    found.names = tuple(str(data[key]) for key in ("general.basename", "general.name") if data.get(key))
    if not found.templates:
        found.notes.append("it holds no chat template")
    return found


def text_of(path: Path) -> str:
    """The text of a file. Raises SourceError where it is none."""
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise SourceError(f"{path} is {size // 1_000_000} MB long: no template or tokenizer file is")
    return decoded(path.read_bytes(), str(path))


def decoded(data: bytes, name: str) -> str:
    """UTF-8 text, whatever byte order mark it begins with. Raises SourceError, saying where it is none."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    if "\0" in text:
        raise SourceError(f"{name} is binary, not text")
    return text
