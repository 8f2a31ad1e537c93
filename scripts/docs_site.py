"""The site's pages that do not lie in docs/, and their order: a hook of MkDocs, see mkdocs.yml.

README.md is the front page, CHANGELOG.md and its neighbours are pages; links between them and docs/ are turned to
where the pages are then, links to other files of the repository become plain text. A page that is not named in ORDER
stands under "More".
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent

#: Pages from outside of docs/: what they are called on the site.
OUTSIDE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
OUTSIDE |= {"SECURITY.md": "security.md"}

ORDER = {
    "Reading": ["results", "streaming", "corpora", "tools", "differences", "limits"],
    "Formats": ["families", "detection", "pictures", "export"],
    "Serving": ["serving"],
    "Training": ["training", "trl", "stock-loop", "scaling"],
    "Why": ["comparison", "performance"],
    "Reference": ["api", "glossary", "changelog"],
    "The project": ["architecture", "contributing", "security", "releasing"],
}

_LINK = re.compile(r"\]\((?![a-z]+:)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside of docs/, and put all of them in order."""
    for name, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    pages = sorted(file.src_uri for file in files.documentation_pages())
    named = {f"{name}.md": title for title, names in ORDER.items() for name in names}
    nav: list[Any] = [{"Start": "index.md"}]
    nav += [{title: [f"{name}.md" for name in names if f"{name}.md" in pages]} for title, names in ORDER.items()]
    left = [page for page in pages if page not in named and page != "index.md" and "/" not in page]
    nav += [{"More": left}] if left else []
    folders = sorted({page.split("/")[0] for page in pages if "/" in page})
    for folder in folders:
        inner = sorted(page for page in pages if page.startswith(f"{folder}/"))
        nav.append({folder.capitalize(): sorted(inner, key=lambda page: not page.endswith("README.md"))})
    config.nav = nav
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001 - MkDocs gives it
    """Turn the page's links to where its targets are on the site."""
    here = page.file.src_uri
    places = {page: name for name, page in OUTSIDE.items()}
    source = places.get(here, f"docs/{here}")

    def turned(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        there = OUTSIDE.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
        if there is None or files.get_file_from_path(there) is None:
            return f"]({link[1]}{link[2] or ''})" if not (ROOT / target).exists() else "]{.file}"
        return f"]({posixpath.relpath(there, posixpath.dirname(here) or '.')}{link[2] or ''})"

    text = _LINK.sub(turned, markdown)
    return re.sub(r"\[([^\[\]]*)\]\{\.file\}", r"\1", text)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001 - MkDocs gives them
    """In code in tables GitHub takes `\\|` for a bar, Python-Markdown for two characters."""
    return re.sub(r"<td.*?</td>", lambda cell: cell[0].replace("\\|", "|"), html, flags=re.DOTALL)
