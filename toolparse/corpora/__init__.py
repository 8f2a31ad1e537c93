"""Corpora: many completions, in the columns of `datasets`, Polars, Arrow and Ray, or in files."""

from toolparse.corpora.rows import Batch, batch, row_of, schema

__all__ = ["Batch", "batch", "row_of", "schema"]
