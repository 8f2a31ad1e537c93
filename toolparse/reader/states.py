"""The states of the reader; what each is about, `reader.py` tells."""

from typing import Final

MESSAGE_START: Final = 0
TEXT: Final = 1
TRY: Final = 2
DRAFT: Final = 3
PROBE: Final = 4
BODY: Final = 5
LIMITED: Final = 6
TAIL: Final = 7
BROKEN: Final = 8
CLOSERS: Final = 9
AFTER: Final = 10
SLIP: Final = 11
BEHIND: Final = 12
ENDED: Final = 13
