"""The families: declarations only, one file per lineage."""

from __future__ import annotations

from collections.abc import Iterator

from toolparse.format import Format


def all_formats() -> Iterator[Format]:
    """Every family that toolparse knows, in the order in which they are declared."""
    from toolparse.families import (
        deepseek,
        gemma,
        glm,
        granite,
        harmony,
        hermes,
        internlm,
        kimi,
        llama,
        minimax,
        mistral,
        pythonic,
        qwen_coder,
    )

    for module in (
        hermes,
        granite,
        llama,
        mistral,
        deepseek,
        kimi,
        harmony,
        internlm,
        qwen_coder,
        glm,
        minimax,
        pythonic,
        gemma,
    ):
        yield from module.FORMATS
