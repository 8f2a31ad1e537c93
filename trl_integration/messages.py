"""Messages through a chat template, in the form that this template wants.

Which form that is, `toolparse` finds by trying (``MessageStyle``). Here it is applied to the messages of data sets,
and to small synthetic conversations whose texts are sentinels.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from toolparse.errors import TemplateError
from toolparse.message import fill_id
from toolparse.templates.induction.message_style import NAMED_ID, MessageStyle
from toolparse.templates.induction.probe import PARTIAL, Prober, find_style
from toolparse.templates.judging.inputs import read_source
from toolparse.templates.rendering.environment import compile_template
from toolparse.templates.rendering.limits import LimitExceeded
from toolparse.tokens import tokenizer_of

__all__ = [
    "ARGUMENT",
    "CONTENT",
    "QUESTION",
    "THOUGHT",
    "THOUGHTS",
    "BridgeCall",
    "BridgeRefused",
    "Form",
    "Renderer",
    "sentinels",
    "text_of",
    "thought_pattern",
]

# Sentinels: words that no template contains, without characters that a template would escape, trim or split.
QUESTION = "Qquestionzq"
CONTENT = "Qcontentzq"
THOUGHT = "Qthoughtzq"
ARGUMENT = "Qargument{}zq"
_KEY = "text"
THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thought")


class BridgeRefused(Exception):
    """No bridge can be proved for this template and these messages; the message says why."""


@dataclass(frozen=True, slots=True)
class BridgeCall:
    """What the bridge has to know about a call: the name as the model wrote it, and its id if the text
    carries one.
    """

    name: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """How a synthetic turn is shown: in which style, and its calls as calls or (for templates that answer tool
    messages but don't write an assistant's calls) as content.
    """

    style: MessageStyle
    native: bool = True


class Renderer:
    """Renders messages with one tokenizer's chat template.

    Args:
        tokenizer: A tokenizer or processor; a processor's own chat template comes before its tokenizer's.
        parser: A ``toolparse.Parser`` of the same tokenizer, whose style is used; the style is searched without one.
        chat_template: A template to use instead.
        template_kwargs: Variables for the template.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        parser: Any = None,
        chat_template: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.tokenizer = tokenizer_of(tokenizer)
        own = getattr(tokenizer, "chat_template", None)
        if chat_template is None and tokenizer is not self.tokenizer and isinstance(own, str):
            chat_template = own
        self.chat_template = chat_template
        self.template_kwargs = dict(template_kwargs or {})
        self.parser = parser
        self._source = read_source(tokenizer)

    @cached_property
    def style(self) -> MessageStyle:
        """The style that the template wants."""
        found = getattr(self.parser, "style", None)
        return found if found is not None and self.chat_template is None else self._search()

    def _search(self) -> MessageStyle:
        usual = MessageStyle()
        text = self.chat_template or next((text for _, text in self._source.ordered()), None)
        if text is None:
            return usual
        try:
            prober, score = find_style(Prober(compile_template(text), usual, self._source.tokens))
        except (TemplateError, LimitExceeded):
            return usual
        return prober.style if score < PARTIAL else self._text_style(prober.style)

    def _text_style(self, found: MessageStyle) -> MessageStyle:
        """For templates that write no calls: a style in which they write what is said."""
        for style in (MessageStyle(), found, MessageStyle(parts=True)):
            talk = [self.user(QUESTION, style), {"role": "assistant", "content": style.text(CONTENT)}]
            try:
                text = self.render(talk, style=style)
            except BridgeRefused:
                continue
            if QUESTION in text and CONTENT in text:
                return style
        return MessageStyle()

    # -- messages of others --------------------------------------------------------------------------------

    def shown(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Messages in OpenAI's form as the template wants them; only what the style is about is changed.

        Raises ``BridgeRefused`` for parts of a content that are no text: they need more than token ids.
        """
        out = [self._shown(message, at) for at, message in enumerate(messages)]
        return _renamed(out) if self.style.new_id == NAMED_ID else out

    def _shown(self, message: Mapping[str, Any], at: int) -> dict[str, Any]:
        style, out = self.style, dict(message)
        if not out.get("tool_calls"):
            out.pop("tool_calls", None)  # data sets write None or an empty list, which templates take for calls
        role, calls = out.get("role"), out.get("tool_calls")
        content = out.get("content")
        said = content if isinstance(content, list) and _thinks(content) else text_of(content, f"message {at}")
        if isinstance(said, str):
            if role == "tool":
                out["content"] = style.result(said)
            elif said or not calls or role != "assistant":
                out["content"] = style.text(said)
            elif style.content == "absent":
                out.pop("content", None)
            else:
                out["content"] = None if style.content == "null" else style.text("")
        if role == "assistant":
            _pass_thought(out, style)
        if calls:
            out["tool_calls"] = [_shown_call(call, style) for call in calls]
        return out

    # -- synthetic conversations ---------------------------------------------------------------------------

    @staticmethod
    def user(text: str, style: MessageStyle) -> dict[str, Any]:
        """A user's message."""
        return {"role": "user", "content": style.text(text)}

    def opening(self, style: MessageStyle) -> list[dict[str, Any]]:
        """How a synthetic conversation begins: with a question, behind a system message where there must be one."""
        system = [{"role": "system", "content": style.text("You are helpful.")}] if style.system else []
        return [*system, self.user(QUESTION, style)]

    def turn(
        self,
        form: Form,
        calls: Sequence[BridgeCall],
        answers: Sequence[Mapping[str, Any]],
        contents: Sequence[str],
        suffix: str = "",
    ) -> list[dict[str, Any]]:
        """An assistant's turn whose arguments (or content) are sentinels, and what answers it."""
        style = form.style
        ids = [call.id or new for call, new in zip(calls, _new_ids(calls, style), strict=True)]
        if calls and form.native:
            messages = [style.message({"content": "", "tool_calls": _written(calls, ids, suffix)})]
        else:
            messages = [{"role": "assistant", "content": style.text(CONTENT + suffix)}]
        for at, (answer, content) in enumerate(zip(answers, contents, strict=True)):
            message = {key: copy.deepcopy(value) for key, value in answer.items() if key != "content"}
            text = f"Qearlier{at}" if suffix else content
            if answer["role"] == "tool":
                if at < len(calls):
                    message.setdefault("name", calls[at].name)
                    message["tool_call_id"] = ids[at]
                message["content"] = style.result(text)
            else:
                message["content"] = style.text(text)
            messages.append(message)
        return messages

    def conversation(
        self,
        form: Form,
        calls: Sequence[BridgeCall],
        answers: Sequence[Mapping[str, Any]],
        contents: Sequence[str],
        tools: Sequence[Mapping[str, Any]],
        history: Sequence[str] = (),
    ) -> str:
        """The synthetic conversation that ends in the turn, its answers and the generation prompt.

        ``history`` says what comes before the turn: "round" for a turn of the same shape with its answers, "talk"
        for an answer of the model and a further question.
        """
        question = self.user(QUESTION, form.style)
        messages = self.opening(form.style)
        for at, kind in enumerate(history):
            if kind == "round" and calls:
                messages += self.turn(form, calls, answers, contents, f"e{at}")
            else:
                messages += [{"role": "assistant", "content": form.style.text("Done.")}, question]
        messages += self.turn(form, calls, answers, contents)
        return self.render(messages, tools, style=form.style, generation_prompt=True)

    def last_turn(
        self,
        form: Form,
        calls: Sequence[BridgeCall],
        tools: Sequence[Mapping[str, Any]],
        *,
        content: str = "",
        thought: str | None = None,
    ) -> str:
        """A question and a turn with nothing behind it; with the given content and thought, if there are any."""
        if content or thought is not None:
            made = _written(calls, _new_ids(calls, form.style))
            message = {"content": content, "reasoning_content": thought, "tool_calls": made}
            messages = [form.style.message(message)]
        else:
            messages = self.turn(form, calls, (), ())
        return self.render([*self.opening(form.style), *messages], tools, style=form.style)

    # -- rendering -----------------------------------------------------------------------------------------

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        style: MessageStyle | None = None,
        generation_prompt: bool = False,
    ) -> str:
        """The template's text for messages in its own form; a template that refuses them raises ``BridgeRefused``."""
        style = style or self.style
        extra: dict[str, Any] = dict(style.extra_variables(tools)) if style.variables else {}
        if self.chat_template is not None:
            extra["chat_template"] = self.chat_template
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages),
                # Some templates write their tool section for an empty list.
                tools=style.tool_definitions(tools) or None,
                add_generation_prompt=generation_prompt,
                tokenize=False,
                **{**self.template_kwargs, **extra},
            )
        except Exception as error:  # noqa: BLE001 - templates are programs of strangers and raise anything
            said = type(error).__name__ == "TemplateError"
            detail = f"{error}" if said else f"{type(error).__name__}: {error}"
            said_by = "the template says" if said else "the template can't render this turn"
            raise BridgeRefused(f"{said_by}: {' '.join(detail.split())[:300]}") from None
        return str(text)


def _new_ids(calls: Sequence[BridgeCall], style: MessageStyle) -> list[str]:
    return [fill_id(style.new_id, call.name, at) for at, call in enumerate(calls)]


def _written(calls: Sequence[BridgeCall], ids: Sequence[str], suffix: str = "") -> list[dict[str, Any]]:
    return [
        {"id": ident, "function": {"name": call.name, "arguments": {_KEY: ARGUMENT.format(at) + suffix}}}
        for at, (call, ident) in enumerate(zip(calls, ids, strict=True))
    ]


def sentinels(kind: str, count: int) -> list[str]:
    """As many words of one kind."""
    return [f"Q{kind}{at}zq" for at in range(count)]


def text_of(content: Any, where: str = "an answer") -> Any:
    """A content as text: a list of text parts is put together. Raises ``BridgeRefused`` for other parts."""
    if content is None:
        return ""
    if not isinstance(content, list | tuple):
        return content
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise BridgeRefused(f"{where} holds a part of type {kind!r}: only text can be shown as token ids")
    return "".join(texts)


def _thinks(content: Sequence[Any]) -> bool:
    return any(isinstance(part, Mapping) and part.get("type") == "thinking" for part in content)


def _pass_thought(message: dict[str, Any], style: MessageStyle) -> None:
    """A thought under the keys at which the template looks, where it stands under others."""
    given = [key for key in THOUGHTS if isinstance(message.get(key), str)]
    if not given:
        return
    thought = message[given[0]]
    if style.thoughts == "parts":
        content = message.get("content")
        said = [{"type": "text", "text": content}] if isinstance(content, str) and content else content or []
        message["content"] = [{"type": "thinking", "thinking": thought}, *said]
    elif not set(given) & set(style.reasoning):
        message.update(dict.fromkeys(style.reasoning, thought))


def _shown_call(call: Mapping[str, Any], style: MessageStyle) -> dict[str, Any]:
    function = dict(call.get("function", call))
    arguments = function.get("arguments")
    if style.arguments == "string" and not isinstance(arguments, str):
        function["arguments"] = json.dumps(arguments if arguments is not None else {}, ensure_ascii=False)
    elif style.arguments == "dict" and isinstance(arguments, str):
        with contextlib.suppress(ValueError):
            function["arguments"] = json.loads(arguments)
    if "function" not in call:
        return function
    if style.call == "flat":
        return {**{key: value for key, value in call.items() if key != "function"}, **function}
    return {**call, "function": function}


def _renamed(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ids that hold the name, for templates that write the id where others write the name."""
    known: dict[Any, str] = {}
    count = 0
    for message in messages:
        for call in message.get("tool_calls") or ():
            name, old = str(call.get("function", call).get("name")), call.get("id")
            if not (isinstance(old, str) and name in old):
                call["id"] = fill_id(NAMED_ID, name, count)
                known[old] = call["id"]
            count += 1
        if message.get("tool_call_id") in known:
            message["tool_call_id"] = known[message["tool_call_id"]]
    return messages


def thought_pattern(format: Any) -> re.Pattern[str]:
    """What may stand at the end of a generation prompt beside the header: blanks, and the markers with which this
    format, or any that is known, frames thoughts.
    """
    markers: set[str] = set()
    for source in (getattr(format, "reasoning", None), *_known_thoughts()):
        for side in str(source or "").split("{{text}}"):
            if side.strip() and "{{" not in side:
                markers.add(re.escape(side.strip()))
    return re.compile(rf"(?:\s|{'|'.join(sorted(markers, key=len, reverse=True))})+\Z")


@cache
def _known_thoughts() -> tuple[str, ...]:
    from toolparse import registry

    return tuple(format.reasoning for format in registry.formats() if format.reasoning)
