"""A model as the endpoint knows it: its tokenizer, the format that its template writes, and how prompts are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from toolparse.api import parser_for
from toolparse.detect import detect
from toolparse.errors import TemplateError, UnknownFormat
from toolparse.openai import ChatRequest, RequestError, constraint, template_messages, without_calls
from toolparse.parser import AnyParser, Parser
from toolparse.serving.engine import Constraint, Engine
from toolparse.templates.induction.message_style import MessageStyle
from toolparse.templates.judging.detection import Detection
from toolparse.templates.rendering.environment import CompiledTemplate, compile_template
from toolparse.tokens import Vocabulary


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt. `ids` is what the engine continues."""

    text: str
    ids: list[int]


class ChatModel:
    """What turns a request into token ids, and token ids into a message.

    Args:
        tokenizer: Of transformers, or anything with `encode`, `decode` and a `chat_template`.
        name: The model's name in answers.
        family: The format by name, where the template doesn't show it.
        parser: A parser to use in place of the one that is found.

    Raises:
        UnknownFormat: The tokenizer has no chat template, or nobody knows what it writes.
    """

    def __init__(
        self, tokenizer: Any, *, name: str, family: str | None = None, parser: AnyParser | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.name = name
        self.detection: Detection = detect(tokenizer)
        template = self.detection.template or _template_of(tokenizer)
        if template is None:
            raise UnknownFormat(f"{name!r} has no chat template: messages can't be made into a prompt")
        found = parser_for(tokenizer) if family is None and parser is None else None
        self.parser: AnyParser = parser or found or self._by_name(str(family))
        self.plain: AnyParser = without_calls(self.parser)
        self.style: MessageStyle = self.detection.message_style or MessageStyle()
        self.template: CompiledTemplate = compile_template(template, mutable=self.style.mutable)
        self.tokens = Vocabulary(tokenizer)
        self.vocabulary = len(tokenizer)
        self.stop_ids, self.unread_ids = end_tokens(self.parser, tokenizer)
        self._special = _special_tokens(tokenizer)

    def _by_name(self, family: str) -> AnyParser:
        parser: AnyParser = parser_for(family)
        if not isinstance(parser, Parser):
            return parser
        style = self.detection.message_style
        return Parser(parser.format, tokenizer=self.tokenizer, prefill=self.detection.prefill or None, style=style)

    # -- prompts --------------------------------------------------------------------------------------------------

    def prompt(self, asked: ChatRequest, variables: Mapping[str, Any]) -> Prompt:
        """The prompt for a request. `variables`: further variables of the template. Raises RequestError."""
        for name in _RESERVED & set(variables):
            raise RequestError(f"{name!r} is not a variable of a chat template", param=f"chat_template_kwargs.{name}")
        try:
            text = self._rendered(template_messages(asked.messages, self.style), asked, variables)
        except TemplateError as error:
            # Some templates accept ids of one form only, and clients bring ids of all forms.
            own = template_messages(asked.messages, self.style, own_ids=True)
            try:
                text = self._rendered(own, asked, variables)
            except TemplateError:
                raise RequestError(f"the chat template refuses these messages: {error}", param="messages") from None
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise RequestError("half a surrogate pair is no text", param="messages") from None
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        return Prompt(text, list(getattr(encoded, "ids", encoded)))

    def _rendered(self, messages: Sequence[Mapping[str, Any]], asked: ChatRequest, variables: Mapping[str, Any]) -> str:
        tools = self.style.tool_definitions(asked.tools) or None
        extra = self.style.extra_variables(asked.tools)
        for name, kind in self.style.variables:
            if kind != "tools as text":
                extra[name] = datetime.now().strftime("%d %B %Y")
        known = {**self._special, **extra, "strftime_now": _strftime_now, **variables}
        return self.template.render(
            **{"documents": None, **known, "messages": list(messages), "tools": tools, "add_generation_prompt": True}
        )

    def stream(self, asked: ChatRequest, prompt: Prompt) -> Any:
        """The stream that reads the answer: where no tool is offered, what looks like a call is content."""
        parser = self.parser if asked.reads_calls else self.plain
        return parser.stream(tools=asked.tool_set(), prompt=prompt.text)

    # -- constraints ----------------------------------------------------------------------------------------------

    def constraint(self, asked: ChatRequest, engine: Engine, prompt: Prompt) -> Constraint | None:
        """What the engine must hold the model to: None where nothing is asked for. Raises RequestError."""
        found = constraint(self.parser, asked, engine.takes, prompt=prompt.text)
        return None if found is None else Constraint(*found)


#: Names that rendering itself uses.
_RESERVED = frozenset(("self", "deadline", "bounds", "messages", "tools", "add_generation_prompt", "strftime_now"))


@lru_cache(maxsize=64)
def end_tokens(parser: AnyParser, tokenizer: Any) -> tuple[tuple[int, ...], frozenset[int]]:
    """The tokens that end a turn, and those of them that the format knows nothing of: they are no text.

    The end-of-text token ends a turn, and the format's ends do that are one token each and stand in none of its
    pictures.
    """
    found = getattr(tokenizer, "eos_token_id", None)
    eos = [found] if isinstance(found, int) else list(found or ())
    if not isinstance(parser, Parser):
        return tuple(eos), frozenset(eos)
    shown = [
        text
        for shape in parser.format.shapes()
        for text in (shape.call, shape.section, shape.between, shape.reasoning, shape.content, shape.between_messages)
        if text
    ]
    added = dict(tokenizer.get_added_vocab())
    ends = {marker: added[marker] for marker in map(str.strip, parser.format.ends) if marker in added}
    stops = [id for marker, id in ends.items() if not any(_inside(marker, text) for text in shown)]
    read = {id for marker, id in added.items() if id in ends.values() or any(marker in text for text in shown)}
    return tuple(dict.fromkeys([*eos, *stops])), frozenset(eos) - read


def _inside(marker: str, picture: str) -> bool:
    """Whether a marker stands in a picture before its end: a token that is written there can't end the turn."""
    return marker in picture.rstrip().removesuffix(marker)


def _template_of(tokenizer: Any) -> str | None:
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, Mapping):
        template = template.get("tool_use", template.get("default"))
    return template if isinstance(template, str) else None


def _special_tokens(tokenizer: Any) -> dict[str, str]:
    """The special tokens that templates know by name."""
    found = {
        f"{name}_token": getattr(tokenizer, f"{name}_token", None)
        for name in ("bos", "eos", "unk", "pad", "sep", "cls", "mask")
    }
    return {name: str(token) for name, token in found.items() if token is not None}


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form[:200])
