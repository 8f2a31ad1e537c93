"""Rendering sentinel conversations: what a template writes when every name, key, value and text is known.

A `Prober` renders conversations in one message style, remembers every rendering, counts them and stops when the
template takes too long altogether. `find_style` tries styles until the calls come out whole.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from toolparse.errors import TemplateError
from toolparse.templates.induction.message_style import NAMED_ID, MessageStyle
from toolparse.templates.rendering.environment import CompiledTemplate, compile_template, facts_of
from toolparse.templates.rendering.limits import LIMITS, LimitExceeded

USER = "usrquebec"
USER_2 = "usrromeo"
CONTENT = "txthotel"
THOUGHT = "thkindia"
RESULT = "reskilo"
EOS = "<|sentinel-eos|>"
BOS = "<|sentinel-bos|>"
NAMES = ("fnalpha", "fnbravo", "fncharlie")
KEYS = ("keydelta", "keyecho", "keyfox")
VALUES = ("valgolf", "vallima", "valmike")

#: Two string parameters, then one, then one: what the calls of a probe carry.
PLAIN: tuple[dict[str, Any], ...] = (
    {KEYS[0]: VALUES[0], KEYS[1]: VALUES[1]},
    {KEYS[2]: VALUES[2]},
    {KEYS[0]: VALUES[2]},
)

#: One parameter of every JSON type, in an order that is not alphabetical.
TYPED: dict[str, Any] = {
    "kwstring": "vwone",
    "kvinteger": 3107,
    "kunumber": 2.75,
    "kttrue": True,
    "ksfalse": False,
    "krnull": None,
    "kqobject": {"zwinner": "vwtwo", "awinner": True, "bwinner": None, "cwinner": 41},
    "kparray": ["vwthree", 52, False],
    "kotext": "vwfour\té",
}

#: The tools of every probe: the same ones, so that all prompts begin alike; few, because every render writes them.
_CALLS = [(NAMES[0], {**PLAIN[0], "an_object": {"inside": 1}, "a_list": ["x"]}), (NAMES[1], PLAIN[1])]
#: Fewer still, once the template has shown that it writes those: a third of what a render costs is writing tools.
_FEWER = [(NAMES[0], {KEYS[0]: VALUES[0]}), (NAMES[1], {KEYS[2]: VALUES[2]})]

_RENDERS = 160
#: For compiling, rendering, learning and proving together.
SECONDS = 12.0
#: Characters of one rendering; the longest of a real template has some ten thousand.
_RENDERING = 100_000
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Turn:
    """An assistant's turn to render: its calls as (name, arguments) pairs, its text, its thought."""

    calls: tuple[tuple[str, Any], ...] = ()
    content: str = ""
    reasoning: str | None = None

    def message(self, style: MessageStyle) -> dict[str, Any]:
        """The message in a style."""
        calls = [{"name": name, "arguments": arguments} for name, arguments in self.calls]
        message = {"content": self.content, "reasoning_content": self.reasoning, "tool_calls": calls}
        return style.message(message)


def calling(arguments: Mapping[str, Any]) -> Turn:
    """A turn with one call, of the first tool."""
    return Turn(((NAMES[0], arguments),))


ONE = calling(PLAIN[0])
TWO = Turn((*ONE.calls, (NAMES[1], PLAIN[1])))
TYPES = calling(TYPED)
SPOKEN = Turn(content=CONTENT)
SPOKEN_ONE = Turn(ONE.calls, CONTENT)
THOUGHT_SPOKEN = Turn(content=CONTENT, reasoning=THOUGHT)
THOUGHT_ONE = Turn(ONE.calls, reasoning=THOUGHT)

#: Switches that templates use for thinking. Those that change nothing cost two renders.
THINKING: dict[str, Any] = {"enable_thinking": True, "thinking": True}
NOT_THINKING: dict[str, Any] = {"enable_thinking": False, "thinking": False}


def after_user(text: str) -> int:
    """Where the user's message ends in a rendering."""
    at = text.rfind(USER)
    return at + len(USER) if at >= 0 else 0


def tools_for(calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Definitions of the tools that are called, with the schemas that their arguments suggest."""
    tools = []
    for name, arguments in calls:
        described = {key: {**schema_of(value), "description": "A parameter."} for key, value in arguments.items()}
        parameters = {"type": "object", "properties": described, "required": list(arguments)}
        function = {"name": name, "description": "A tool.", "parameters": parameters}
        tools.append({"type": "function", "function": function})
    return tools


def schema_of(value: Any) -> dict[str, Any]:
    """The schema of a value, down to the leaves: formats without types in their text need it."""
    if value is None:
        return {"type": "null"}
    if isinstance(value, dict):
        return {"type": "object", "properties": {key: schema_of(item) for key, item in value.items()}}
    if isinstance(value, list):
        kinds = list({json.dumps(schema_of(item)): schema_of(item) for item in value}.values())
        items = {"items": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}} if kinds else {}
        return {"type": "array", **items}
    kinds_of = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"))
    return {"type": next(word for kind, word in kinds_of if isinstance(value, kind))}


class Prober:
    """Renders conversations with one template in one style."""

    def __init__(
        self,
        template: CompiledTemplate,
        style: MessageStyle,
        tokens: Mapping[str, str] | None = None,
        deadline: float | None = None,
    ) -> None:
        self.template = template
        self.style = style
        self.tokens = dict(tokens or {})
        self.deadline = deadline if deadline is not None else time.monotonic() + SECONDS
        self.error = ""
        self._counted = [0]  # shared with the probers of other styles
        own = [(name, value) for name, value in facts_of(template.source).switches if name not in THINKING]
        #: Ways to switch thinking: the usual ones, and those that the source shows.
        self.switches: list[dict[str, Any]] = [THINKING, NOT_THINKING, *({name: value} for name, value in own)]
        self._known: dict[str, str | None] = {}
        self._turns: dict[str, str | None] = {}
        self._offer(tools_for(_CALLS))

    def with_style(self, style: MessageStyle) -> Prober:
        """A prober of the same template in another style; it shares the count and the deadline."""
        template = self.template
        if style.mutable != template.mutable:
            template = compile_template(template.source, mutable=style.mutable)
        other = Prober(template, style, self.tokens, self.deadline)
        other._counted = self._counted
        other._offer(self.tools)
        return other

    def settled(self) -> Prober:
        """A prober of the same template and style that offers fewer tools; it shares the count and the deadline."""
        other = self.with_style(self.style)
        other.error = self.error
        other._offer(tools_for(_FEWER))
        return other

    @property
    def renders(self) -> int:
        """How many renderings there were, those in other styles included."""
        return self._counted[0]

    def _offer(self, tools: list[dict[str, Any]]) -> None:
        """The tools of all renderings from now on."""
        self.tools = tools
        self._variables: dict[str, Any] = {
            "bos_token": BOS,
            "eos_token": EOS,
            **self.tokens,
            **(self.style.extra_variables(tools) if self.style.variables else {}),
            "tools": self.style.tool_definitions(tools) or None,
            "documents": None,
        }

    def prompts(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Every prompt that the switches give, with one that gives it: the usual one first."""
        seen: set[str] = set()
        for switches in ({}, *self.switches):
            prompt = self.prompt(**switches)
            if prompt is not None and prompt not in seen:
                seen.add(prompt)
                yield switches, prompt

    def prompt(self, **switches: Any) -> str | None:
        """What the model is given: one user message and the generation prompt."""
        return self.render([self.user()], generation=True, **switches)

    def full(self, turn: Turn, **switches: Any) -> str | None:
        """One user message and the assistant's turn; cut where the tool's result begins, if one is needed."""
        key = repr((turn.calls, turn.content, turn.reasoning, switches))
        if key in self._turns:
            return self._turns[key]
        if self._too_many(turn):
            return None
        text = self._turns[key] = self.render([self.user(), *self._told(turn)], **switches)
        return text

    def without_null(self, turn: Turn) -> str | None:
        """The same as transformers writes it, which leaves out what is null before the template sees it."""
        told = [{key: value for key, value in message.items() if value is not None} for message in self._told(turn)]
        return self.render([self.user(), *told])

    def messages(self, turn: Turn) -> list[dict[str, Any]]:
        """The conversation that `full` renders."""
        return self._conversation([self.user(), *self._told(turn)])

    def _conversation(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        system = [{"role": "system", "content": self.style.text("You are helpful.")}] if self.style.system else []
        return [*self.style.first_messages(self.tools), *system, *messages]

    def _told(self, turn: Turn) -> list[dict[str, Any]]:
        return self._answered(turn) if self.style.tool_behind else [turn.message(self.style)]

    def _answered(self, turn: Turn) -> list[dict[str, Any]]:
        message = turn.message(self.style)
        return [message, *self.style.tool_results(message, [RESULT] * len(turn.calls))]

    def _too_many(self, turn: Turn) -> bool:
        if self.style.single and len(turn.calls) > 1:
            self.error = "messages of this style carry one call"
            return True
        return False

    def history(self, turn: Turn, **switches: Any) -> str | None:
        """The assistant's turn with its results and another user message behind it."""
        if self._too_many(turn):
            return None
        return self.render([self.user(), *self._answered(turn), self.user(USER_2)], **switches)

    def answered(self, turn: Turn) -> bool:
        """Whether the results of the turn's calls are written."""
        text = self.render([self.user(), *self._answered(turn)], generation=True)
        return text is not None and RESULT in text

    def user(self, text: str = USER) -> dict[str, Any]:
        """A user message."""
        return {"role": "user", "content": self.style.text(text)}

    def render(self, messages: list[dict[str, Any]], *, generation: bool = False, **switches: Any) -> str | None:
        """The rendering, or None with the reason in `error`. Raises LimitExceeded."""
        key = repr((messages, generation, switches))
        if key in self._known:
            return self._known[key]
        self._counted[0] += 1
        if self.renders > _RENDERS:
            raise LimitExceeded("the template takes too long to be examined")
        self.look_at_the_clock()
        messages = self._conversation(messages)
        text: str | None
        try:
            text = self.template.render(
                messages=messages,
                add_generation_prompt=generation,
                deadline=min(self.deadline, time.monotonic() + LIMITS.seconds),
                **self._variables,
                **switches,
            )
        except LimitExceeded:
            raise
        except TemplateError as error:
            text, self.error = None, str(error)
        if text is not None and len(text) > _RENDERING:
            raise LimitExceeded(f"the template writes more than {_RENDERING} characters for a short conversation")
        if text is not None and _SURROGATE.search(text):
            raise TemplateError("the template writes lone surrogates: that is no text")
        self._known[key] = text
        return text

    def look_at_the_clock(self) -> None:
        """Raises LimitExceeded when the time for the template is over."""
        if time.monotonic() > self.deadline:
            raise LimitExceeded("the template takes too long to be examined")


# ------------------------------------------------------------------------------------------------- message styles

#: Settings that are tried, one at a time and then in pairs.
_SETTINGS: tuple[dict[str, Any], ...] = (
    {"mutable": True},
    {"arguments": "string"},
    {"content": "absent"},  # before null, which transformers leaves out
    {"content": "null"},
    {"new_id": NAMED_ID},
    {"parts": True},
    {"call": "flat"},
    {"tools": "flat"},
    {"tools": "nested"},
    {"tools": "none"},
    {"tool_behind": True},
    {"system": True},
)

#: Settings that are only tried where the source has the word.
_NAMED_SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("function_calls", {"call": "function_calls"}),
    ("function_call'", {"call": "function_call"}),
    ('function_call"', {"call": "function_call"}),
    (".function_call", {"call": "function_call"}),
    ("functions", {"tools": "role"}),
)

#: How well a call is rendered: arguments as JSON; in another syntax; Python's repr; JSON within JSON; not whole; not.
WHOLE, READABLE, REPR, TWICE, PARTIAL, NOTHING = range(6)


def find_style(prober: Prober) -> tuple[Prober, int]:
    """The style in which calls are rendered best, as a prober, and how good that is.

    The usual style, then one setting changed at a time, then two; the first that gives whole calls wins, else the
    best of all; then how thoughts and results are handed over. A call whose arguments stand there as JSON is better
    than one in which they are encoded twice or written as Python's repr, though all sentinels appear in each.
    """
    best, best_score = _calls_style(prober)
    return (_with_results(_with_thoughts(best)) if best_score < PARTIAL else best), best_score


def _with_results(prober: Prober) -> Prober:
    """The prober with the form of tool results that the template writes, where it doesn't write plain text."""
    if prober.answered(ONE):
        return prober
    others = (_try(prober, {"results_form": form}) for form in ("output", "parts"))
    return next((other for other in others if other.answered(ONE)), prober)


_THOUGHT_KEY = re.compile(r"""(?:\.|\[\s*["']|get\(\s*["']|["'])(\w*(?:reason|think|thought)\w*|tool_plan)\b""")


def _with_thoughts(prober: Prober) -> Prober:
    """The prober with the keys under which the template looks for thoughts, where the usual ones show none."""
    usual = prober.style.reasoning
    named = dict.fromkeys(_THOUGHT_KEY.findall(prober.template.source))
    keys = [key for key in named if key not in usual and not re.search("enable|budget|effort|^has_|^is_", key)]
    ways: list[dict[str, Any]] = [{"reasoning": (key,)} for key in keys[:6]]
    if re.search(r"""["']thinking["']""", prober.template.source):
        ways.append({"thoughts": "parts"})
    if not ways or _thinks(prober):
        return prober
    return next((other for other in (_try(prober, way) for way in ways) if _thinks(other)), prober)


def _thinks(prober: Prober) -> bool:
    """Whether a thought is written, with content or with a call."""
    texts = (
        prober.full(turn, **switches) for switches in ({}, *prober.switches) for turn in (THOUGHT_SPOKEN, THOUGHT_ONE)
    )
    return any(text is not None and THOUGHT in text[after_user(text) :] for text in texts)


def _calls_style(prober: Prober) -> tuple[Prober, int]:
    best, best_score = prober, score(prober.full(ONE))
    if best_score <= READABLE:
        return best, best_score
    named = [setting for word, setting in _NAMED_SETTINGS if word in prober.template.source]
    settings: list[dict[str, Any]] = [*_SETTINGS, *(one for at, one in enumerate(named) if one not in named[:at])]
    missing = _missing_variables(prober)
    if missing:
        settings.insert(0, {"variables": missing})
    tried: list[tuple[int, dict[str, Any]]] = []
    for changes in settings:
        candidate = _try(prober, changes)
        value = score(candidate.full(ONE))
        tried.append((value, changes))
        if value < best_score:
            best, best_score = candidate, value
        if value == WHOLE:
            break
    ranked = [changes for _, changes in sorted(tried, key=lambda pair: pair[0])]
    for one, other in combinations(ranked, 2):
        if best_score <= READABLE:
            break
        if set(one) & set(other):
            continue
        candidate = _try(prober, {**one, **other})
        value = score(candidate.full(ONE))
        if value < best_score:
            best, best_score = candidate, value
    return best, best_score


def _try(prober: Prober, changes: dict[str, Any]) -> Prober:
    return prober.with_style(prober.style.changed(**changes))


_UNDEFINED = re.compile(r"'(\w+)' is undefined")


def _missing_variables(prober: Prober) -> tuple[tuple[str, str], ...]:
    """Variables without which the template cannot even write a prompt, and what to pass in them."""
    missing: dict[str, str] = {}
    while prober.prompt() is None and len(missing) < 6:
        named = _UNDEFINED.search(prober.error)
        if named is None or named.group(1) in missing:
            return ()
        kind = "date" if re.search("date|time|day", named.group(1)) else "tools as text"
        missing[named.group(1)] = kind
        prober = _try(prober, {"variables": tuple(missing.items())})
    return tuple(missing.items())


def score(text: str | None) -> int:
    """How well a rendering carries the call of `ONE`: the lower the better."""
    if text is None:
        return NOTHING
    if USER not in text:
        return PARTIAL  # it does not even show what the user says: content is wanted in another form
    written = text[text.rfind(USER) + len(USER) :]
    key = KEYS[0]
    if any(word not in written for part in PLAIN[0].items() for word in (NAMES[0], *part)):
        return PARTIAL if NAMES[0] in written else NOTHING
    if '\\"' + key in written or re.search(rf"""["']\{{\s*"{key}""", written):
        return TWICE
    if f'{{"{key}":' in written.replace(" ", "").replace("\n", ""):
        return WHOLE if written.count(key) == 1 else READABLE
    return REPR if f"{{'{key}':" in written.replace(" ", "") else READABLE
