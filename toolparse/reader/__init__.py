"""The one reader of what models write: at once or in pieces, by the same steps.

    finding   where the next marker stands, at the speed of memory
    tables    a compiled format prepared for reading: what may begin at which marker, how each call is read
    window    the text that has come and is not read yet, and what can be asked for again
    turn      what was read: text, thoughts, calls, issues, spans, and what a stream says of it
    plain     calls that are complete and well formed, read at once
    broken    where reading goes on behind what can't be read
    reader    the states and their steps; what a stream's pieces take past them

`Parser` makes a `Reader` for each turn. `window`, `turn`, `broken`, `plain` and `reader` are layers of that one object,
each knowing those before it; its call in hand is an object of its own. All modules are compiled by mypyc where wheels
are built, and run as they stand where they are not.
"""

from toolparse.reader.reader import Reader, read_pieces, read_text, start_of
from toolparse.reader.tables import Start, prepare
from toolparse.reader.window import __file__ as _file

#: Whether this installation has the compiled reader; what it reads is the same.
COMPILED = not _file.endswith((".py", ".pyc"))

__all__ = ["COMPILED", "Reader", "Start", "prepare", "read_pieces", "read_text", "start_of"]
