"""`detect`: from a tokenizer, a template or a folder to the format that its model writes.

The ladder itself is in `templates/judging/ladder.py`; it is loaded when something is detected, and Jinja
with it where a template is examined in this process.
What a detection says is in `templates/judging/detection.py`; its names can be had from here, loaded when they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolparse.format import Format
from toolparse.parser import FunctionParser

if TYPE_CHECKING:
    from toolparse.templates.judging.detection import Check, Detection, Problem

__all__ = ["Check", "Detection", "Problem", "detect"]


def detect(source: Any, *, use_registry: bool = True, isolation: str | None = None) -> Detection:
    """The format in which the model behind `source` writes tool calls.

    `source`: a tokenizer, a processor, a chat template's text, a dict of named templates, a model folder or one of its
    files (`.jinja`, `tokenizer_config.json`, `tokenizer.json`, GGUF), a model on the hub (`Qwen/Qwen3-8B`), or the name
    of a family, a server's parser or a model that a family lists: nothing was looked at then, and nothing is verified.
    `use_registry=False` leaves out the known families: what is found is learnt from the template alone. A template
    seen before costs microseconds; a new one some milliseconds beyond its compilation. Raises TypeError for what can't
    be a source, SourceError for what can't be read, UnknownFormat for a name that nothing has.

    `isolation`: a template that nobody vouched for is examined in a process of its own where the system can start one
    (`auto`, the default, or what `TOOLPARSE_ISOLATION` says), nowhere else (`required`: OSError where there is none),
    or in this process (`off`).
    """
    if isinstance(source, Format | FunctionParser):
        from toolparse.templates.judging.detection import Detection

        return Detection(source, "exact text", ("a format was given",))
    check_source(source)
    from toolparse.templates.judging.ladder import climb

    return climb(source, use_registry=use_registry, isolation=isolation)


SWAPPED = "the arguments are swapped: write toolparse.parse(text, source), the model's output first"


def check_source(source: Any) -> None:
    """Raises TypeError, saying what was meant, for what can't be a model, a template or a format."""
    if source is None or isinstance(source, bytes | bytearray | int | float):
        given = "None was" if source is None else f"{type(source).__name__} {source!r:.40} was"
        raise TypeError(f"{given} given where a tokenizer, chat template, model folder, Format or family name belongs")
    if isinstance(source, list | tuple):
        if source and all(type(part) is int for part in source):
            raise TypeError(f"token ids were given as the source; perhaps {SWAPPED}")
        raise TypeError("a list was given as the source: make one parser for each, parser_for(source)")
    if isinstance(source, dict) and "role" in source:
        raise TypeError("a message was given as the source: pass the tokenizer of the model that wrote it")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from toolparse.templates.judging import detection as verdict

    found = globals()[name] = getattr(verdict, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
