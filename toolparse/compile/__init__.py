"""Format -> Program: what reading needs of a declaration, made once and shared by all readers.

pictures of a Format (read by picture.py)
  items.py       a stretch of literals and holes as items; items printed as a pattern
  parameters.py  parameters in tags of their own, for their scanner
  call_forms.py  one way to write calls: head, body, tail, section
  markers.py     framed texts, and what may begin at which marker
  program.py     all of it together: `compile_format(format)`
"""

from toolparse.compile.call_forms import Shape
from toolparse.compile.items import is_marker
from toolparse.compile.markers import Candidate, Frame, TextStretch
from toolparse.compile.program import Program, bind_to, compile_format, suffix_of

__all__ = [
    "Candidate",
    "Frame",
    "Program",
    "Shape",
    "TextStretch",
    "bind_to",
    "compile_format",
    "is_marker",
    "suffix_of",
]
