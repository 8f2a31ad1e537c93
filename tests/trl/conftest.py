"""Fixtures of the tests of trl_integration."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from trl_integration.messages import Renderer


class _Still(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> _Still:
        return cls(2024, 5, 17, 12, 0, 0, tzinfo=tz)


@pytest.fixture
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates that write the time write the same one in every render."""
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", _Still)


@pytest.fixture
def renders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any, str]]:
    """Every render from now on: the messages, the tools and the text."""
    seen: list[tuple[Any, Any, str]] = []
    render = Renderer.render

    def counting(self: Renderer, messages: Any, tools: Any = (), **options: Any) -> str:
        text = render(self, messages, tools, **options)
        seen.append((messages, tools, text))
        return text

    monkeypatch.setattr(Renderer, "render", counting)
    return seen
