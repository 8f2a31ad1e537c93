"""Real chat templates for tests, where this machine has them, and ways to change a template without its behaviour."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import nodes

from tests.places import ROOT, real_template_files
from toolparse.templates.rendering.environment import environment

#: Templates that without thoughts still write what stands around them, so that it is taken for content's frame, or whose
#: thoughts alone show where one message ends and the next begins. Known families are found all the same.
SHAPED_BY_THOUGHTS = {
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
    "glm4moe_training",
    "gptoss",
    "gptoss_training",
    "muse_glimmer",
    "muse_glimmer_training",
    "qwen3_5_think",
    "qwen3_6",
    "tool_chat_template_gemma4",
    "tool_chat_template_muse_glimmer",
}

FIXTURES = ROOT / "fixtures" / "templates"


def real_templates() -> dict[str, str]:
    """Every real template at hand by name, each text once."""
    found: dict[str, str] = {}
    for file in real_template_files():
        text = file.read_text(encoding="utf-8")
        if text not in found.values():
            found[file.stem] = text
    return found


def fixture_templates() -> dict[str, str]:
    """The project's own templates by family."""
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted(FIXTURES.glob("*.jinja"))}


class Tokenizer:
    """A tokenizer by the attributes that detection looks at."""

    def __init__(self, template: Any = None, added: tuple[str, ...] = (), **attributes: Any) -> None:
        self.chat_template = template
        self.added = added
        vars(self).update(attributes)

    def get_added_vocab(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.added)}


def renamed_markers(text: str) -> str:
    """The template with every marker called otherwise, so that no known family fits it."""
    text = re.sub(r"<(/?)([|｜]?)(?=[A-Za-z])", lambda found: f"<{found[1]}{found[2]}zq", text)
    return re.sub(r"\[(/?)([A-Z_]{3,})\]", lambda found: f"[{found[1]}ZQ{found[2]}]", text)


def with_comment(text: str) -> str:
    """The template with a comment before it."""
    return "{#- a fine-tune's own copy -#}" + text


_BLOCK = re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)
_QUOTED_OR_NAME = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|(?<!\.)\b[A-Za-z_]\w*\b", re.DOTALL)


def _with_names(text: str, names: Mapping[str, str]) -> str:
    """The template with names in its code (not in its texts, nor behind a dot) called otherwise."""

    def rename(block: re.Match[str]) -> str:
        return _QUOTED_OR_NAME.sub(lambda found: names.get(found[0], found[0]), block[0])

    return _BLOCK.sub(rename, text)


def with_renamed_variables(text: str) -> str:
    """The template with every variable of a loop called otherwise, but for those that are also keywords of a call."""
    tree = environment().parse(text)
    bound = {name.name for loop in tree.find_all(nodes.For) for name in loop.target.find_all(nodes.Name)}
    bound |= {loop.target.name for loop in tree.find_all(nodes.For) if isinstance(loop.target, nodes.Name)}
    bound -= {keyword.key for keyword in tree.find_all(nodes.Keyword)}
    bound -= {"messages", "tools"}
    return _with_names(text, {name: f"zq_{name}" for name in bound})


def with_more_blanks(text: str) -> str:
    """The template with blanks and line breaks inside its tags."""

    def spread(block: re.Match[str]) -> str:
        found = re.fullmatch(r"(\{[{%][-+]?)(.*?)([-+]?[%}]\})", block[0], re.DOTALL)
        assert found is not None
        return f"{found[1]}  \n {found[2]} \n  {found[3]}"

    return _BLOCK.sub(spread, text)


_TAG = re.compile(r"\{#.*?#\}|(\{%[-+]?)\s*(\w+)(.*?)([-+]?%\})", re.DOTALL)


def with_swapped_branches(text: str) -> str:
    """The template with the branches of every plain if and else exchanged, and their conditions turned round."""
    return _swapped(text, 0, len(text))


def _swapped(text: str, start: int, end: int) -> str:
    """A stretch of the template; what is trimmed around each branch stays with the branch."""
    made, at = [], start
    while True:
        opening = _next_tag(text, at, end, ("if",))
        if opening is None:
            return "".join([*made, text[at:end]])
        tags = [opening, *_tags_of(text, opening.end(), end)]
        made.append(text[at : opening.start()])
        inner = [_swapped(text, one.end(), other.start()) for one, other in itertools.pairwise(tags)]
        if [tag[2] for tag in tags] == ["if", "else", "endif"]:
            first, middle, last = tags
            made += [f"{first[1]} if not ({first[3]}) {middle[4]}", inner[1], f"{last[1]} else {first[4]}", inner[0]]
            made.append(f"{middle[1]} endif {last[4]}")
        else:
            made += [part for tag, body in zip(tags, [*inner, ""], strict=True) for part in (tag[0], body)]
        at = tags[-1].end()


def _next_tag(text: str, at: int, end: int, names: tuple[str, ...]) -> re.Match[str] | None:
    return next((tag for tag in _TAG.finditer(text, at, end) if tag[2] in names), None)


def _tags_of(text: str, at: int, end: int) -> Iterator[re.Match[str]]:
    """The tags that belong to the `if` that was opened before `at`, its end included."""
    open_blocks = ["if"]
    for tag in _TAG.finditer(text, at, end):
        if tag[2] in ("if", "for"):
            open_blocks.append(tag[2])
        elif tag[2] in ("endif", "endfor"):
            open_blocks.pop()
            if not open_blocks:
                yield tag
                return
        elif tag[2] in ("elif", "else") and open_blocks == ["if"]:
            yield tag


def with_another_date(text: str) -> str:
    """The template with the dates that it holds changed, and today's date written in another form."""
    text = re.sub(r"\b\d{1,2} (?:Jan|Jul|Dec)[a-z]* 20\d\d\b", "3 Feb 2031", text)
    text = re.sub(r"\b20\d\d-\d\d(-\d\d)?\b", lambda found: "2031-02" + ("-03" if found[1] else ""), text)
    text = re.sub(r"\b(?:December|June) 20\d\d\b", "March 2031", text)
    return re.sub(r"strftime_now\(([\"'])[^\"']*%Y[^\"']*\1\)", r"strftime_now(\1%A, %d.%m.%Y\1)", text)


_THOUGHTS = frozenset(("reasoning_content", "reasoning", "thinking"))
_FEATURES = frozenset(("documents", "builtin_tools", "custom_tools", "citations", "date_string", "enable_thinking"))
_LITERAL_OR_NAME = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\b[A-Za-z_]\w*\b", re.DOTALL)


def _without(text: str, names: frozenset[str]) -> str:
    """The template that looks for some variables and keys under names that nobody passes."""

    def rename(found: re.Match[str]) -> str:
        bare = found[0].strip("'\"")
        return found[0].replace(bare, f"zq_{bare}") if bare in names else found[0]

    return _BLOCK.sub(lambda block: _LITERAL_OR_NAME.sub(rename, block[0]), text)


def without_features(text: str) -> str:
    """The template without documents, tools of the house, a date that is passed, a switch for thinking."""
    return _without(text, _FEATURES)


def without_thoughts(text: str) -> str:
    """The template that writes no thoughts, though it may still write what stands around them."""
    return _without(text, _THOUGHTS)


def with_dead_branch(text: str) -> str:
    """The template with a branch that is never taken."""
    return "{%- if zq_never is defined -%}{{ raise_exception('never') }}{%- endif -%}" + text


def with_system_prompt(text: str) -> str:
    """The template with something written before everything."""
    return "You are a helpful assistant of the second kind.\n" + text


MUTATIONS = {
    "comment": with_comment,
    "blanks": with_more_blanks,
    "swapped branches": with_swapped_branches,
    "renamed variables": with_renamed_variables,
    "dead branch": with_dead_branch,
    "system prompt": with_system_prompt,
    "another date": with_another_date,
    "dropped features": without_features,
    "dropped thoughts": without_thoughts,
}
