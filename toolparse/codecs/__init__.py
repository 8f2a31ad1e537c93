"""Argument syntaxes: how values are scanned, decoded and encoded. Codecs know formats' syntaxes, never families.

json        exact JSON, doubled keys          integers    integers of any size, within bounds
values      JSON, Python calls and literal maps, scanned in pieces
literals    Python calls and literal maps that are complete, read at once
tagged      parameters in tags                elements    elements in elements
unescaped   values that only what follows them can end
wrapper     JSON objects around a call        writing     values -> text
arithmetic  what Python would reckon          scanner     what all scanners can be asked
matching    patterns over text whose end may not have come
"""
