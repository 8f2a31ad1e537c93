"""Make stock trainers accept a tokenizer whose chat template they don't know.

``GRPOTrainer(tools=[...])`` compares the chat template with a list of texts, byte by byte, and refuses every
other one. What it really needs from a tokenizer is three things, and these are set here:

* ``response_template``: that there is one tells the trainer that responses can be parsed. It is the format in
  transformers' own language wherever that can express it, is saved with the tokenizer, and then reads calls without
  this library;
* ``parse_response``: how it is done, here by ``toolparse``, on this tokenizer object;
* a chat template that renders a turn with calls alike whether or not tool messages follow. Where the
  template's own doesn't (Qwen 3's adds an empty thought to a last turn), it is wrapped: rendered with a tool
  message behind the turn, and cut after the end of the turn. The template's own text stays as it is inside
  of the wrapping.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from toolparse import registry
from toolparse.errors import ExportError
from toolparse.export import to_response_template
from toolparse.format import Format
from toolparse.tokens import tokenizer_of

from .messages import BridgeCall, BridgeRefused, Form, Renderer, sentinels, thought_pattern

__all__ = ["Preparation", "prepare"]

_CUT = "Qpreparecutzq"


@dataclass(slots=True)
class Preparation:
    """What was done to a tokenizer, and what couldn't be.

    ``ready``: a stock ``GRPOTrainer(tools=...)`` accepts it. ``exported``: a saved copy reads calls by itself.
    ``changes`` and ``problems`` are sentences for people.
    """

    tokenizer: Any
    parser: Any
    ready: bool = True
    exported: bool = False
    changes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _before: list[tuple[Any, str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = ["ready for stock trainers" if self.ready else "not ready for stock trainers"]
        lines += [f"+ {change}" for change in self.changes]
        lines += [f"! {problem}" for problem in self.problems]
        return "\n".join(lines)

    def undo(self) -> None:
        """Give the tokenizer back everything that was changed."""
        while self._before:
            owner, name, value = self._before.pop()
            if value is _ABSENT:
                vars(owner).pop(name, None)
            else:
                setattr(owner, name, value)
        self.changes.clear()
        self.ready = self.exported = False

    def _set(self, owner: Any, name: str, value: Any, change: str) -> None:
        self._before.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)
        self.changes.append(f"{name}: {change}")


_ABSENT = object()


def prepare(tokenizer: Any, *, parser: Any = None) -> Preparation:
    """Set what TRL and transformers read, on this tokenizer (or processor), and say what can't be carried over.

    Args:
        tokenizer: A tokenizer or processor with a chat template; it is changed in place, until ``undo()``.
        parser: A ``toolparse.Parser``; found from the tokenizer when left out.

    Raises:
        UnknownFormat: No format fits the tokenizer, and no parser is given; the message says what was tried.
    """
    from trl.chat_template_utils import is_chat_template_prefix_preserving, supports_tool_calling

    if parser is None:
        import toolparse

        parser = toolparse.parser_for(tokenizer)
    plain = tokenizer_of(tokenizer)
    done = Preparation(tokenizer, parser)
    _set_parsing(tokenizer, plain, parser, done)
    if not supports_tool_calling(tokenizer):
        done.ready = False
        done.problems.append(
            "TRL's check of the chat template fails: it wants calls and tool messages rendered from OpenAI's form "
            "with content as text; use ToolGRPOTrainer, which finds out how this template wants them"
        )
        return done
    if not is_chat_template_prefix_preserving(tokenizer):
        _wrap(tokenizer, plain, done)
    return done


def _set_parsing(tokenizer: Any, plain: Any, parser: Any, done: Preparation) -> None:
    renderer = Renderer(tokenizer, parser=parser)
    template, reason = _exported(renderer, parser)
    done.exported = template is not None
    if template is not None:
        done._set(plain, "response_template", template, f"exported from the format {parser.format.name!r}")
    else:
        text = {
            "defaults": {"role": "assistant"},
            "start_anchor_pattern": r"\A[\s\S]*\Z",
            "fields": {"content": {"close": plain.eos_token or "</s>", "content": "text"}},
        }
        done._set(plain, "response_template", text, f"one that reads text only, because {reason}")
        done.problems.append(
            f"a saved copy of this tokenizer can't parse calls by itself ({reason}): call prepare on it after loading"
        )
    done._set(
        plain, "parse_response", types.MethodType(_parse_response(plain, parser), plain), "toolparse, on this object"
    )


def _parse_response(tokenizer: Any, parser: Any) -> Any:
    stock = type(tokenizer).parse_response

    def parse_response(
        self: Any,
        response: Any,
        schema: Any = None,
        *,
        prefix: Any = None,
        tools: Sequence[Any] | None = None,
    ) -> Any:
        if schema is not None:
            return stock(self, response, schema, prefix="" if prefix is None else prefix, tools=tools)
        said, before = _listed(response), _listed(prefix)
        if isinstance(said, list) and said and isinstance(said[0], str | list):
            many = isinstance(before, list) and before and isinstance(before[0], str | list)
            prefixes = before if many else [before] * len(said)
            return [_message(parser, one, ahead, tools) for one, ahead in zip(said, prefixes, strict=True)]
        return _message(parser, said, before, tools)

    return parse_response


def _listed(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _message(parser: Any, response: Any, prefix: Any, tools: Sequence[Any] | None) -> dict[str, Any]:
    parsed = parser.parse(response, tools=list(tools) if tools else None, prompt=prefix or None)
    message: dict[str, Any] = parsed.to_message(broken="keep")
    # The stock loop can't tell a model what is wrong with a call; those that can't be run at all are left out, so that
    # they don't spoil their neighbours. Unknown names and wrong arguments it answers itself.
    unusable = {"malformed-arguments", "truncated", "no-name"}
    kept = [
        shown
        for shown, call in zip(message.get("tool_calls") or (), parsed.tool_calls, strict=True)
        if not unusable.intersection(issue.code for issue in call.issues)
    ]
    message.pop("tool_calls", None)
    if kept:
        message["tool_calls"] = kept
    return message


def _exported(renderer: Renderer, parser: Any) -> tuple[dict[str, Any] | None, str]:
    """The format in transformers' own language, or the reason why it isn't."""
    from transformers.utils.chat_parsing.response_templates import load_response_template

    format = getattr(parser, "format", None)
    if not isinstance(format, Format):
        return None, "the parser is a function"
    # A template that shows one call only doesn't say what stands between two; its family does.
    family = registry.get(format.name) if format.name in registry.families() else format
    reasons: list[str] = []
    for candidate in (format, family):
        if not isinstance(candidate, Format):
            continue
        try:
            template = to_response_template(candidate, start_anchor=_header(renderer))
            load_response_template(template)
        except ExportError as error:
            reasons.append(str(error))
        except ValueError as error:
            reasons.append(f"this transformers doesn't load the exported template: {error}")
        else:
            return template, ""
    return None, reasons[0]


def _header(renderer: Renderer) -> str | None:
    """What the generation prompt adds, without a thought that it opens: behind it a turn begins. None if there is no
    such text, or none behind the answers of tools.
    """
    form = Form(renderer.style)
    question = renderer.opening(form.style)
    try:
        plain = renderer.render(question)
        prompt = renderer.render(question, generation_prompt=True)
        later = renderer.conversation(form, [BridgeCall("tool")], [{"role": "tool"}], sentinels("answer", 1), ())
    except BridgeRefused:
        return None
    header = prompt[len(plain) :] if prompt.startswith(plain) else ""
    if not header.strip() or not later.endswith(header):
        return None
    thought = thought_pattern(getattr(renderer.parser, "format", None)).search(header)
    if thought is not None and thought[0].strip():
        blank = len(thought[0]) - len(thought[0].lstrip())
        header = header[: thought.start() + blank]
    return header if header.strip() else None


def _wrap(tokenizer: Any, plain: Any, done: Preparation) -> None:
    from trl.chat_template_utils import is_chat_template_prefix_preserving

    original = tokenizer.chat_template
    if not isinstance(original, str):
        done.ready = False
        done.problems.append("the tokenizer has several chat templates; set chat_template to the one to train with")
        return
    done._set(
        tokenizer,
        "chat_template",
        _wrapped(original, plain.eos_token),
        "wrapped, so that a last turn with calls is rendered as one in the middle is",
    )
    if not is_chat_template_prefix_preserving(tokenizer):
        tokenizer.chat_template = original
        done._before.pop()
        done.changes.pop()
        done.ready = False
        done.problems.append(
            "the chat template renders a turn otherwise when tool messages follow, and wrapping doesn't mend it; "
            "use ToolGRPOTrainer, which needs no such property"
        )


def _wrapped(template: str, end: str) -> str:
    """The template, rendering conversations that end in calls as if a tool message followed."""
    cut = repr(_CUT)
    return (
        "{%- if messages and messages[-1].role == 'assistant' and messages[-1].tool_calls"
        " and not (add_generation_prompt is defined and add_generation_prompt) -%}"
        "{%- set cut_call = messages[-1].tool_calls[0] -%}"
        "{%- set cut_name = (cut_call.function or cut_call).name -%}"
        f"{{%- set messages = messages + [{{'role': 'tool', 'name': cut_name, 'content': {cut}}}] -%}}"
        f"{{%- set cut_text -%}}{template}{{%- endset -%}}"
        f"{{%- set cut_before = cut_text.split({cut})[0] -%}}"
        f"{{{{- cut_before.rsplit({end!r}, 1)[0] + {end!r} if {end!r} in cut_before else cut_before -}}}}"
        "{%- else -%}"
        f"{template}"
        "{%- endif -%}"
    )
