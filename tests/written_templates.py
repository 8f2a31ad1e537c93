"""Chat templates written from formats: what the model of a family might ship, in many hands.

`write(format, seed)` writes a Jinja chat template whose assistant turns are the format's pictures: tools and system
message, user turns, thoughts, content, calls, tool results, end markers, generation prompt. The seed chooses the hand:
role frames, quotes, whitespace control, how messages are accessed, how a thought is passed, macros and namespaces.
The ways of writing are those of real templates.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from toolparse.format import CALL_HOLES, PARAM_HOLES, PICTURED, Format
from toolparse.picture import Hole, Text, Wrapper

#: ("lit", text) | ("out", expression) | ("if", [(condition or "", ops)]) | ("for", target, iterable, ops)
#: | ("set", target, expression) | ("macro", signature, ops)
Op = tuple[Any, ...]
Ops = list[Op]


@dataclass
class Written:
    """A template, and what is true of it.

    `header`: what the prompt writes between the user's message and the turn. `prefill`: what it writes of the turn.
    `choices`: the hand.
    """

    source: str
    header: str
    prefill: str
    choices: dict[str, Any]


def write(format: Format, seed: int) -> Written:
    """A chat template for a format, in the hand of a seed."""
    return _Writer(format.bind(":zeta" if seed % 2 else ""), seed).written()


# ------------------------------------------------------------------------------------------------ printing


def _quoted(text: str, quote: str) -> str:
    text = text.replace("\\", "\\\\").replace(quote, "\\" + quote).replace("\n", "\\n").replace("\t", "\\t")
    return quote + text + quote


def _printed(ops: Ops, style: str, quote: str, depth: int = 0) -> str:
    ops = _joined(ops, quote) if style == "lines" else _merged(ops)
    return "".join(_op(op, style, quote, depth) for op in ops)


def _joined(ops: Ops, quote: str) -> Ops:
    """Literals and expressions in a row, as one expression: `{{- '<a>' + name + '</a>' }}`."""
    made: Ops = []
    run: list[str] = []
    for op in [*ops, ("end",)]:
        if op[0] == "lit":
            run.append(_quoted(op[1], quote))
            continue
        if op[0] == "out" and op[1].replace(".", "").replace("_", "").isalnum():
            run.append(op[1])
            continue
        if run:
            made.append(("out", " ~ ".join(run) if len(run) > 1 else run[0]))
            run = []
        if op[0] != "end":
            made.append(op)
    return made


def _op(op: Op, style: str, quote: str, depth: int) -> str:
    kind = op[0]
    pad = "\n" + "    " * depth if style != "inline" else ""
    left, right = {"lines": ("-", ""), "dashes": ("-", "-"), "inline": ("", "")}[style]
    if kind == "lit":
        text = op[1]
        raw = text == text.strip() and "\n" not in text and "{{" not in text and "{%" not in text and "{#" not in text
        raw = raw and not text.endswith("{") and not text.startswith("}")
        if style != "lines" and raw and text:
            return pad + text if style == "dashes" else text
        return f"{pad}{{{{{left} {_quoted(text, quote)} {right}}}}}"
    if kind == "out":
        return f"{pad}{{{{{left} {op[1]} {right}}}}}"

    def tag(text: str) -> str:
        return f"{pad}{{%{left} {text} {right}%}}"

    if kind == "generation":
        return tag("generation") + _printed(op[1], style, quote, depth + 1) + tag("endgeneration")
    if kind == "set":
        return tag(f"set {op[1]} = {op[2]}")
    if kind == "macro":
        return tag(f"macro {op[1]}") + _printed(op[2], style, quote, depth + 1) + tag("endmacro")
    if kind == "for":
        return tag(f"for {op[1]} in {op[2]}") + _printed(op[3], style, quote, depth + 1) + tag("endfor")
    made = ""
    for number, (condition, body) in enumerate(op[1]):
        word = "if" if not number else "elif" if condition else "else"
        made += tag(f"{word} {condition}".strip()) + _printed(body, style, quote, depth + 1)
    return made + tag("endif")


# ------------------------------------------------------------------------------------------------ writing

_ROLES = {
    "chatml": ("<|im_start|>{role}\n", "<|im_end|>", "\n"),
    "header": ("<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>", ""),
    "bare": ("<|{role}|>\n", "<|end|>", "\n"),
    "turns": ("<start_of_turn>{role}\n", "<end_of_turn>", "\n"),
    "square": ("[|{role}|]", "[|endofturn|]", "\n"),
    "inst": ("", "</s>", ""),
    "word": ("{Role}: ", "</s>", "\n\n"),
    "role": ("<role>{ROLE}</role>", "<|role_end|>", ""),
    "deep": ("<｜{Role}｜>", "<｜end▁of▁sentence｜>", ""),
}


#: The end of a sequence in the hand of templates that write `eos_token`.
EOS = "</s>"


class _Writer:
    def __init__(self, format: Format, seed: int) -> None:
        self.format = format
        self.random = random.Random(f"{format.name} {seed}")
        self.seed = seed
        pick = self.random.choice
        self.style = pick(("lines", "lines", "dashes", "inline"))
        self.quote = pick("'\"")
        self.brackets = pick((True, False))
        self.frame = pick(sorted(_ROLES))
        self.strips = pick((False, False, True))
        self.thought_key = pick(("reasoning_content", "reasoning_content", "reasoning", "thinking", "split"))
        self.empty_thought = pick((False, False, True))
        self.only_last_thought = pick((False, True))
        self.string_arguments = pick((False, True, True))
        self.whole_json = pick((False, False, True))
        self.macro_call = pick((False, False, True))
        self.namespaced = pick((False, True))
        self.separator = pick(("first", "last", "index"))
        self.system_default = pick((False, True))
        self.indent = pick((False, False, False, True))
        self.switch = pick((False, True))
        self.items = pick((".items()", "|items"))
        self.eos_variable = pick((False, True))
        self.lead_always = pick((False, False, False, True))
        self.line_before_each = pick((False, False, False, True))
        self.thought_always = pick((False, False, False, True))
        self.strips_thought = pick((False, True))
        self.needs_strings = pick((False,) * 9 + (True,))
        self.needs_parts = pick((False,) * 9 + (True,))
        self.checks_ids = pick((False,) * 9 + (True,))
        self.generation_tag = pick((False,) * 5 + (True,))
        self.swapped = pick((False, False, True))
        self.sorted = pick((False,) * 9 + (True,))
        self.behind = pick((False,) * 14 + (True,))
        ends = [end for end in format.ends if end.strip()]
        self.next_role = bool(ends) and ends[0] in ("<|user|>", "<|observation|>")
        self.opening, self.end, self.after = _ROLES[self.frame]
        if self.next_role:
            self.opening, self.end, self.after = "<|{role}|>" + pick(("\n", "")), "", ""
        elif ends and ends[0] not in ("Observation:", "✿RESULT✿"):
            self.end = ends[0]
        if format.between_messages:
            before = format.between_messages
            self.opening = before if "assistant" not in before else before.replace("assistant", "{role}")
            if "assistant" not in before:
                self.opening = "<|message_{role}|>"
            self.after = ""
            own = format.content.partition("{{text}}")[2].strip()
            self.message_end = own if own in format.ends or own.startswith("<|end") else self.end

    # -- names

    def key(self, owner: str, name: str) -> str:
        return f"{owner}[{_quoted(name, self.quote)}]" if self.brackets else f"{owner}.{name}"

    def header(self, role: str) -> str:
        if self.frame == "inst" and not self.next_role and not self.format.between_messages:
            return {"user": "[INST] ", "tool": "[TOOL_RESULTS] ", "system": "[SYSTEM_PROMPT]"}.get(role, "")
        if self.format.between_messages and "assistant" not in self.format.between_messages and role == "assistant":
            return self.format.between_messages
        words = {"{role}": role, "{Role}": role.capitalize(), "{ROLE}": role.upper()}
        if self.next_role and role == "tool":
            words["{role}"] = "observation"
        text = self.opening
        for word, value in words.items():
            text = text.replace(word, value)
        return text

    def closing(self, role: str) -> str:
        if self.next_role:
            return ""
        if self.format.between_messages:
            return self.message_end
        if self.frame == "inst":
            return {"user": " [/INST]", "tool": "[/TOOL_RESULTS]", "system": "[/SYSTEM_PROMPT]"}.get(role, self.end)
        return self.end + self.after

    # -- the template

    def written(self) -> Written:
        message_content = self.key("message", "content")
        role = self.key("message", "role")

        def says(name: str) -> str:
            return f"{role} == {_quoted(name, self.quote)}"

        shown = f"{message_content}[0].text" if self.needs_parts else message_content
        user: Ops = [("lit", self.header("user")), ("out", shown), ("lit", self.closing("user"))]
        system: Ops = [("lit", self.header("system")), ("out", shown), ("lit", self.closing("system"))]
        branches = [
            (says("user"), user),
            (f"{says('system')} and not loop.first" if self.system_default else says("system"), system),
            (says("assistant"), self.assistant()),
            (says("tool"), self.tool()),
        ]
        ops: Ops = [*self.macros(), *self.preamble()]
        if self.only_last_thought:
            ops += [("set", "ns", "namespace(last=-1)")]
            ops += [("for", "message", "messages", [("if", [(says("user"), [("set", "ns.last", "loop.index0")])])])]
        ops += [("for", "message", "messages", [("if", branches)])]
        prompt: Ops = [("lit", self.header("assistant"))]
        held = self.format.prefill
        closes = (self.format.reasoning or "").partition("{{text}}")
        if held and self.switch and self.format.reasoning and held.strip() == closes[0].strip():
            off = closes[0] + closes[2]
            prompt += [
                ("if", [("enable_thinking is defined and not enable_thinking", [("lit", off)]), ("", [("lit", held)])])
            ]
        elif held:
            prompt += [("lit", held)]
        elif self.switch and self.format.reasoning and not self.format.between_messages:
            off = closes[0] + closes[2]
            prompt += [("if", [("enable_thinking is defined and enable_thinking is false", [("lit", off)])])]
        ops += [("if", [("add_generation_prompt", prompt)])]
        source = _printed(ops, self.style, self.quote).lstrip("\n")
        return Written(source, self.closing("user") + self.header("assistant"), held, vars(self))

    def preamble(self) -> Ops:
        """System message and tools."""
        text = "You may call functions. Their signatures stand here:\n<tools>"
        tools: Ops = [("lit", self.header("system"))]
        first = "messages and messages[0].role == 'system'"
        if self.system_default:
            tools += [("if", [(first, [("out", "messages[0].content"), ("lit", "\n\n")])])]
        tools += [("lit", text), ("for", "tool", "tools", [("lit", "\n"), ("out", "tool | tojson")])]
        tools += [("lit", "\n</tools>"), ("lit", self.closing("system"))]
        branches: list[tuple[str, Ops]] = [("tools", tools)]
        if self.system_default:
            alone: Ops = [
                ("lit", self.header("system")),
                ("out", "messages[0].content"),
                ("lit", self.closing("system")),
            ]
            default: Ops = [("lit", self.header("system") + "You are a helpful assistant." + self.closing("system"))]
            branches += [(first, alone), ("", default)]
        ops: Ops = [("if", branches)]
        return [("out", "bos_token"), *ops] if self.seed % 2 else ops

    def tool(self) -> Ops:
        wrapped = self.seed % 3 == 1
        inner: Ops = [("out", self.key("message", "content") + ("[0].text" if self.needs_parts else ""))]
        if wrapped:
            inner = [("lit", "<tool_response>\n"), *inner, ("lit", "\n</tool_response>")]
        if self.format.ends[:1] in (("Observation:",), ("✿RESULT✿",)):
            return [("lit", f"\n{self.format.ends[0]} "), *inner, ("lit", "\n")]
        return [("lit", self.header("tool")), *inner, ("lit", self.closing("tool"))]

    # -- the assistant's turn

    def assistant(self) -> Ops:
        framed = bool(self.format.between_messages)
        ops: Ops = []
        content = self.key("message", "content")
        calls = self.key("message", "tool_calls")
        if self.needs_parts:
            ops += [("set", "content", f"{content}[0].text if {content} else ''")]
        else:
            ops += [("set", "content", f"{content} if {content} is string else ''")]
        thought = self.thought(ops)
        if self.strips:
            ops += [("set", "content", "content | trim")]
        if not framed:
            ops += [("lit", self.header("assistant"))]
        ops += thought
        said: Ops = [("lit", self.header("assistant"))] if framed else []
        before, _, after = self.format.content.partition("{{text}}")
        said += [("lit", before), ("out", "content"), ("lit", after)]
        said = [op for op in said if op != ("lit", "")]
        plain = self.format.content.strip() == "{{text}}"
        lead: Ops = [("lit", self.format.lead)] if plain and self.format.lead and not framed else []
        if lead and not self.lead_always:
            said += [("if", [(calls, lead)])]
        written: Ops = self.calls(calls)
        if lead and self.lead_always:
            written = [*lead, *written]
        if self.generation_tag:
            ops += [("generation", [("if", [("content", said)]), ("if", [(calls, written)])])]
        elif self.behind and plain and not framed and not self.format.lead and self.format.section[-2:] != "}}":
            ops += [("if", [(calls, written)]), ("if", [("content", said)])]
        else:
            ops += [("if", [("content", said)]), ("if", [(calls, written)])]
        if self.format.ends[:1] in (("Observation:",), ("✿RESULT✿",)):
            return [*ops, ("if", [(f"not {calls}", [("lit", self.end + self.after)])])]
        if not framed:
            closing = self.closing("assistant")
            if closing.startswith(EOS) and self.eos_variable:
                return [*ops, ("out", "eos_token"), *([("lit", rest)] if (rest := closing.removeprefix(EOS)) else [])]
            return [*ops, ("lit", closing)] if closing else ops
        return ops + self.framed_end(calls)

    def framed_end(self, calls: str) -> Ops:
        """The end of a turn of messages: a marker of its own, unless each message closes with one of the ends."""
        end = self.format.ends[0] if self.format.ends else ""
        closings = (self.format.content, self.format.call, self.format.section)
        if any(picture.rstrip().endswith(mark) for mark in self.format.ends for picture in closings):
            return []
        return [("lit", end)] if end and not self.next_role else []

    def thought(self, ops: Ops) -> Ops:
        if self.format.reasoning is None:
            return []
        before, _, after = self.format.reasoning.partition("{{text}}")
        opens, closes = _quoted(before.strip(), self.quote), _quoted(after.strip(), self.quote)
        if self.thought_key == "split" and before.strip() and after.strip():
            own = [
                ("set", "thought", f"content.split({closes})[0].split({opens})[-1] | trim"),
                ("set", "content", f"content.split({closes})[-1].lstrip({_quoted(chr(10), self.quote)})"),
            ]
            given = self.key("message", "reasoning_content")
            ops += [("set", "thought", "''")]
            ops += [("if", [(f"{given} is string", [("set", "thought", given)]), (f"{closes} in content", own)])]
        else:
            key = "reasoning_content" if self.thought_key == "split" else self.thought_key
            self.thought_key = key
            ops += [("set", "thought", f"message.{key} if message.{key} is defined and message.{key} else ''")]
        text = "thought | trim" if self.strips_thought else "thought"
        written: Ops = [("lit", before), ("out", text), ("lit", after)]
        if self.format.between_messages:
            written = [("lit", self.header("assistant")), *written]
        written = [op for op in written if op != ("lit", "")]
        condition = "thought and loop.index0 > ns.last" if self.only_last_thought else "thought"
        branches: list[tuple[str, Ops]] = [(condition, written)]
        prefilled = bool(self.format.prefill.strip()) and self.format.prefill.strip() == before.strip()
        wanted = (self.empty_thought and prefilled) or (self.thought_always and before.strip() and after.strip())
        if wanted and not self.format.between_messages:
            branches += [("", [("lit", before + after)])]
        return [("if", branches)]

    # -- calls

    def calls(self, calls: str) -> Ops:
        format = self.format
        framed = format.between_messages and format.section == "{{calls}}"
        head, _, tail = format.section.partition("{{calls}}")
        if format.between_messages and not framed:
            head = self.header("assistant") + head
        one: Ops = (
            [("out", "written_call(call, f, loop.index0)")] if self.macro_call and format.parallel else self.call()
        )
        if framed:
            one = [("lit", self.header("assistant")), *one]
        each: Ops = [("set", "f", "call.function")]
        if self.seed % 4 == 1:
            each = [("if", [("call.function", [("set", "call", "call.function")])]), ("set", "f", "call")]
            if "{{id}}" in format.call and not format.id:
                each = [("set", "f", "call.function")]
        if self.checks_ids and not format.id:
            wrong = f"{self.key('call', 'id')} is not defined or {self.key('call', 'id')} | length != 9"
            each = [("if", [(wrong, [("out", "raise_exception('Tool call ids must have 9 characters!')")])]), *each]
            if self.seed % 4 == 1:
                each = [*each[:1], ("set", "f", "call.function")]
        between = format.between if not framed else ""
        if self.line_before_each and between == "\n" and not head and not framed and not self.format.lead:
            one, between = [("lit", "\n"), *one], ""
        if not format.parallel:
            return [("set", "call", f"{calls}[0]"), *each, ("lit", head), *one, *([("lit", tail)] if tail else [])]
        if self.whole_json and self.dumps_whole() and head and tail.strip():
            lists = f"{calls} | map(attribute='function') | list | tojson"
            return [("lit", head.removesuffix("[")), ("out", lists), ("lit", tail.removeprefix("]"))]
        body: Ops = [*each]
        if between and self.separator != "last":
            test = "not loop.first" if self.separator == "first" else "loop.index0 > 0"
            body += [("if", [(test, [("lit", between)])])]
        body += one
        if between and self.separator == "last":
            body += [("if", [("not loop.last", [("lit", between)])])]
        ops: Ops = [("lit", head)] if head else []
        ops += [("for", "call", calls, body)]
        return [*ops, ("lit", tail)] if tail else ops

    def dumps_whole(self) -> bool:
        plain = self.format.call.replace(" ", "") == '{"name":{{name}},"arguments":{{arguments}}}'
        ends = self.format.section.partition("{{calls}}")
        return plain and ends[0].endswith("[") and ends[2].startswith("]") and self.format.between == ", "

    def number(self) -> str:
        return "number" if self.macro_call and self.format.parallel else "loop.index0"

    def call(self) -> Ops:
        picture = self.format.picture("call", self.format.call, CALL_HOLES, frozenset())
        ops: Ops = []
        for part in picture.parts:
            if isinstance(part, Text):
                ops.append(("lit", part.text))
            else:
                ops += self.wrapper(part) if isinstance(part, Wrapper) else self.hole(part)
        return _merged(ops)

    def hole(self, part: Hole) -> Ops:
        if part.name == "name":
            return [("out", self.escaped(self.key("f", "name")))]
        if part.name == "index":
            return [("out", f"{self.number()} + {part.spec}" if int(part.spec or 0) else self.number())]
        if part.name == "id":
            if self.format.id is None:
                return [("out", self.key("call", "id"))]
            before, _, rest = self.format.id.partition("{{name}}")
            between, _, after = rest.partition("{{index}}")
            made: Ops = [("lit", before), ("out", self.key("f", "name")), ("lit", between), ("out", self.number())]
            return [*made, ("lit", after)] if after else made
        if part.name == "arguments":
            return self.value_of_arguments()
        if part.name == "kwargs":
            return self.kwargs()
        if part.name == "params":
            return self.params()
        return []

    def value_of_arguments(self) -> Ops:
        arguments = self.key("f", "arguments")
        if self.format.syntax.bare_keys:
            return [("out", f"literal({arguments}, true)")]
        if not self.format.syntax.is_json:
            return [("out", arguments)]
        dumped = self.dumped(arguments)
        if self.needs_strings:
            return [("out", arguments)]
        if not self.string_arguments:
            return [("out", dumped)]
        return [("if", [(f"{arguments} is string", [("out", arguments)]), ("", [("out", dumped)])])]

    def dumped(self, value: str) -> str:
        if self.format.syntax.colon == ":":
            return f"{value} | tojson(separators=(',', ':'))"
        if self.indent and not self.format.syntax.bare_keys:
            return f"{value} | tojson(indent=4)"
        return f"{value} | tojson"

    def wrapper(self, wrapper: Wrapper) -> Ops:
        ops: Ops = []
        quote = '"' if self.format.syntax.is_json else "'"
        for number, part in enumerate(wrapper.parts):
            if isinstance(part, Text):
                encoded = wrapper.encoded and ops and ops[-1][0] == "out" and "tojson" in ops[-1][1]
                ops.append(("lit", part.text[1:] if encoded else part.text))
                continue
            before = wrapper.parts[number - 1] if number else None
            quoted = isinstance(before, Text) and before.text[-1:] in ("'", '"')
            if part.name == "arguments":
                if quoted:
                    ops[-1] = ("lit", ops[-1][1][:-1])
                    ops.append(("out", self.key("f", "arguments") + " | tojson | tojson"))
                else:
                    ops += self.value_of_arguments()
                continue
            value = self.key("f", "name") if part.name == "name" else self.key("call", "id")
            if part.name == "id" and self.format.new_id == "{{index}}":
                value = self.number()
            own: Ops = [("out", value)] if quoted else [("lit", quote), ("out", value), ("lit", quote)]
            ops += own
        return ops

    def escaped(self, value: str) -> str:
        for char, entity in self.format.escapes:
            value += f" | replace({_quoted(char, self.quote)}, {_quoted(entity, self.quote)})"
        return value

    def kwargs(self) -> Ops:
        comma: Op = ("if", [("not loop.first", [("lit", self.format.syntax.comma)])])
        pair: Ops = [comma, ("out", "key"), ("lit", "="), ("out", "literal(value)")]
        return [("for", "key, value", f"{self.key('f', 'arguments')}.items()", pair)]

    def params(self) -> Ops:
        arguments = self.key("f", "arguments")
        if self.format.item is not None:
            return [("out", f"elements({arguments})")]
        iterable = f"{arguments}|dictsort" if self.sorted else arguments + self.items
        return [("for", "key, value", iterable, self.param(self.value_text()))]

    def value_text(self) -> Ops:
        syntax = self.format.syntax
        others: Ops = [("out", "value | tojson")]
        if (syntax.true, syntax.null) == ("True", "None"):
            simple: Ops = [("out", "value | string")]
            others = [("if", [("value is mapping or value is sequence", others), ("", simple)])]
            if syntax.quotes[:1] == ("'",):
                others = simple
        text: Ops = [("out", "value")]
        if self.format.wrap is not None:
            before, _, after = self.format.wrap.partition("{{value}}")
            tests = " or ".join(f"{_quoted(char, self.quote)} in value" for char in self.format.wrap_when)
            text = [("if", [(tests, [("lit", before), ("out", "value"), ("lit", after)]), ("", text)])]
        return [("if", [("value is string", text), ("", others)])]

    def param(self, inside: Ops, *, item: bool = False) -> Ops:
        source = self.format.item if item else self.format.param
        assert source is not None
        picture = self.format.picture("param", source, PARAM_HOLES, frozenset())
        ops: Ops = []
        for part in picture.parts:
            if isinstance(part, Text):
                ops.append(("lit", part.text))
            elif isinstance(part, Hole) and part.name == "key":
                ops.append(("out", self.escaped("key")))
            elif isinstance(part, Hole) and part.name == "value":
                ops += inside
            elif isinstance(part, Hole) and part.name == "type":
                ops.append(self.type_word())
        return _merged(ops)

    def type_word(self) -> Op:
        types = dict(self.format.types or ())
        tests = {
            "string": "value is string",
            "boolean": "value is boolean",
            "integer": "value is integer",
            "number": "value is float",
            "null": "value is none",
            "object": "value is mapping",
            "array": "value is sequence",
        }
        branches: list[tuple[str, Ops]] = [
            (test, [("lit", types[kind])]) for kind, test in tests.items() if kind in types
        ]
        if "*" in types:
            branches.append(("", [("lit", types["*"])]))
        return ("if", branches)

    # -- macros

    def macros(self) -> Ops:
        ops: Ops = []
        format = self.format
        if format.syntax.bare_keys or "{{kwargs}}" in format.call:
            ops.append(("macro", "literal(value, top=false)", self.literal()))
        if format.item is not None and format.param is not None:
            items: Op = ("for", "value", "value", self.param([("out", "element(value)")], item=True))
            branches = [
                ("value is mapping", [("out", "elements(value)")]),
                ("value is sequence and value is not string", [items]),
                ("", self.value_text()),
            ]
            ops.append(("macro", "element(value)", [("if", branches)]))
            each = self.param([("out", "element(value)")])
            ops.append(("macro", "elements(values)", [("for", "key, value", "values.items()", each)]))
        if self.macro_call and format.parallel:
            ops.append(("macro", "written_call(call, f, number)", self.call()))
        return ops

    def literal(self) -> Ops:
        syntax = self.format.syntax
        quote = syntax.quotes[0]
        text: Ops = [("lit", quote), ("out", "value"), ("lit", quote)]
        if syntax.escapes:
            text = [("out", "value | tojson")]
            if quote == "'":
                text = [("out", "([value] | string)[1:-1]")] if self.seed % 2 else text
        items = "value | dictsort" if syntax.sort_keys else "value.items()"
        key: Ops = [("out", "key")] if syntax.bare_keys else [("out", "key | tojson")]
        if quote == "'":
            key = [("out", "([key] | string)[1:-1]")]
        comma: Op = ("if", [("not loop.first", [("lit", syntax.comma)])])
        pairs: Ops = [comma, *key, ("lit", syntax.colon), ("out", "literal(value)")]
        each: Op = ("for", "value", "value", [comma, ("out", "literal(value)")])
        branches = [
            ("value is string", text),
            ("value is boolean", [("if", [("value", [("lit", syntax.true)]), ("", [("lit", syntax.false)])])]),
            ("value is none", [("lit", syntax.null)]),
            ("value is mapping", [("lit", "{"), ("for", "key, value", items, pairs), ("lit", "}")]),
            ("value is sequence", [("lit", "["), each, ("lit", "]")]),
            ("", [("out", "value")]),
        ]
        return [("if", branches)]


def _merged(ops: Sequence[Op]) -> Ops:
    made: Ops = []
    for op in ops:
        if op[0] == "lit" and made and made[-1][0] == "lit":
            made[-1] = ("lit", made[-1][1] + op[1])
        elif op != ("lit", ""):
            made.append(op)
    return made


# ------------------------------------------------------------------------------------------------ families nobody knows


def foreign(format: Format, seed: int) -> Format:
    """A format like this one that no family has: other markers, keys, separators, in the hand of a seed."""
    chance = random.Random(f"foreign {format.name} {seed}")
    pick = chance.choice
    prefix = pick(("zq", "x-", "Q_", "kr:"))

    def renamed(text: str) -> str:
        text = re.sub(r"<(/?)([|｜]?)(?=[A-Za-z])", lambda found: f"<{found[1]}{found[2]}{prefix}", text)
        text = re.sub(r"\[(/?)([A-Z_]{3,})\]", lambda found: f"[{found[1]}ZQ_{found[2]}]", text)
        return text.replace("functools", "helpers").replace("Action", "Deed").replace("✿", "❀")

    changes: dict[str, Any] = {}
    for name in PICTURED:
        value = getattr(format, name)
        if isinstance(value, str):
            changes[name] = renamed(value)
        elif value:
            changes[name] = tuple(renamed(text) for text in value)
    changes.update(also=(), name=f"foreign-{format.name}", aliases=(), wrap=format.wrap)
    call = changes["call"]
    keys = pick((("name", "arguments"), ("tool", "params"), ("function", "args"), ("fn", "kwargs"), ("n", "a")))
    for old in ("tool_name", "name"):
        call = call.replace(f'"{old}": {{{{name}}}}', f'"{keys[0]}": {{{{name}}}}')
    for old in ("arguments", "parameters", "args"):
        call = call.replace(f'"{old}": {{{{arguments}}}}', f'"{keys[1]}": {{{{arguments}}}}')
    whole = f'{{"{keys[0]}": {{{{name}}}}, "{keys[1]}": {{{{arguments}}}}}}'
    if whole in call:
        other = pick(
            (
                whole,
                whole,
                f'{{"{keys[1]}": {{{{arguments}}}}, "{keys[0]}": {{{{name}}}}}}',
                f'{{"type": "function", "{keys[0]}": {{{{name}}}}, "{keys[1]}": {{{{arguments}}}}}}',
                f'{{"type": "function", "function": {whole}}}',
                f'{{"id": {{{{id}}}}, "{keys[0]}": {{{{name}}}}, "{keys[1]}": {{{{arguments}}}}}}',
                f'{{"{keys[0]}":{{{{name}}}},"{keys[1]}":{{{{arguments}}}}}}',
                f'{{\n  "{keys[0]}": {{{{name}}}},\n  "{keys[1]}": {{{{arguments}}}}\n}}',
                whole.replace("{{arguments}}", '"{{arguments}}"'),
                '{"{{name}}": {{arguments}}}',
            )
        )
        call = call.replace(whole, other)
    changes.update(call=call, synonyms=(), no_call=())
    if not format.between_messages and format.call == format.call.strip():
        if format.section.strip() != "{{calls}}" and "{{arguments}}" in call and "[" in format.section:
            changes["between"] = pick((", ", ",", ",\n", ",\n    "))
        elif is_closed(call):
            changes["between"] = pick(("", "\n", "\n\n", " "))
        if changes["lead"] == "" or not changes["lead"].strip():
            changes["lead"] = pick(("", "\n", "\n\n", " "))
    if format.reasoning and not format.between_messages and not format.prefill:
        before, _, after = changes["reasoning"].partition("{{text}}")
        line = pick(("", "\n"))
        changes["reasoning"] = f"{before.strip()}{line}{{{{text}}}}{line}{after.strip()}" + pick(("", "\n", "\n\n"))
    return dataclasses.replace(format, **changes)


def is_closed(call: str) -> bool:
    """Whether a call ends with a marker."""
    return call.rstrip().endswith((">", "]"))
