"""For how many real templates that write calls SGLang's `--tool-call-parser auto` names a parser.

    python scripts/sglang_auto.py [FOLDER]

FOLDER has SGLang's files (`.cache/servers`, made by `make servers`); of them the rules alone are loaded. They look at
the template and at the vocabulary, for which the markers that the template contains stand here. Whether a parser that
is named reads the template's calls is not looked at.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from template_table import templates  # noqa: E402

from fixtures.tiny import markers_of  # noqa: E402
from toolparse import detect  # noqa: E402

RULES = "sglang/srt/parser/template_detection.py"


class Tokenizer:
    """What the rules ask a tokenizer."""

    def __init__(self, template: str) -> None:
        self.chat_template = template

    def get_vocab(self) -> dict[str, int]:
        return {marker: at for at, marker in enumerate(markers_of(self.chat_template))}


def rules(folder: Path) -> Any:
    """SGLang's module, without the server that it imports."""
    for name, parts in {
        "muse_spark_hook": ("muse_spark_chat_template_default",),
        "overrides": ("declare_resolution", "resolving_view"),
    }.items():
        module = types.ModuleType(f"sglang.srt.arg_groups.{name}")
        vars(module).update(dict.fromkeys(parts))
        sys.modules[module.__name__] = module
    spec = importlib.util.spec_from_file_location("template_detection", folder / RULES)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".cache" / "servers"
    if not (folder / RULES).is_file():
        print(f"no {RULES} in {folder}: make servers", file=sys.stderr)
        return 2
    theirs = rules(folder)
    count = named = 0
    for name, text in templates(()):
        if detect(text).message_style is None:
            continue
        forced, reasoning = theirs.detect_reasoning_pattern(text)
        found = theirs.detect_tool_call_parser(text, Tokenizer(text), reasoning, forced)
        count, named = count + 1, named + (found is not None)
        print(f"{name}\t{found or '-'}")
    print(f"{count} templates write tool calls; for {named} a parser is named.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
