"""Names and chat templates -> formats. Families register themselves from data; users add their own."""

from __future__ import annotations

import os
import re
from _thread import RLock  # what threading.RLock is, without loading the rest of threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from toolparse.errors import UnknownFormat
from toolparse.families import all_formats
from toolparse.format import Format
from toolparse.parser import FunctionParser

Entry = Format | FunctionParser

_lock = RLock()
_entries: dict[str, Entry] = {}
_names: dict[str, str] = {}  # every spelling -> canonical name
_templates: dict[str, str] = {}  # sha256 of a template's text -> canonical name
_added: dict[str, Entry] = {}  # what is registered beside the library's own families
_loaded = False


def normal(name: str) -> str:
    """The spelling under which a name is looked up."""
    return name.strip().lower().replace("_", "-").replace(" ", "-").replace(".", "")


_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?")
_FILES = (".jinja", ".json", ".gguf", ".txt")


def kind_of(source: str) -> Literal["text", "path", "hub", "name"]:
    """What a string is meant to be: a template's text, a file or folder, a model on the hub, or a name.

    What exists is a path, whatever it looks like.
    """
    if "{" in source or "\n" in source:
        return "text"
    if os.path.exists(source):
        return "path"
    if _HUB_ID.fullmatch(source) and not source.endswith(_FILES):
        return "hub"
    return "path" if "/" in source or os.sep in source or source.endswith(_FILES) or source == "." else "name"


def hub_address(source: str) -> tuple[str, str | None]:
    """The repository and the revision (None: the default one) of a model on the hub; any other source as it is."""
    found = _HUB_ID.fullmatch(source) if kind_of(source) == "hub" else None
    return (found[1], found[2]) if found else (source, None)


def register(entry: Entry, *, templates: Iterable[str] = (), overwrite: bool = False) -> Entry:
    """Add a format (or a FunctionParser) to the registry, so that `get`, `parser_for` and `detect` know it.

    `templates`: texts of chat templates that use it: they are then recognised at once. Raises ValueError when the
    name or an alias is taken, unless `overwrite` is given.
    """
    _load()
    with _lock:
        _register(entry, templates, overwrite)
        _added[entry.name] = entry
    return entry


def _register(entry: Entry, templates: Iterable[str] = (), overwrite: bool = False) -> Entry:
    if not isinstance(entry, Format | FunctionParser):
        raise TypeError(
            f"register() takes a Format or a FunctionParser, not {type(entry).__name__}; "
            "wrap a function as FunctionParser(fn, name=...)"
        )
    if isinstance(templates, str):
        templates = (templates,)
    with _lock:
        name = entry.name
        spellings = {normal(name), *(normal(alias) for alias in entry.aliases)}
        taken = {spelling for spelling in spellings if _names.get(spelling, name) != name}
        if normal(name) in _names and not overwrite:
            taken.add(normal(name))
        if taken and not overwrite:
            raise ValueError(
                f"the name {sorted(taken)[0]!r} is already registered; choose another or pass overwrite=True"
            )
        _entries[name] = entry
        for spelling in spellings:
            _names[spelling] = name
        for text in templates:
            _templates[template_hash(text)] = name
    return entry


def template_hash(text: str) -> str:
    """The exact fingerprint of a chat template."""
    import hashlib

    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Families(Mapping[str, Entry]):
    """The registered formats by their canonical names; prints as a table."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        width = max(map(len, self._entries), default=0)
        rows = (f"{name:{width}}  {getattr(entry, 'models', '')}" for name, entry in self._entries.items())
        return "\n".join(row.rstrip() if len(row) <= 100 else row[:99] + "…" for row in rows)


def families() -> Families:
    """Every registered format by its canonical name, as of now."""
    _load()
    with _lock:
        return Families(_entries)


def formats() -> list[Format]:
    """The registered formats (without function parsers), in the order of their registration."""
    return [entry for entry in families().values() if isinstance(entry, Format)]


def added() -> tuple[Entry, ...]:
    """What was registered beside the library's own families, in order; loads none of those."""
    with _lock:
        return tuple(entry for name, entry in _added.items() if _entries.get(name) is entry)


def get(name: str | Entry) -> Entry:
    """The format of a name or alias; case does not count, `_`, `-` and blanks are the same.

    Raises UnknownFormat, naming the nearest names.
    """
    if isinstance(name, Format | FunctionParser):
        return name
    if not isinstance(name, str):
        raise TypeError(f"the name of a family belongs here, not {type(name).__name__}")
    entry = named(name)
    if entry is not None:
        return entry
    raise UnknownFormat(
        f"no format is called {name!r}{meant(name)}",
        " toolparse.families() lists them; toolparse.register(Format(...)) adds one",
    )


def named(name: str) -> Entry | None:
    """The format of a name or alias; None where nothing is called so."""
    _load()
    with _lock:
        canonical = _names.get(normal(name))
        return _entries[canonical] if canonical is not None else None


def meant(name: str) -> str:
    """`; did you mean ...?` with the names of families and of their models that `name` begins with or is nearly
    spelled like, one for each family; a full stop where there is none.
    """
    from difflib import SequenceMatcher, get_close_matches

    _load()
    with _lock:
        names = dict(_names)
    spelled = {known: known for known in names}
    for model, family in _models():
        names.setdefault(normal(model), family.name)
        spelled[normal(model)] = model
    asked = normal(name)
    # Without a version a beginning says little: Gemma 4 is called "gemma" too.
    versions = [known for known in names if asked.startswith(f"{known}-") and re.search(r"\d", known)]
    near = [max(versions, key=len)] if versions else get_close_matches(asked, names, n=5, cutoff=0.7)
    alike = {known: SequenceMatcher(None, known, asked).ratio() for known in near}
    found: dict[str, str] = {}
    for known in near:
        family_name = names[known]
        if alike[known] >= alike[near[0]] - 0.1:
            shown = repr(family_name) if known == normal(family_name) else f"{spelled[known]!r} ({family_name})"
            found.setdefault(family_name, shown)
    return f"; did you mean {' or '.join(list(found.values())[:3])}?" if found else "."


def _models() -> Iterator[tuple[str, Format]]:
    """The models that the families name, each with its family. Remarks are no names: what has blanks or brackets."""
    for family in formats():
        for entry in re.sub(r"\([^()]*\)", "", family.models).split(","):
            model = entry.strip()
            if model and " " not in model:
                yield model, family


# What may follow a model's name and leaves its format alone: sizes, dates, precisions, "instruct".
_NEUTRAL = re.compile(
    r"(-(\d+(x\d+)?[bm]|[ae]\d+[bm]|\d{4}|instruct|thinking|chat|it|base|preview|hf|gguf|gptq|awq|mlx|bnb|"
    r"bf16|fp8|nvfp4|mxfp4|int[48]|[48]bit))*"
)


def by_model(name: str) -> tuple[Format, str] | None:
    """The family that lists a model, and the model's name there: the longest that `name` is, but for its size.

    Nothing proves that; whoever asks has to say so.
    """
    asked = normal(name)
    fits = [
        (len(model), family, model)
        for model, family in _models()
        if asked.startswith(normal(model)) and _NEUTRAL.fullmatch(asked[len(normal(model)) :])
    ]
    _, found, model = max(fits, key=lambda fit: fit[0], default=(0, None, ""))
    return None if found is None else (found, model)


def by_template(text: str) -> Entry | None:
    """The format registered for exactly this template."""
    if not _templates:
        return None  # the library's own families are known by their behaviour
    key = template_hash(text)
    with _lock:
        name = _templates.get(key)
        return _entries[name] if name is not None else None


def _load() -> None:
    global _loaded
    if _loaded:
        return
    with _lock:
        if not _loaded:
            for format in all_formats():
                _register(format)
            _loaded = True  # last: whoever comes meanwhile waits for the lock instead of finding half a registry
