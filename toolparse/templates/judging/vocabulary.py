"""Weak evidence, for where no template writes calls: added tokens, names, a response template."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from toolparse import registry
from toolparse.errors import ToolparseError
from toolparse.format import CALL_HOLES, Format
from toolparse.picture import Text, Wrapper

_MARKER = re.compile(r"<[^<>\s{}][^<>{}\n]*>|\[/?[A-Z][A-Z_ ]+\]")


def by_vocabulary(added: frozenset[str]) -> tuple[Format | None, str]:
    """The most specific family whose outermost markers are all added tokens, and why."""
    if not added:
        return None, "no added tokens to look at"
    ranked: list[tuple[int, int, int, Format, tuple[str, ...]]] = []
    for order, family in enumerate(registry.formats()):
        outer, inner = markers_of(family)
        if outer and all(marker in added for marker in outer):
            found = sum(marker in added for marker in inner)
            ranked.append((len(inner) - found, -len(outer) - found, order, family, outer))
    if not ranked:
        return None, "no family's markers are among the added tokens"
    _, _, _, family, outer = min(ranked, key=lambda entry: entry[:3])
    return family, f"added tokens {', '.join(outer)} are those of {family.name!r}; no template proves it"


def markers_of(family: Format) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The markers that enclose all of a family's calls, and the others of its pictures."""
    section = tuple(_MARKER.findall(family.section.replace("{{calls}}", "\n")))
    call = [marker for literal in _literals(family) for marker in _MARKER.findall(literal)]
    if section:
        return section, tuple(call)
    if not call:
        return (), ()
    outer = tuple(dict.fromkeys((call[0], call[-1])))
    return outer, tuple(marker for marker in call if marker not in outer)


def _literals(family: Format) -> Iterable[str]:
    if not family.call:
        return
    picture = family.picture("call", family.call, CALL_HOLES, frozenset())
    for part in picture.parts:
        if isinstance(part, Text):
            yield part.text
        elif isinstance(part, Wrapper):
            yield ""


def by_names(names: Iterable[str]) -> tuple[Format | None, str]:
    """A family that is called like the model's type, and why."""
    tried = []
    for name in names:
        for spelling in (name, re.sub(r"(ForCausalLM|ForConditionalGeneration)$", "", name)):
            tried.append(spelling)
            try:
                entry = registry.get(spelling)
            except ToolparseError:
                continue
            if isinstance(entry, Format):
                return entry, f"the model's type {name!r} is the name of {entry.name!r}; no template proves it"
    return None, f"no family is called {', '.join(map(repr, tried))}" if tried else "no model type or name to look at"


def by_response_template(template: Any) -> tuple[Format | None, str]:
    """The format of a transformers `response_template`, and what it was or why it can't be one; '' without any."""
    if template is None:
        return None, ""
    if not isinstance(template, Mapping):
        return None, f"the tokenizer's response_template is no mapping but a {type(template).__name__}"
    from toolparse.export.response_template import from_response_template

    try:
        found, reason = from_response_template(template, name="response-template")
    except (ToolparseError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # It is a stranger's data, and whatever is wrong with it is no reason to stop looking.
        return None, f"the tokenizer's response_template cannot be read: {type(error).__name__}: {error}"
    if found is None:
        return None, f"the tokenizer's response_template cannot be imported: {reason}"
    return found, "imported from the tokenizer's own response_template; no template proves it"
