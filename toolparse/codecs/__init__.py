"""Argument syntaxes: how values are scanned, decoded and encoded. Codecs know formats' syntaxes, never families."""
