"""What real templates write is accepted by the grammar of the format that was found in them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.templates_at_hand import real_templates
from toolparse import detect
from toolparse.errors import ExportError
from toolparse.export import grammar
from toolparse.parser import Parser
from toolparse.templates.judging import detection_store, proof

TEMPLATES = real_templates()
#: Turns that a template writes and its grammar refuses, with the reason.
REFUSED = {
    ("tool_chat_template_llama4_pythonic", ""): "quotes that are not escaped",
    ("tool_chat_template_llama3.2_pythonic", ""): "text stands without quotes: refused at export",
    ("lfm2_2_5", "awkward"): "quotes that are not escaped",
    ("lfm2_2_5_v2", "awkward"): "quotes that are not escaped",
    ("unsloth-Apriel-1.5", "reasoning, content, calls"): "the template writes content before the thought",
}

Turns = list[tuple[Any, proof.Case, str, str]]


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    """The turns that detection tries, as (format, case, text, prefill); nothing is remembered."""
    seen: Turns = []
    check = proof.Prover.check

    def watched(self: proof.Prover, case: proof.Case) -> Any:
        full = self.prober.full(case.turn, **case.switches)
        if full is not None:
            seen.append((self.format, case, *self.completion(full)))
        return check(self, case)

    monkeypatch.setattr(proof.Prover, "check", watched)
    monkeypatch.setattr(detection_store, "read_cache", lambda *_: None)
    detection_store.forget()
    return seen


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_what_a_template_writes_is_accepted(name: str, turns: Turns) -> None:
    engine = pytest.importorskip("llguidance", reason="llguidance is not installed (the extra [grammar])")
    found = detect(TEMPLATES[name])
    if found.format is None or not hasattr(found.format, "call"):
        pytest.skip("no format is found in this template")
    tokenizer = engine.LLTokenizer("byte")
    tried = 0
    for format, case, text, prefill in turns:
        if format != found.format or not case.turn.calls or case.name == "closing marker":
            continue
        if (name, "") in REFUSED or (name, case.name) in REFUSED:
            continue
        tools = proof._tools_of(case.turn)
        read = Parser(format, prefill=prefill).parse(text, tools=tools)
        if not read.tool_calls or not all(call.ok for call in read.tool_calls):
            continue
        try:
            lark = grammar(format, tools, syntax="lark", prefill=prefill)
        except ExportError as error:
            pytest.fail(str(error))
        last = max(text.rfind(call.name) for call in read.tool_calls)
        ends = [(at, end) for end in format.bind("").ends if (at := text.find(end, last)) >= 0]
        whole = [text] if not ends else [text[: min(ends)[0]], text[: min(ends)[0] + len(min(ends)[1])]]
        tried += 1
        assert any(_accepted(engine, tokenizer, lark, one) for one in whole), (case.name, whole[0])
    assert tried or name in {template for template, _ in REFUSED} or found.how != "behaviour"


def _accepted(engine: Any, tokenizer: Any, lark: str, text: str) -> bool:
    matcher = engine.LLMatcher(tokenizer, engine.LLMatcher.grammar_from_lark(lark))
    ids = list(text.encode())
    return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())
