"""Learning a template's picture from what it writes.

Theory of operation. Every name, key, value and text that goes into a probe is a word that occurs nowhere else
(`probe.py`). Where such a word comes out stands a hole; everything else the template wrote by itself. So a rendering
with its words replaced is a picture already; what is left to find is where one part ends and the next begins, and that
follows from comparing renderings:

* The turn is what follows the longest common start of a rendering and the generation prompt (`turn_start.py`).
* A call's arguments are one value if a bracketed stretch around them reads as that value (JSON, JSON in a string,
  Python, a map with quotes of its own), keyword arguments if they read `key=value, `, else parameters (`arguments.py`).
* Between the holes of two calls in a row stands a gap: how a call closes, what separates, how a call opens. The text
  before the first call ends with the opening; the text after the last begins with the closing. So the opening is what
  head and gap end with, the closing is what gap and tail begin with, the rest of the gap is the separator, the rest of
  head and tail is the section (`call_bounds.py`). The same comparison, one level down, shows a parameter.
* In `A x B x C` the `x` may belong to either side, and both cuts describe the same text. A convention decides: closings
  first, blanks outside of calls. Otherwise templates that write the same would have different pictures.
* Thought and content are compared likewise: turns with and without each (`frames.py`).

Everything is compared on whole atoms (`atoms.py`). No marker and no family is known here. What cannot be told from one
template (a second call that is refused, say) is left out of the picture, and noted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from toolparse.errors import FormatError
from toolparse.format import JSON, Also, Format
from toolparse.templates.induction.arguments import Body, find_body, syntax_of_body
from toolparse.templates.induction.atoms import Hole, text_of
from toolparse.templates.induction.call_bounds import Calls, Reader, as_picture, core, split
from toolparse.templates.induction.frames import Frames, find_frames
from toolparse.templates.induction.parameters import ParamLearner
from toolparse.templates.induction.probe import KEYS, NAMES, ONE, PLAIN, TWO, TYPES, VALUES, Prober, after_user, calling
from toolparse.templates.induction.turn_start import Cutter


@dataclass
class Induction:
    """What was learnt. `format` is None where the template writes no calls that can be told apart.

    `notes` say in words what was seen and what could not be. `single`: only one call of a message is written.
    """

    cutter: Cutter
    notes: list[str] = field(default_factory=list)
    frames: Frames = field(default_factory=Frames)
    single: bool = False
    body: Body | None = None
    format: Format | None = None


def induce(prober: Prober, name: str = "induced", *, opening_first: bool = False) -> Induction:
    """The picture of what a template writes for an assistant's turn.

    `opening_first`: the other convention for text that may close one part or open the next.
    """
    prompt, one = prober.prompt(), prober.full(ONE)
    out = Induction(Cutter(prober, prompt or ""))
    if prompt is None or one is None or NAMES[0] not in one[after_user(one) :]:
        out.notes.append("the template does not write calls" + _why(prober))
        return out
    out.body = find_body(out.cutter.turn(one), PLAIN[0])
    if out.body is None:
        out.notes.append("the call's arguments do not appear in the rendering")
        return out
    reader = Reader(prober, out.cutter, out.body, opening_first)
    calls = _calls(reader, one, out)
    out.frames = find_frames(reader, calls, out.notes)
    fields = {**_frame_fields(out), **_body_fields(reader, out), **_call_fields(reader, calls, out.frames)}
    prober.look_at_the_clock()
    if _too_long(fields):
        out.notes.append("what the template writes around calls, texts or thoughts is too long for markers")
        return out
    try:
        out.format = Format(name, **{key: value for key, value in fields.items() if value is not None})
    except FormatError as error:
        out.notes.append(f"what the template writes is no picture: {error}")
    return out


#: Characters of one picture and of all: the longest of a real template have 128 and 556. They become patterns.
_PICTURE, _PICTURES, _QUOTE = 1000, 4000, 32


def _too_long(fields: Mapping[str, Any]) -> bool:
    """Whether a picture, or what encloses strings, is longer than anything that a family writes."""
    texts = [value for value in fields.values() if isinstance(value, str)]
    texts += list(fields.get("ends") or ())
    texts += [also.content or "" for also in fields.get("also") or ()]
    syntax = fields.get("syntax")
    quoted = [*syntax.quotes, syntax.true, syntax.false, syntax.null, syntax.colon, syntax.comma] if syntax else []
    typed = [word for pair in (fields.get("types") or {}).items() for word in pair]
    return (
        max(map(len, texts), default=0) > _PICTURE
        or sum(map(len, texts)) > _PICTURES
        or max(map(len, [*quoted, *typed]), default=0) > _QUOTE
    )


def _why(prober: Prober) -> str:
    return f" ({prober.error})" if prober.error else ""


def _calls(reader: Reader, one: str, out: Induction) -> Calls:
    """The parts of a turn with calls, from one call and two."""
    single = reader.atoms(reader.cutter.turn(one), ONE.calls)
    two = reader.prober.full(TWO)
    if two is not None:
        double = reader.atoms(reader.cutter.turn(two), TWO.calls)
        if any(isinstance(atom, Hole) and atom.call == 1 for atom in double):
            return split(single, double, reader.opening_first)
        out.notes.append("the template drops every call but the first")
    else:
        out.notes.append("the template refuses two calls in one message" + _why(reader.prober))
    out.single = True
    start, end = core(single, 0)
    return Calls([], single[:start], single[start:end], [], [], single[end:], single=True)


def _body_fields(reader: Reader, out: Induction) -> dict[str, Any]:
    """How arguments are written."""
    if reader.param is not None:
        learner = ParamLearner(reader)
        if not learner.learn():
            out.notes.append("values of some types are written in another picture")
        return learner.fields()
    full = reader.prober.full(TYPES)
    if full is None:
        return {}
    syntax = syntax_of_body(reader.cutter.turn(full), reader.body) or JSON
    if reader.body.kind in ("kwargs", "map") and reader.body.value_quote in ("'", '"') and _unescaped(reader):
        syntax = replace(syntax, escapes=False)
    return {"syntax": syntax}


def _unescaped(reader: Reader) -> bool:
    """Whether strings stand between their quotes as they are, quotes included."""
    probe = f"{VALUES[0]}'{VALUES[1]}\"{VALUES[2]}"
    full = reader.prober.full(calling({KEYS[0]: probe}))
    return full is not None and probe in full


def _call_fields(reader: Reader, calls: Calls, frames: Frames) -> dict[str, Any]:
    """The pictures of a call and of what stands around all of them."""
    closing = [*calls.closing, *calls.tail] if calls.single else calls.closing
    call, id_picture = as_picture([*calls.opening, *calls.core, *closing])
    fields: dict[str, Any] = {"call": call, "id": id_picture}
    if calls.single and call.startswith("{{name}}"):
        fields["parallel"] = False  # nothing would tell a second one
    if "{{id}}" in call:
        atoms = [*calls.opening, *calls.core]
        counted = "{{index" in text_of(atoms) and "{{id}}" not in text_of(atoms)
        fields["new_id"] = id_picture or ("{{index}}" if counted else reader.prober.style.new_id)
    between, before = text_of(calls.between), frames.section[0]
    if not frames.between_messages:
        if not calls.single:
            fields.update(section=before + "{{calls}}" + text_of(calls.tail), between=between)
    elif between.rstrip() == frames.between_messages or not (between or before.strip() or calls.tail):
        fields["call"] = before + call  # calls are messages of their own: what separates messages separates calls
    else:
        fields.update(section=before + "{{calls}}" + text_of(calls.tail), between=between)
    return fields


def _frame_fields(out: Induction) -> dict[str, Any]:
    """Thought, content, messages, ends, and what the prompt holds of the turn."""
    frames = out.frames
    return {
        "reasoning": frames.reasoning,
        "content": frames.content,
        "also": tuple(Also(content=content) for content in frames.also_content),
        "between_messages": frames.between_messages,
        "lead": "" if frames.between_messages else frames.lead,
        "ends": frames.ends,
        "prefill": out.cutter.prefill(),
    }
