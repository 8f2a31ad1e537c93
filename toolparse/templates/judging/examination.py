"""Examining one template: its picture is learnt, candidates are ranked, the first that proves itself is taken."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from toolparse import registry
from toolparse.compile import bind_to
from toolparse.errors import TemplateError
from toolparse.format import Also, Format
from toolparse.picture import around
from toolparse.prompts import prefill_of
from toolparse.templates.induction.atoms import bare
from toolparse.templates.induction.induce import Induction, induce
from toolparse.templates.induction.message_style import MessageStyle
from toolparse.templates.induction.probe import NOTHING, ONE, SECONDS, Prober, find_style
from toolparse.templates.judging.detection import Detection, Proof
from toolparse.templates.judging.inputs import Source
from toolparse.templates.judging.likeness import MOST, behaviour, beside, nearly, same_picture, shown_by, written_by
from toolparse.templates.judging.problems import find_problems, problem
from toolparse.templates.judging.proof import prove
from toolparse.templates.judging.vocabulary import SIGNS, by_prompt
from toolparse.templates.rendering.environment import compile_template, facts_of

_MARKER = re.compile("<[^<>{}]*>")
#: A format, how it was found, why it was tried, and what came of it.
_Tried = tuple[Format, str, str, Proof]


def examine(text: str, found: Source, exact: Format | None, families: Sequence[Format]) -> Detection:
    """The verdict on a template. `exact`: the format that is registered for it; `families`: all that may fit."""
    deadline = time.monotonic() + SECONDS
    try:
        ordered = _hinted(families, found.names)
        blind = exact is None and not facts_of(text).mentions_calls
        if blind and "tools" not in text:
            return Detection(None, evidence=("the template never looks at tool calls",), template=text)
        prober = Prober(compile_template(text, deadline=deadline), MessageStyle(), found.tokens, deadline)
        if blind:
            return _told_only(prober, ordered, "the template never looks at tool calls", text)
        prober, score = find_style(prober)
        if score == NOTHING and exact is None:
            why = f": {prober.error}" if prober.error else ""
            return _told_only(prober, ordered, f"the template writes no tool calls{why}", text)
        prober = prober.settled()
        induction = induce(prober)
        detection = _choose(prober, induction, ordered, exact, text)
        if detection.verified:
            return detection
        other = induce(prober, opening_first=True)  # the picture may be cut in another place
        again = _choose(prober, other, ordered, exact, text) if other.format != induction.format else detection
        return again if again.verified or detection.format is None else detection
    except TemplateError as error:
        return Detection(None, evidence=(f"the template cannot be rendered: {error}",), template=text)


def _told_only(prober: Prober, families: Sequence[Format], why: str, text: str) -> Detection:
    """The verdict on a template that writes no calls: what its prompt tells of them is evidence, and no proof."""
    prompt = prober.prompt()
    plain = prober.with_style(prober.style.changed(tools="none")).prompt()
    family, told = by_prompt(families, prompt, plain) if prompt is not None and plain is not None else (None, "")
    if family is None:
        return Detection(None, evidence=(why,), template=text)
    assert prompt is not None
    return Detection(
        family,
        "prompt",
        (why, f"unproved: {told}"),
        problems=(problem("calls-unwritten", why, prompt),),
        prefill=prefill_of(family, prompt),
        template=text,
    )


def _hinted(families: Sequence[Format], names: Sequence[str]) -> list[Format]:
    """The families, those first that are called like the model: where pictures are the same, the name decides."""
    spelled = [registry.normal(name) for name in names]

    def called(family: Format) -> bool:
        own = [registry.normal(name) for name in (family.name, *family.aliases)]
        return any(name.startswith(alias) for name in spelled for alias in own)

    return sorted(families, key=lambda family: not called(family)) if spelled else list(families)


def _choose(
    prober: Prober, induction: Induction, families: Sequence[Format], exact: Format | None, text: str
) -> Detection:
    """The first candidate that proves itself; else the best of those that have the template's picture."""
    candidates = list(_candidates(prober, induction, families, exact))
    tried: list[_Tried] = []
    for format, how, why in candidates:
        proof = prove(prober, format, induction)
        if proof.verified:
            format, proof, notes = _joined(prober, induction, format, proof, families)
            rung = "behaviour" if how == "near" else how
            return _verdict(prober, induction, format, rung, [why, *notes], proof, text)
        if how != "near":  # it counts only if it is proved
            tried.append((format, how, why, proof))
    if not tried:
        return Detection(None, evidence=tuple(induction.notes), message_style=prober.style, template=text)
    format, how, why, proof = _unproved(tried, families)
    failures = [f"unproved: {check.name}: {check.detail}" for check in proof.failed[:4]]
    if how == "induced" and proof.status("single") == "failed":
        return Detection(
            None,
            evidence=(*induction.notes, "a picture was found, but it cannot read the template's own calls", *failures),
            message_style=prober.style,
            template=text,
        )
    return _verdict(prober, induction, format, how, [why, *failures], proof, text)


def _joined(
    prober: Prober, induction: Induction, format: Format, proof: Proof, families: Sequence[Format]
) -> tuple[Format, Proof, list[str]]:
    """A format with what the prompt shows and the template does not write, as far as it proves itself with that too."""
    found = list(islice(shown_by(families, format, prober.prompt() or ""), MOST))
    if induction.format is not None and format.name == induction.format.name:
        found += [
            (beside(family), f"what the template writes is nearly {family.name!r}: read as well")
            for family in nearly(families, format)
        ]
    notes: list[str] = []
    for beside_it, why in found:
        for alternatives in dict.fromkeys((beside_it, beside_it[:1])):
            more = replace(format, also=(*format.also, *alternatives))
            again = prove(prober, more, induction, stop=True)
            if again.verified and not _fell(proof, again):
                format, proof, notes = more, again, [*notes, why]
                break
    return format, proof, notes


def _fell(before: Proof, after: Proof) -> bool:
    """Whether a check that was passed is not any more."""
    return any(check.status == "passed" and after.status(check.name) != "passed" for check in before.checks)


def _unproved(tried: Sequence[_Tried], families: Sequence[Format]) -> _Tried:
    """Where nothing is proved the likeliest family stands with its own pictures; without one, what fails least."""
    first = next((entry[0].name for entry in tried if entry[1] == "behaviour"), None)
    declared = {(family.call, family.section, family.content) for family in families if family.name == first}
    for entry in tried:
        format = entry[0]
        if format.name == first and (format.call, format.section, format.content) in declared:
            return entry
    return min(tried, key=lambda entry: len(entry[3].failed))


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
    prober: Prober, induction: Induction, families: Sequence[Format], exact: Format | None
) -> Iterable[tuple[Format, str, str]]:
    """Formats to try, most promising first."""
    induced = induction.format
    if exact is not None:
        merged = exact if induced is None else replace(exact, prefill=induced.prefill or exact.prefill)
        yield merged, "exact text", f"the template is registered for {exact.name!r}"
    if induced is None:
        return
    markers = _MARKER.findall("".join(induced.sources()))
    bound = [bind_to(family, markers) if family.has_suffix else family for family in families]
    alike = [family for family in bound if same_picture(induced, family, single=induction.single)]
    for family in _ranked(prober, induction, alike)[:3]:
        why = f"what the template writes is the picture of {family.name!r}"
        for merged in forms_of(family, induced, single=induction.single, guessed=not induction.frames.has_reasoning):
            yield merged, "behaviour", why
    if not alike:
        for family in written_by(bound, induction.cutter.written(ONE)):
            yield (
                _declared(family, induced),
                "near",
                f"what the template writes is read, and written, by {family.name!r}",
            )
    yield induced, "induced", "the picture was learnt from what the template writes"


def _ranked(prober: Prober, induction: Induction, families: list[Format]) -> list[Format]:
    """Families with the same picture, those first that frame turns alike or whose signs the prompt holds."""
    if len(families) < 2:
        return families
    assert induction.format is not None
    induced, prompt = induction.format, prober.prompt() or ""

    def points(family: Format) -> int:
        return _likeness(induced, family) + 2 * any(sign in prompt for sign in SIGNS.get(family.name, ()))

    return sorted(families, key=lambda family: -points(family))


def _likeness(induced: Format, family: Format) -> int:
    """How many of the free choices a family shares with what was induced."""
    points = 0
    if induced.reasoning is not None:
        points += 3 * (bare(family.reasoning) == bare(induced.reasoning))
    if induced.ends:
        points += 3 * bool(set(family.ends) & set(induced.ends))
    points += bare(family.prefill) == bare(induced.prefill)
    points += bare(family.content) == bare(induced.content)
    points += family.lead == induced.lead
    return points


def forms_of(family: Format, induced: Format, *, single: bool = False, guessed: bool = False) -> Iterator[Format]:
    """A family as this template writes it, in the order in which to try: with the template's pictures, or its own.

    Where a family frames messages, its own pictures come first: its alternatives fit them and not another cut. So they
    do where only one call of a message is written (`single`): what stands between calls is the family's to say then.
    """
    framed = bool(family.between_messages or induced.between_messages)
    if guessed and family.reasoning is not None and _opens(family.reasoning, induced.prefill):
        induced = replace(induced, reasoning=family.reasoning)
    elif guessed and induced.reasoning is not None and _opens(induced.reasoning, induced.prefill):
        family = replace(family, reasoning=induced.reasoning)
    for form in (_declared, _lent) if framed or single else (_lent, _declared):
        yield form(family, induced)


def _opens(reasoning: str, prefill: str) -> bool:
    """Whether a prompt that holds `prefill` may be about a thought in this frame, or about none."""
    opening = bare(around(reasoning, "text").before)
    return not prefill.strip() or opening in bare(prefill)


def _declared(family: Format, induced: Format) -> Format:
    """The family's own pictures, with what ends turns here and what the prompt holds."""
    ends = tuple(dict.fromkeys((*family.ends, *induced.ends)))
    return replace(family, prefill=induced.prefill, ends=ends)


def _lent(family: Format, induced: Format) -> Format:
    """The induced pictures with all that a template does not show."""
    framed, family_frames = (format.said.shows for format in (induced, family))
    return replace(
        induced,
        ends=_ends(family, induced),
        name=family.name,
        also=induced.also if induced.between_messages else (*_beside(family, induced), *induced.also, *family.also),
        aliases=family.aliases,
        models=family.models,
        source=family.source,
        variant_of=family.variant_of,
        synonyms=family.synonyms,
        no_call=family.no_call,
        calls_in_reasoning=family.calls_in_reasoning,
        asides=family.asides,
        escapes=family.escapes,
        param=induced.param or family.param,
        types=induced.types or family.types,
        item=induced.item or family.item,
        wrap=induced.wrap or family.wrap,
        wrap_when=induced.wrap_when or family.wrap_when,
        reasoning=induced.reasoning or family.reasoning,
        content=induced.content if framed or induced.between_messages or not family_frames else family.content,
    )


def _beside(family: Format, induced: Format) -> tuple[Also, ...]:
    """What a model may write either way: escapes where this template writes none, other blanks around a thought."""
    loose = induced.syntax.loose and not induced.syntax.texts and not induced.syntax.escapes
    escaped = (Also(syntax=family.syntax),) if loose and family.syntax.escapes else ()
    own, others = induced.reasoning, family.reasoning
    spaced = (Also(reasoning=others),) if own and own != others and bare(own) == bare(others) else ()
    return escaped + spaced


def _ends(family: Format, induced: Format) -> tuple[str, ...]:
    """What ends turns here, and what does in the family beside: a marker that the pictures hold ends nothing."""
    pictures = replace(induced, ends=(), prefill="", also=()).sources()
    lent = [end for end in family.ends if not any(end in picture for picture in pictures)]
    return tuple(dict.fromkeys((*induced.ends, *lent)))
