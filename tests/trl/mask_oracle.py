"""Which characters of a rendered conversation an assistant wrote, found without anything of trl_integration.

Every text of the conversation is a word that occurs nowhere else (a *sentinel*), so that each has one author. Where a
turn begins is read off a render of the messages before it with the generation prompt; where it ends, off a list of
the end-of-turn markers of the real models, written down here by hand.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Markers with which real models end a turn, or on which they are stopped (GLM, Gemma 4: the next turn's opener).
ENDS = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "</s>",
    "<｜end▁of▁sentence｜>",
    "<|END_OF_TURN_TOKEN|>",
    "<turn|>",
    "<end_of_turn>",
    "<|return|>",
    "<|call|>",
    "<|end|>",
    "<|endoftext|>",
    "[e~[",
    "<|eot|>",
    "<|eom|>",
    "<|end_of_text|>",
    "<|tool_response>",
    "<|observation|>",
    "<|user|>",
    "<|message_sep|>",
    "<|role_end|>",
    "<seed:eos>",
    "<|assistant_end|>",
    "[EOS]",
    "<eos>",
    "<end_of_utterance>",
    "<|im_middle_end|>",
    "<|end_of_msg|>",
    "<|recipient_end|>",
    "<start_function_response>",
    "<|endofassistant|>",
    "<｜User｜>",
    "<|EOT|>",
    "<end_of_sentence>",
    "<|eos|>",
    "<SPECIAL_12>",
    "<｜hy_eos｜>",
    "<|reserved_200012|>",
    "</assistant>",
    "<|endofturn|>",
    "<|stop|>",
]
#: What a generation prompt may hold behind the header: a thought, opened, or opened and closed.
_THOUGHT = re.compile(
    r"\s*(?:<[^<>]*(?:think|thought|reason|judge)[^<>]*>|\[THINK\]|<\|channel>thought|<channel\||Here are my reasoning)[\s\S]*\Z|\s*\Z",
    re.IGNORECASE,
)


class Unexplained(AssertionError):
    """The mask differs from what the prefixes show; the message says where."""


@dataclass(frozen=True)
class Talk:
    """A conversation in OpenAI's form and, per message, its sentinels."""

    name: str
    messages: list[dict[str, Any]]
    own: list[list[str]]


class _Words:
    def __init__(self) -> None:
        self.count = itertools.count()

    def __call__(self, kind: str) -> str:
        return f"Z{kind}{next(self.count):02d}q"


def talks() -> Iterator[Talk]:
    """Conversations of every kind: what occurs in each is said by its name, a letter a message.

    u user, s system, t tool results, a answer, r thought and answer, c one call, d two calls, e text and a call,
    f thought and a call, n a call with numbers only, o a call without arguments.
    """
    for plan in (
        "ua", "uaua", "suaua", "uc", "ud", "uo", "un", "ue", "ucta", "udta", "untn", "uota", "uctaua",
        "uctcta", "udtdtaua", "ur", "urur", "uf", "ufta", "uftr", "uftftrur", "uetetaua", "suctauctaua", "uauaucta",
    ):  # fmt: skip
        yield _talk(plan)


def random_talk(seed: int) -> Talk:
    """A conversation of one to six questions, each answered at once or after some rounds of calls."""
    chance = random.Random(seed)
    plan = chance.choice(["", "s"])
    for _ in range(chance.randint(1, 6)):
        rounds = "".join(chance.choice("cdefno") + "t" for _ in range(chance.choice([0, 0, 1, 1, 2, 4])))
        plan += "u" + rounds + chance.choice("aar")
    return _talk(plan)


def _talk(plan: str) -> Talk:
    word = _Words()
    messages: list[dict[str, Any]] = []
    own: list[list[str]] = []
    calls: list[dict[str, Any]] = []
    ident = itertools.count()
    for kind in plan:
        if kind in "us":
            text = word("u")
            messages.append({"role": "user" if kind == "u" else "system", "content": text})
            own.append([text])
        elif kind == "t":
            for call in calls:
                text = word("t")
                name = call["function"]["name"]
                messages.append({"role": "tool", "name": name, "tool_call_id": call["id"], "content": text})
                own.append([text])
        else:
            message: dict[str, Any] = {"role": "assistant", "content": ""}
            words: list[str] = []
            if kind in "rf":
                message["reasoning_content"] = word("h")
                words.append(message["reasoning_content"])
            if kind in "are":
                message["content"] = word("a")
                words.append(message["content"])
            calls = []
            for at in range({"c": 1, "d": 2, "e": 1, "f": 1, "n": 1, "o": 1}.get(kind, 0)):
                arguments: dict[str, Any] = {"first": word("v"), "second": word("w")}
                if kind == "n":
                    arguments = {"number": 3107}
                if kind == "o":
                    arguments = {}
                words += [value for value in arguments.values() if isinstance(value, str)]
                function = {"name": ("fnalpha", "fnbravo")[at], "arguments": arguments}
                calls.append({"id": f"call{next(ident):05d}", "type": "function", "function": function})
            if calls:
                message["tool_calls"] = calls
            messages.append(message)
            own.append(words)
    return Talk(plan, messages, own)


def tools() -> list[dict[str, Any]]:
    """The tools of the conversations."""
    text = {"type": "string", "description": "A text."}
    number = {"type": "integer", "description": "A number."}
    parameters = {"type": "object", "properties": {"first": text, "second": text, "number": number}, "required": []}
    return [
        {"type": "function", "function": {"name": name, "description": "A tool.", "parameters": parameters}}
        for name in ("fnalpha", "fnbravo")
    ]


# -- how a template wants its messages -------------------------------------------------------------------------

Renderer = Callable[[Sequence[Mapping[str, Any]], bool], str]


def renderer_of(text: str, talk: Talk, tokenizer: Any, kwargs: Mapping[str, Any]) -> Renderer:
    """The way of handing the messages over in which the template writes `text` for the conversation."""
    forms = itertools.product(
        ("dict", "string"), ("", None, "absent"), ("text", "parts", "output"), ("openai", "flat", "none", "nested"),
        (False, True), (False, True),
    )  # fmt: skip
    for form in sorted(
        forms,
        key=lambda form: sum(a != b for a, b in zip(form, ("dict", "", "text", "openai", False, False), strict=True)),
    ):

        def render(messages: Sequence[Mapping[str, Any]], prompt: bool, form: Any = form) -> str:
            return _render(messages, prompt, form, tokenizer, kwargs)

        try:
            if render(talk.messages, False) == text:
                return render
        except Exception:
            continue
    raise Unexplained(f"no way of handing the messages over gives this text: {text!r}")


def _render(
    messages: Sequence[Mapping[str, Any]], prompt: bool, form: Any, tokenizer: Any, kwargs: Mapping[str, Any]
) -> str:
    arguments, empty, content, offered, thinking, ids = form
    shown = copy.deepcopy([dict(message) for message in messages])
    for message in shown:
        said = message["content"]
        if message["role"] == "assistant" and message.get("tool_calls") and not said:
            message["content"] = [{"type": "text", "text": ""}] if content == "parts" and empty == "" else empty
            if empty == "absent":
                del message["content"]
        elif content == "parts":
            message["content"] = [{"type": "text", "text": said}]
        elif content == "output" and message["role"] == "tool":
            message["content"] = [{"output": said}]
        if thinking and "reasoning_content" in message:
            for key in ("thinking", "reasoning", "thought"):
                message[key] = message["reasoning_content"]
        for call in message.get("tool_calls") or ():
            if arguments == "string":
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    given: Any = tools()
    extra: dict[str, Any] = {}
    if ids:
        extra = {"functions": json.dumps(given), "datetime": "17 May 2024"}
    if offered == "flat":
        given = [tool["function"] for tool in given]
    elif offered == "none":
        given = None
    elif offered == "nested":
        for tool in given:
            tool["function"]["parameters"]["additionalProperties"] = {"type": "string"}
    return str(
        tokenizer.apply_chat_template(
            shown, tools=given, add_generation_prompt=prompt, tokenize=False, **{**kwargs, **extra}
        )
    )


# -- the oracle ------------------------------------------------------------------------------------------------


def expected(text: str, talk: Talk, render: Renderer) -> list[tuple[int, set[int]]]:
    """Per assistant message: where its turn starts in `text`, and where it may end (half open, characters)."""
    out = []
    for index, message in enumerate(talk.messages):
        if message["role"] == "assistant":
            start = _start(text, talk, render, index)
            out.append((start, _ends(text, talk, index, start)))
    return out


def _start(text: str, talk: Talk, render: Renderer, index: int) -> int:
    prompt = render(talk.messages[:index], True)
    before = [word for words in talk.own[:index] for word in words]
    at, word = max((prompt.rfind(word), word) for word in before)
    header = prompt[at + len(word) :]
    first = min((p for word in talk.own[index] if (p := text.find(word)) >= 0), default=len(text))
    behind = text.rfind(word, 0, first)
    if behind < 0:
        raise Unexplained(f"{word!r} ends the prompt of turn {index}, and stands nowhere before that turn")
    behind += len(word)
    for length in range(len(header), -1, -1):
        if text.startswith(header[:length], behind) and (
            length == len(header) or _THOUGHT.match(header, length) is not None
        ):
            return behind + length
    raise Unexplained(f"turn {index} begins with {text[behind : behind + 80]!r}, its prompt with {header!r}")


def _ends(text: str, talk: Talk, index: int, start: int) -> set[int]:
    last = max([start, *(text.rfind(word) + len(word) for word in talk.own[index] if word in text)])
    for call in talk.messages[index].get("tool_calls") or ():
        if not any(isinstance(value, str) for value in call["function"]["arguments"].values()):
            last = text.find(call["function"]["name"], last) + len(call["function"]["name"])
    later = [p for words in talk.own[index + 1 :] for word in words if (p := text.find(word, last)) >= 0]
    limit = min(later, default=len(text))
    found = [(at, -len(end)) for end in ENDS if (at := text.find(end, last, limit)) >= 0]
    if not found:
        return {last, len(text[:limit].rstrip()), limit}
    at, length = min(found)
    ends = {at - length}
    while again := [end for end in ENDS if text.startswith(end, max(ends))]:
        ends.add(max(ends) + max(map(len, again)))
    return ends


def judge(found: Any, talk: Talk, tokenizer: Any, kwargs: Mapping[str, Any] | None = None) -> None:
    """Compare an `AssistantMask` with the oracle, token by token. Raises `Unexplained`."""
    kwargs = kwargs or {}
    encoding_text = tokenizer.decode(found.ids, skip_special_tokens=False)
    render = renderer_of(encoding_text, talk, tokenizer, kwargs)
    encoding = tokenizer(encoding_text, add_special_tokens=False, return_offsets_mapping=True)
    if list(encoding["input_ids"]) != list(found.ids):
        raise Unexplained("the ids are not those of the conversation")
    wanted = expected(encoding_text, talk, render)
    turns = [index for index, message in enumerate(talk.messages) if message["role"] == "assistant"]
    if [turn.message for turn in found.turns] != turns:
        raise Unexplained(f"turns {[turn.message for turn in found.turns]}, not {turns}")
    should = [0] * len(found.ids)
    offsets = encoding["offset_mapping"]
    for (start, ends), turn in zip(wanted, found.turns, strict=True):
        marked = [at for at, (a, b) in enumerate(offsets) if found.mask[at] and turn.start <= at < turn.end]
        if not marked:
            raise Unexplained(f"nothing of turn {turn.message} is marked")
        end = offsets[marked[-1]][1]
        end = next((e for e in ends if offsets[marked[-1]][0] < e <= end), end)
        if end not in ends:
            raise Unexplained(
                f"turn {turn.message} ends with {encoding_text[max(start, end - 60) : end]!r}, "
                f"not with {encoding_text[max(start, min(ends) - 60) : min(ends)]!r}"
            )
        for at, (a, _) in enumerate(offsets):
            if start <= a < end:
                should[at] = 1
    if should != list(found.mask):
        at = next(at for at, (a, b) in enumerate(zip(should, found.mask, strict=True)) if a != b)
        said = "isn't" if should[at] else "is"
        place = offsets[at][0]
        raise Unexplained(
            f"token {at} {said} marked: {encoding_text[max(0, place - 50) : place]!r} "
            f"-> {encoding_text[place : place + 50]!r}"
        )
