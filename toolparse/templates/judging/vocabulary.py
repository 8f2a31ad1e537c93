"""Weak evidence, for where no template writes calls: what the prompt tells, added tokens, names, response templates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from toolparse import registry
from toolparse.errors import ToolparseError
from toolparse.format import CALL_HOLES, Format
from toolparse.picture import Text
from toolparse.templates.judging.likeness import words_of, written_by

#: What the templates of a family hold of their own, so that a model is called the same by its template, its tokenizer
#: and its folder. Only asked where pictures are the same and neither frames nor the model's name decide, or where
#: there are none.
SIGNS: dict[str, tuple[str, ...]] = {
    "qwen": ("# Tools\n\nYou may call one or more functions to assist with the user query.", "You are Qwen"),
    "exaone4": ("[|assistant|]",),
    "granite4": ("<|start_of_role|>",),
    "ling2": ("<role>ASSISTANT</role>",),
    "trinity": ("Arcee",),
    "lfm2": ("List of tools: ",),
}

_MARKER = re.compile(r"<[^<>\s{}][^<>{}\n]*>|\[/?[A-Z][A-Z_ ]+\]")
_RESERVED = re.compile(r"reserved|unused|special_token|extra_\d", re.IGNORECASE)


def by_prompt(families: Sequence[Format], prompt: str, plain: str) -> tuple[Format | None, str]:
    """The family of which a prompt with tools tells more than the one without, and why.

    First an example of a call, then what only the family's templates say of tools, then its outermost markers.
    """

    def signs(family: Format) -> list[str]:
        return [sign for sign in SIGNS.get(family.name, ()) if sign in prompt and sign not in plain]

    def ends(family: Format) -> bool:
        return any(end in prompt for end in family.ends)

    before = written_by(families, plain)
    shown = [family for family in written_by(families, prompt) if family not in before]
    if shown:
        alike = [family for family in families if words_of(family) == words_of(shown[0])]
        best = max(alike, key=lambda family: 2 * bool(signs(family)) + ends(family))
        return best, f"the prompt shows calls as {best.name!r} writes them"
    for family in families:
        if signs(family) and ends(family):
            return family, f"the prompt says {signs(family)[0]!r} as those of {family.name!r} do"
    found, why = by_vocabulary(frozenset(_MARKER.findall(prompt)) - frozenset(_MARKER.findall(plain)), families)
    return found, why.replace("added tokens", "in the prompt")


def by_vocabulary(added: frozenset[str], families: Sequence[Format] | None = None) -> tuple[Format | None, str]:
    """The most specific family whose outermost markers are all added tokens, and why.

    A root family comes before its variants, unless every marker that a variant has beside is an added token too.
    Tokens that are reserved for nothing in particular are evidence of nothing.
    """
    if not added:
        return None, "no added tokens to look at"
    ranked: list[tuple[int, int, int, Format, tuple[str, ...]]] = []
    for order, family in enumerate(registry.formats() if families is None else families):
        outer, inner = markers_of(family)
        if outer and all(marker in added and not _RESERVED.search(marker) for marker in outer):
            found = sum(marker in added for marker in inner)
            ranked.append((len(inner) - found, -len(outer) - found, order, family, outer))
    if not ranked:
        return None, "no family's markers are among the added tokens"
    fitting = {entry[3].name: entry for entry in ranked}
    best = min(ranked, key=lambda entry: entry[:3])
    while best[3].variant_of in fitting and not _own_markers(best[3], fitting[best[3].variant_of][3], added):
        best = fitting[best[3].variant_of]
    family, outer = best[3], best[4]
    return family, f"added tokens {', '.join(outer)} are those of {family.name!r}; no template proves it"


def _own_markers(variant: Format, root: Format, added: frozenset[str]) -> bool:
    """Whether a variant has markers that its root has not, and all of them are added tokens."""
    own, others = (set(_MARKER.findall("\n".join(family.sources()))) for family in (variant, root))
    calls = (own - others) & set(_MARKER.findall("\n".join((variant.call, variant.section, variant.param or ""))))
    return bool(calls) and calls <= added


def markers_of(family: Format) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The markers that enclose all of a family's calls, and the others of its pictures."""
    section = tuple(_MARKER.findall(family.block.write("\n")))
    parts = family.picture("call", family.call, CALL_HOLES, frozenset()).parts if family.call else ()
    call = [marker for part in parts if isinstance(part, Text) for marker in _MARKER.findall(part.text)]
    if section:
        return section, tuple(call)
    if not call:
        return (), ()
    outer = tuple(dict.fromkeys((call[0], call[-1])))
    return outer, tuple(marker for marker in call if marker not in outer)


def by_names(names: Iterable[str]) -> tuple[Format | None, str]:
    """A family that is called like the model's type, or that lists its name, and why."""
    tried: dict[str, None] = {}
    for name in names:
        for spelling in (name, re.sub(r"(ForCausalLM|ForConditionalGeneration)$", "", name)):
            tried[spelling] = None
            entry = registry.named(spelling)
            if isinstance(entry, Format):
                return entry, f"the model's type {name!r} is the name of {entry.name!r}; no template proves it"
    for name in names:
        listed = registry.by_model(name)
        if listed is not None:
            family, model = listed
            return family, f"{model!r} is listed under {family.name!r}; no template proves it"
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
