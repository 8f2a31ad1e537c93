"""The laws for every format that detection makes of a real template at hand, where that is none of the registered."""

from __future__ import annotations

from functools import cache

import pytest

import toolparse
from tests.places import NO_SHARED, real_template_files, shared_folder, template_id
from tests.test_laws import FACTOR
from toolparse import registry, testing
from toolparse.format import Format


def _files() -> dict[str, str]:
    """Real templates by name, the newer ones too; each text once."""
    shared = shared_folder()
    newer = sorted((shared / "new_templates").glob("*.jinja")) if shared else []
    found: dict[str, str] = {}
    for path in [*real_template_files(), *newer]:
        text = path.read_text(encoding="utf-8")
        if text not in found.values():
            found[template_id(path)] = text
    return found


FILES = _files()


@cache
def induced() -> dict[str, Format]:
    """The formats by the name of the first template that they were made of."""
    known = set(registry.formats())
    found: dict[str, Format] = {}
    for name, text in FILES.items():
        format = toolparse.detect(text).format
        if isinstance(format, Format) and format not in known:
            known.add(format)
            found[name] = format
    return found


EXAMPLES = {"round trip": 150, "chunking": 150, "event grammar": 100}

pytestmark = [pytest.mark.real, pytest.mark.law, pytest.mark.skipif(not FILES, reason=NO_SHARED)]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("law", testing.LAWS)
def test_the_laws_hold(law: str, name: str) -> None:
    format = induced().get(name)
    if format is None:
        pytest.skip("this template is read as a registered format, as another one of these, or not at all")
    testing.LAWS[law](format, max_examples=max(5, int(EXAMPLES.get(law, 50) * FACTOR)))
