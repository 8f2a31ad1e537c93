"""The ladder: from a tokenizer, a template or a folder to the format that its model writes.

Every rung gives a format together with what speaks for it, and a rung counts only if the format proves itself on the
template: what the template writes must read back (`templates/judging/proof.py`).

1. exact text: the template is registered;
2. behaviour: the picture of what the template writes is that of a known family, which brings its alternatives;
3. induced: the picture itself is the format;
4. response_template, vocabulary: where no template writes calls, and unverified;
5. nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from toolparse import registry
from toolparse.errors import RenderError, TemplateError, UnknownFormat
from toolparse.format import Format
from toolparse.parser import FunctionParser
from toolparse.program import bind_to
from toolparse.render import render
from toolparse.templates.induction.induce import Induction, induce
from toolparse.templates.induction.message_style import MessageStyle
from toolparse.templates.induction.probe import NOTHING, ONE, TWO, Prober, Turn, find_style
from toolparse.templates.judging import detection_store
from toolparse.templates.judging.detection import Detection, Entry, Proof
from toolparse.templates.judging.fingerprint import behaviour, same_picture
from toolparse.templates.judging.inputs import Source, read_source
from toolparse.templates.judging.problems import find_problems
from toolparse.templates.judging.proof import Prover, prove
from toolparse.templates.judging.vocabulary import by_names, by_response_template, by_vocabulary
from toolparse.templates.rendering.environment import compile_template, facts_of

_MARKER = re.compile("<[^<>{}]*>")


def climb(source: Any, *, use_registry: bool = True) -> Detection:
    """What `detect` gives for a source."""
    found = read_source(source)
    if not found.templates and isinstance(source, str) and use_registry:
        named = _by_name(source)
        if named is not None:
            return named
    evidence = list(found.notes)
    best: Detection | None = None
    for name, text in found.ordered():
        detection = _detect_template(text, found, use_registry)
        if len(found.templates) > 1:
            note = f"template {name!r} of {len(found.templates)}"
            detection = replace(detection, evidence=(note, *detection.evidence))
        if detection.verified:
            return detection
        if best is None or (detection.format is not None and best.format is None):
            best = detection
    if best is not None and best.format is not None:
        return best
    if best is not None:
        evidence.extend(best.evidence)
    return _without_template(found, best, evidence, use_registry)


def _by_name(name: str) -> Detection | None:
    try:
        return Detection(registry.get(name), "exact text", (f"{name!r} is the name of a known format",))
    except UnknownFormat:
        return None


def _without_template(found: Source, best: Detection | None, evidence: list[str], use_registry: bool) -> Detection:
    """The last rungs: the tokenizer's own response template, its vocabulary, the model's name."""
    rest = best if best is not None else Detection(None)
    imported, why = by_response_template(found.response_template)
    if why:
        evidence.append(why)
    if imported is not None:
        return replace(rest, format=imported, how="response_template", evidence=tuple(evidence), verified=False)
    if use_registry:
        for family, why in (by_vocabulary(found.vocabulary()), by_names(found.names)):
            evidence.append(why)
            if family is not None:
                return replace(rest, format=family, how="vocabulary", evidence=tuple(evidence), verified=False)
    return replace(rest, format=None, how="nothing", evidence=tuple(evidence), verified=False)


# ---------------------------------------------------------------------------------------------------- one template


def _detect_template(text: str, found: Source, use_registry: bool) -> Detection:
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
    detection = _examine(text, found, exact, use_registry)
    if _stamp(use_registry) != stamp:
        return (
            detection  # something was registered meanwhile: the verdict is neither on the old nor on the new registry
        )
    detection_store.remember(key, detection)
    if exact is None:
        detection_store.store(key, detection)
    return detection


def _examine(text: str, found: Source, exact: Entry | None, use_registry: bool) -> Detection:
    """Climb the rungs that need the template."""
    if isinstance(exact, FunctionParser):
        return Detection(exact, "exact text", (f"the template is registered for {exact.name!r}",), template=text)
    try:
        if exact is None and not facts_of(text).mentions_calls:
            return Detection(None, evidence=("the template never looks at tool calls",), template=text)
        prober, score = find_style(Prober(compile_template(text), MessageStyle(), found.tokens))
        if score == NOTHING and exact is None:
            why = f": {prober.error}" if prober.error else ""
            return Detection(None, evidence=(f"the template writes no tool calls{why}",), template=text)
        prober = prober.settled()
        ordered = _hinted(registry.formats() if use_registry else (), found.names)
        induction = induce(prober)
        detection = _choose(prober, induction, ordered, exact, text)
        if detection.verified:
            return detection
        other = induce(prober, opening_first=True)  # the picture may be cut in another place
        again = _choose(prober, other, ordered, exact, text) if other.format != induction.format else detection
        return again if again.verified or detection.format is None else detection
    except TemplateError as error:
        return Detection(None, evidence=(f"the template cannot be rendered: {error}",), template=text)


def _hinted(families: Sequence[Format], names: Sequence[str]) -> list[Format]:
    """The families, those first that are called like the model: where pictures are the same, the name decides."""
    spelled = [registry.normal(name) for name in names]

    def called(family: Format) -> bool:
        own = [registry.normal(name) for name in (family.name, *family.aliases)]
        return any(name.startswith(alias) for name in spelled for alias in own)

    return sorted(families, key=lambda family: not called(family)) if spelled else list(families)


def _choose(
    prober: Prober, induction: Induction, families: Sequence[Format], exact: Entry | None, text: str
) -> Detection:
    """The first candidate that proves itself; else the best of those that have the template's picture."""
    candidates = list(_candidates(prober, induction, families, exact))
    tried: list[tuple[Format, str, str, Proof]] = []
    for format, how, why in candidates:
        proof = prove(prober, format, induction)
        if proof.verified:
            return _verdict(prober, induction, format, how, [why], proof, text)
        tried.append((format, how, why, proof))
    if not tried:
        return Detection(None, evidence=tuple(induction.notes), message_style=prober.style, template=text)
    format, how, why, proof = min(tried, key=lambda entry: len(entry[3].failed))
    failures = [f"unproved: {check.name}: {check.detail}" for check in proof.failed[:4]]
    if how == "induced" and proof.status("single") == "failed":
        return Detection(
            None,
            evidence=(*induction.notes, "a picture was found, but it cannot read the template's own calls", *failures),
            message_style=prober.style,
            template=text,
        )
    return _verdict(prober, induction, format, how, [why, *failures], proof, text)


def _verdict(
    prober: Prober, induction: Induction, format: Format, how: str, why: list[str], proof: Proof, text: str
) -> Detection:
    passed = [check.name for check in proof.checks if check.status == "passed"]
    evidence = [*why, *induction.notes]
    if passed:
        evidence.append(f"read back exactly: {', '.join(passed)}")
    return Detection(
        format,
        how,
        tuple(evidence),
        proof.verified,
        find_problems(prober, format, induction, proof),
        prober.style,
        format.prefill,
        text,
        proof.checks,
        behaviour(induction.format) if induction.format is not None else "",
    )


def _candidates(
    prober: Prober, induction: Induction, families: Sequence[Format], exact: Entry | None
) -> Iterable[tuple[Format, str, str]]:
    """Formats to try, most promising first."""
    induced = induction.format
    if isinstance(exact, Format):
        merged = exact if induced is None else replace(exact, prefill=induced.prefill or exact.prefill)
        yield merged, "exact text", f"the template is registered for {exact.name!r}"
    if induced is None:
        return
    markers = _MARKER.findall("".join(induced.sources()))
    bound = [bind_to(family, markers) if family.has_suffix else family for family in families]
    alike = [family for family in bound if same_picture(induced, family, single=induction.single)]
    for family in _ranked(prober, induction, alike)[:3]:
        why = f"what the template writes is the picture of {family.name!r}"
        for merged in forms_of(family, induced):
            yield merged, "behaviour", why
    yield induced, "induced", "the picture was learnt from what the template writes"


def _ranked(prober: Prober, induction: Induction, families: list[Format]) -> list[Format]:
    """Families with the same picture, those that write it to the letter first."""
    if len(families) < 2:
        return families
    assert induction.format is not None
    assert induction.cutter is not None
    fulls = [(turn, prober.full(turn)) for turn in (ONE, TWO)]
    turns = [(turn, induction.cutter.turn(full)) for turn, full in fulls if full is not None]
    likeness = {id(family): _likeness(turns, induction.format, family) for family in families}
    return sorted(families, key=lambda family: -likeness[id(family)])


def _likeness(turns: Sequence[tuple[Turn, str]], induced: Format, family: Format) -> int:
    """How many of the free choices a family shares with what was induced, and writes as the template does."""
    points = 0
    for turn, text in turns:
        written = _writes(family, turn)
        points += 4 * (written is not None and written in text)
    if induced.reasoning is not None:
        points += 3 * (_bare(family.reasoning) == _bare(induced.reasoning))
    if induced.ends:
        points += 3 * bool(set(family.ends) & set(induced.ends))
    points += _bare(family.prefill) == _bare(induced.prefill)
    points += _bare(family.content) == _bare(induced.content)
    points += family.lead == induced.lead
    return points


def _writes(family: Format, turn: Turn) -> str | None:
    """What a family writes for a turn by itself; None where it can't carry it."""
    calls = [{"name": name, "arguments": arguments} for name, arguments in turn.calls]
    try:
        return render(replace(family, prefill="", also=()), calls, verify=False)
    except RenderError:
        return None


def forms_of(family: Format, induced: Format) -> Iterator[Format]:
    """A family as this template writes it, in the order in which to try: with the template's pictures, or its own.

    Where a family frames messages, its own pictures come first: its alternatives fit them and not another cut.
    """
    framed = family.between_messages or induced.between_messages
    for form in (_declared, _lent) if framed else (_lent, _declared):
        yield form(family, induced)


def _declared(family: Format, induced: Format) -> Format:
    """The family's own pictures, with what ends turns here and what the prompt holds."""
    ends = tuple(dict.fromkeys((*family.ends, *induced.ends)))
    return replace(family, prefill=induced.prefill, ends=ends)


def _lent(family: Format, induced: Format) -> Format:
    """The induced pictures with all that a template does not show."""
    framed, family_frames = (format.content.strip() != "{{text}}" for format in (induced, family))
    messages = family.between_messages or induced.between_messages
    return replace(
        induced,
        ends=induced.ends if messages else induced.ends or family.ends,
        name=family.name,
        also=induced.also if induced.between_messages else (*induced.also, *family.also),
        aliases=family.aliases,
        models=family.models,
        source=family.source,
        variant_of=family.variant_of,
        synonyms=family.synonyms,
        no_call=family.no_call,
        calls_in_reasoning=family.calls_in_reasoning,
        escapes=family.escapes,
        param=induced.param or family.param,
        types=induced.types or family.types,
        item=induced.item or family.item,
        wrap=induced.wrap or family.wrap,
        wrap_when=induced.wrap_when or family.wrap_when,
        reasoning=induced.reasoning or family.reasoning,
        content=induced.content if framed or induced.between_messages or not family_frames else family.content,
    )


def _bare(text: str | None) -> str:
    return "".join((text or "").split())


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


def prover_for(detection: Detection) -> Prover | None:
    """What tries further turns on the template of a detection; None where there is no template."""
    if detection.template is None or not isinstance(detection.format, Format) or detection.message_style is None:
        return None
    style = detection.message_style
    prober = Prober(compile_template(detection.template, mutable=style.mutable), style)
    return Prover(prober, detection.format, induce(prober))
