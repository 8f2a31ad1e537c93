"""Make stock trainers accept a tokenizer whose chat template they don't know.

``GRPOTrainer(tools=[...])`` compares the chat template with a list of texts, byte by byte, and refuses every
other one. What it really needs from a tokenizer is three things, and these are set here:

* ``response_template``: that there is one tells the trainer that responses can be parsed;
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
from importlib import import_module
from typing import Any

__all__ = ["Preparation", "prepare"]

_CUT = "Qpreparecutzq"


@dataclass(slots=True)
class Preparation:
    """What was done to a tokenizer, and what couldn't be.

    ``ready``: a stock ``GRPOTrainer(tools=...)`` accepts it. ``changes`` and ``problems`` are sentences for
    people.
    """

    tokenizer: Any
    parser: Any
    ready: bool = True
    changes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = ["ready for stock trainers" if self.ready else "not ready for stock trainers"]
        lines += [f"+ {change}" for change in self.changes]
        lines += [f"! {problem}" for problem in self.problems]
        return "\n".join(lines)


def prepare(tokenizer: Any, *, parser: Any = None) -> Preparation:
    """Set what TRL and transformers read, on this tokenizer (or processor), and say what can't be carried
    over.

    Args:
        tokenizer: A tokenizer or processor with a chat template; it is changed in place.
        parser: A ``toolparse.Parser``; found from the tokenizer when left out (an unknown format raises
        there, with what
            was tried).
    """
    from trl.chat_template_utils import is_chat_template_prefix_preserving, supports_tool_calling

    if parser is None:
        import toolparse

        parser = toolparse.parser_for(tokenizer)
    plain = getattr(tokenizer, "tokenizer", tokenizer)
    done = Preparation(tokenizer, parser)
    _set_parsing(plain, parser, done)
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


def _set_parsing(tokenizer: Any, parser: Any, done: Preparation) -> None:
    exported = _exported(tokenizer, parser)
    if exported is not None:
        tokenizer.response_template = exported
        done.changes.append("response_template: exported from the format")
    else:
        tokenizer.response_template = {
            "defaults": {"role": "assistant"},
            "start_anchor": _header(tokenizer),
            "fields": {"content": {"close": tokenizer.eos_token, "content": "text"}},
        }
        done.changes.append("response_template: a plain one, because the format can't be expressed in that language")
        done.problems.append(
            "a saved copy of this tokenizer can't parse calls by itself: call prepare on it after loading"
        )

    def parse_response(
        self: Any,  # noqa: ARG001 - called as a method
        response: Any,
        *_: Any,
        prefix: Any = None,
        tools: Sequence[Any] | None = None,
        **__: Any,
    ) -> dict[str, Any]:
        ids = response.tolist() if hasattr(response, "tolist") else response
        parsed = parser.parse(ids, tools=list(tools) if tools else None, prompt=prefix)
        message: dict[str, Any] = parsed.to_message()
        # The stock loop can't tell a model what is wrong with a call; those that can't be run at all are
        # left out, so that they don't spoil their neighbours. Unknown names and wrong arguments it answers
        # itself.
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

    tokenizer.parse_response = types.MethodType(parse_response, tokenizer)
    done.changes.append("parse_response: toolparse, on this object")


def _exported(tokenizer: Any, parser: Any) -> dict[str, Any] | None:
    """The format in transformers' own language, if it can be expressed there and reads a call back."""
    from transformers.utils.chat_parsing.response_templates import load_response_template

    try:
        module = import_module("toolparse.export.response_template")
        made = module.to_response_template(parser.format)
        template: dict[str, Any] = {"start_anchor": _header(tokenizer), **made}
        load_response_template(template)
    except Exception:  # noqa: BLE001 - not expressible, or not understood by this transformers: then it isn't set
        return None
    return template


def _header(tokenizer: Any) -> str:
    """What the generation prompt adds: where an assistant's turn begins."""
    question = [{"role": "user", "content": "x"}]
    plain = tokenizer.apply_chat_template(question, tokenize=False)
    prompted = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    header = str(prompted[len(plain) :]) if prompted.startswith(plain) else ""
    return header or str(tokenizer.eos_token)


def _wrap(tokenizer: Any, plain: Any, done: Preparation) -> None:
    from trl.chat_template_utils import is_chat_template_prefix_preserving

    original = tokenizer.chat_template
    if not isinstance(original, str):
        done.ready = False
        done.problems.append("the tokenizer has several chat templates; set chat_template to the one to train with")
        return
    tokenizer.chat_template = _wrapped(original, plain.eos_token)
    if not is_chat_template_prefix_preserving(tokenizer):
        tokenizer.chat_template = original
        done.ready = False
        done.problems.append(
            "the chat template renders a turn otherwise when tool messages follow, and wrapping doesn't mend it; "
            "use ToolGRPOTrainer, which needs no such property"
        )
        return
    done.changes.append("chat_template: wrapped, so that a last turn with calls is rendered as one in the middle is")


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
