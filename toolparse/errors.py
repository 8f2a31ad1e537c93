"""The exceptions of toolparse: raised for programmers' mistakes, never for what a model wrote."""

from __future__ import annotations


class ToolparseError(Exception):
    """Base class of every error that toolparse raises."""


class FormatError(ToolparseError, ValueError):
    """A `Format` declaration that does not make sense; the message names the field and shows the place."""


class RenderError(ToolparseError, ValueError):
    """Calls that a format cannot carry; the message names the call and the argument."""


class UnknownFormat(ToolparseError, LookupError):
    """No format is known for a source; the message says what was looked at and how to register one.

    `told` is the message without the advice for Python programs.
    """

    def __init__(self, told: str, advice: str = "") -> None:
        super().__init__(told + advice)
        self.told = told


class SourceError(UnknownFormat):
    """A file, folder or model that could not be read; the message says what happened and what to do."""


class TemplateError(ToolparseError, ValueError):
    """A chat template that could not be compiled or rendered; the message carries the template's own error."""


class ToolError(ToolparseError, ValueError):
    """A tool whose name or schema is unusable; the message names the tool."""


class ExportError(ToolparseError, ValueError):
    """A format that another language cannot express; the message names the field and the reason."""


class UnverifiedFormatWarning(UserWarning):
    """A format that no template proves, or that fails its template's own calls: what it reads may be wrong."""
