"""The families: declarations only, one file per lineage."""

from __future__ import annotations

from collections.abc import Iterator

from toolparse.format import Format


def all_formats() -> Iterator[Format]:
    """Every family that toolparse knows, in the order in which they are declared."""
    from toolparse.families import (
        apertus,
        arrays,
        cohere,
        deepseek,
        functionary,
        gemma,
        gigachat,
        glm,
        granite,
        harmony,
        hermes,
        hunyuan,
        ifm,
        internlm,
        kimi,
        llama,
        messages,
        minicpm,
        minimax,
        mistral,
        plamo,
        prompted,
        pythonic,
        qwen_coder,
        step,
    )

    for module in (
        hermes, granite, llama, mistral, deepseek, kimi, harmony, internlm, arrays, functionary, cohere, apertus,
        gigachat, messages, plamo, prompted, qwen_coder, glm, hunyuan, ifm, minimax, minicpm, step, pythonic, gemma,
    ):  # fmt: skip
        yield from module.FORMATS
