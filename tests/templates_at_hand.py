"""Real chat templates for tests, where this machine has them, and ways to change a template without its behaviour."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT, shared_folder, trl_templates_folder

FIXTURES = ROOT / "fixtures" / "templates"


def real_templates() -> dict[str, str]:
    """Every real template at hand by name, each text once."""
    found: dict[str, str] = {}
    for file in _files():
        text = file.read_text(encoding="utf-8")
        if text not in found.values():
            found[file.stem] = text
    return found


def _files() -> Iterator[Path]:
    shared, trl = shared_folder(), trl_templates_folder()
    for folder in (shared / "templates" if shared else None, trl):
        if folder is not None:
            yield from sorted(folder.glob("*.jinja"))


def fixture_templates() -> dict[str, str]:
    """The project's own templates by family."""
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted(FIXTURES.glob("*.jinja"))}


def renamed_markers(text: str) -> str:
    """The template with every marker called otherwise, so that no known family fits it."""
    text = re.sub(r"<(/?)([|｜]?)(?=[A-Za-z])", lambda found: f"<{found[1]}{found[2]}zq", text)
    return re.sub(r"\[(/?)([A-Z_]{3,})\]", lambda found: f"[{found[1]}ZQ{found[2]}]", text)


def with_comment(text: str) -> str:
    """The template with a comment before it."""
    return "{#- a fine-tune's own copy -#}" + text


_BLOCK = re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)
_QUOTED_OR_NAME = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|(?<!\.)\bmessage\b", re.DOTALL)


def with_renamed_variable(text: str) -> str:
    """The template with its loop variable called otherwise, if it is called `message`."""

    def rename(block: re.Match[str]) -> str:
        return _QUOTED_OR_NAME.sub(lambda found: "zq_one" if found[0] == "message" else found[0], block[0])

    return _BLOCK.sub(rename, text)


def with_dead_branch(text: str) -> str:
    """The template with a branch that is never taken."""
    return "{%- if zq_never is defined -%}{{ raise_exception('never') }}{%- endif -%}" + text


def with_system_prompt(text: str) -> str:
    """The template with something written before everything."""
    return "You are a helpful assistant of the second kind.\n" + text


MUTATIONS = {
    "comment": with_comment,
    "renamed variable": with_renamed_variable,
    "dead branch": with_dead_branch,
    "system prompt": with_system_prompt,
}
