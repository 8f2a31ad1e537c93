"""Names and chat templates -> formats. Families register themselves from data; users add their own."""

from __future__ import annotations

from _thread import RLock  # what threading.RLock is, without loading the rest of threading
from collections.abc import Iterable, Mapping
from types import MappingProxyType

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
    return name.strip().lower().replace("_", "-").replace(".", "")


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


def families() -> Mapping[str, Entry]:
    """Every registered format by its canonical name, as of now."""
    _load()
    with _lock:
        return MappingProxyType(dict(_entries))


def formats() -> list[Format]:
    """The registered formats (without function parsers), in the order of their registration."""
    return [entry for entry in families().values() if isinstance(entry, Format)]


def added() -> tuple[Entry, ...]:
    """What was registered beside the library's own families, in order; loads none of those."""
    with _lock:
        return tuple(entry for name, entry in _added.items() if _entries.get(name) is entry)


def get(name: str | Entry) -> Entry:
    """The format of a name or alias; `_` and `-` are the same. Raises UnknownFormat, naming the nearest names."""
    if isinstance(name, Format | FunctionParser):
        return name
    _load()
    with _lock:
        canonical = _names.get(normal(name))
        if canonical is not None:
            return _entries[canonical]
        names = dict(_names)
    from difflib import get_close_matches

    near = get_close_matches(normal(name), names, n=3)
    hint = f"; did you mean {', '.join(map(repr, dict.fromkeys(names[n] for n in near)))}?" if near else "."
    raise UnknownFormat(
        f"no format is called {name!r}{hint} toolparse.families() lists them; toolparse.register(Format(...)) adds one"
    )


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
