"""The ladder: from a tokenizer, a template or a folder to the format that its model writes.

Every rung gives a format together with what speaks for it, and a rung counts only if the format proves itself on the
template: what the template writes must read back (`templates/judging/proof.py`).

1. exact text: the template is registered;
2. behaviour: the picture of what the template writes is that of a known family, which brings its alternatives;
3. induced: the picture itself is the format;
4. response_template, prompt, vocabulary: where no template writes calls, and unverified;
5. nothing.

A name is no evidence: what is called so is answered, unverified, before anything is climbed.

Rungs 2 and 3 are climbed, and prompts looked at, in `examination.py`, in another process where nobody vouched for the
template (`isolation.py`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import replace
from typing import Any

from toolparse import registry
from toolparse.errors import TemplateError
from toolparse.format import Format
from toolparse.parser import FunctionParser
from toolparse.templates.judging import detection_store
from toolparse.templates.judging import isolation as isolated
from toolparse.templates.judging.detection import Detection, Entry
from toolparse.templates.judging.inputs import Source, read_source
from toolparse.templates.judging.vocabulary import by_names, by_response_template, by_vocabulary


def climb(source: Any, *, use_registry: bool = True, isolation: str | None = None) -> Detection:
    """What `detect` gives for a source."""
    asked = isolated.mode(isolation)
    if isinstance(source, str) and registry.kind_of(source) == "name":
        return _by_name(source)
    found = read_source(source)
    verdicts = []
    for name, text in found.ordered():
        detection = _detect_template(text, found, use_registry, asked)
        if len(found.templates) > 1:
            note = f"template {name!r} of {len(found.templates)}"
            detection = replace(detection, evidence=(note, *detection.evidence))
        if detection.verified:
            return detection
        verdicts.append(detection)
    best = max(verdicts, key=_rank, default=Detection(None))
    return best if _rank(best) == _SHOWN else _without_template(found, best, use_registry)


_SHOWN = 2


def _rank(detection: Detection) -> int:
    """How much a verdict on a template says: nothing, what its prompt tells, or what it writes."""
    return 0 if detection.format is None else 1 if detection.how == "prompt" else _SHOWN


def _by_name(name: str) -> Detection:
    """What a family, a server's parser or a listed model of that name gives. Raises UnknownFormat for others."""
    listed = registry.by_model(name) if registry.named(name) is None else None
    if listed is None:
        return Detection(registry.get(name), "exact text", ("a family's name was given: nothing was looked at",))
    family, model = listed
    return Detection(family, "name", (f"{model!r} is listed under {family.name!r}: no template was looked at",))


def _without_template(found: Source, rest: Detection, use_registry: bool) -> Detection:
    """The last rungs: the tokenizer's own response template, the model's name, the prompt, the vocabulary."""
    evidence = [*found.notes, *rest.evidence]
    imported, why = by_response_template(found.response_template)
    if why:
        evidence.append(why)
    if imported is not None:
        return replace(rest, format=imported, how="response_template", evidence=tuple(evidence), verified=False)
    if use_registry:
        # What a model is called says more than which markers it has: vocabularies are shared and extended.
        family, why = by_names(found.names)
        evidence.append(why)
        if family is None and rest.format is not None:
            return replace(rest, evidence=tuple(evidence))
        if family is None:
            family, why = by_vocabulary(found.vocabulary())
            evidence.append(why)
        if family is not None:
            return replace(rest, format=family, how="vocabulary", evidence=tuple(evidence), verified=False)
    return replace(rest, format=None, how="nothing", evidence=tuple(evidence), verified=False)


# ---------------------------------------------------------------------------------------------------- one template


def _detect_template(text: str, found: Source, use_registry: bool, asked: str) -> Detection:
    """The verdict on a template: remembered, kept on disk, or reached now."""
    hints = f"{sorted(found.tokens.items())} {found.names} {use_registry}"
    stamp = _stamp(use_registry)
    key = detection_store.key_of(text, hints, stamp)
    known = detection_store.recall(key)
    if known is not None:
        return known
    exact = registry.by_template(text) if use_registry else None
    if exact is None:
        stored = detection_store.load(key, text)
        if stored is not None:
            detection_store.remember(key, stored)
            return stored
    try:
        detection = _examine(text, found, exact, use_registry, asked)
    except TemplateError as error:  # a process that died or hung: it may have been the machine's fault
        return Detection(None, evidence=(f"the template cannot be rendered: {error}",), template=text)
    if _stamp(use_registry) != stamp:  # something was registered meanwhile: the verdict is on no registry at all
        return detection
    detection_store.remember(key, detection)
    if exact is None:
        detection_store.store(key, detection)
    return detection


def _examine(text: str, found: Source, exact: Entry | None, use_registry: bool, asked: str) -> Detection:
    """Climb the rungs that need the template: in a process of its own, unless somebody vouched for it."""
    if isinstance(exact, FunctionParser):
        return Detection(exact, "exact text", (f"the template is registered for {exact.name!r}",), template=text)
    trusted = exact is not None or asked == "off" or isolated.vouched(registry.template_hash(text))
    if not trusted and (asked == "required" or isolated.possible()):
        try:
            added = registry.added() if use_registry else ()
            formats = tuple(entry for entry in added if isinstance(entry, Format))
            hidden = tuple(entry.name for entry in added if not isinstance(entry, Format))
            return isolated.examine(isolated.Task(text, found.tokens, found.names, use_registry, formats, hidden))
        except OSError:
            if asked == "required":
                raise
    from toolparse.templates.judging.examination import examine

    return examine(text, found, exact, registry.formats() if use_registry else ())


# ------------------------------------------------------------------------------------------------------- the registry


_stamps: dict[tuple[int, ...], tuple[tuple[Entry, ...], str]] = {}


def _stamp(use_registry: bool) -> str:
    """A hash of the library's code, its families included, and of what was registered beside them.

    None of the library's families is loaded for it: a template whose verdict is kept needs none of them.
    """
    added = registry.added() if use_registry else ()
    key = tuple(id(entry) for entry in added)
    known = _stamps.get(key)
    if known is None:
        made = hashlib.sha256(detection_store.code_stamp().encode())
        for entry in added:
            shown = repr(dataclasses.astuple(entry)) if isinstance(entry, Format) else f"a function {entry.name}"
            made.update(shown.encode("utf-8", "surrogatepass"))
        if len(_stamps) > 16:
            _stamps.clear()
        known = _stamps[key] = (added, made.hexdigest())  # the entries are kept so that ids stay theirs
    return known[1]
