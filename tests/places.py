"""Where this machine has real templates, collected outputs and real tokenizers, if it has them: for tests and scripts."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def shared_folder() -> Path | None:
    """The folder of real templates and collected outputs, if this machine has it (`TOOLPARSE_SHARED`)."""
    override = os.environ.get("TOOLPARSE_SHARED")
    folder = Path(override) if override else ROOT.parent / "shared"
    return folder if (folder / "templates").is_dir() else None


NO_SHARED = "no folder of real templates and outputs: set TOOLPARSE_SHARED"


def trl_templates_folder() -> Path | None:
    """The chat templates that the installed trl ships; trl itself is not imported."""
    spec = importlib.util.find_spec("trl")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location) / "chat_templates"
        if folder.is_dir():
            return folder
    return None


def real_template_files() -> list[Path]:
    """Every real template within reach, for `pytest.mark.parametrize`; empty where there is none."""
    shared, trl = shared_folder(), trl_templates_folder()
    folders = [*([shared / "templates"] if shared else []), *([trl] if trl else [])]
    return [path for folder in folders for path in sorted(folder.glob("*.jinja"))]


def template_id(path: Path) -> str:
    return f"{'trl' if path.parent.name == 'chat_templates' else 'shared'}:{path.stem}"


def tokenizers_folder() -> Path:
    override = os.environ.get("TOOLPARSE_TOKENIZERS")
    return Path(override) if override else ROOT / ".cache" / "tokenizers"
