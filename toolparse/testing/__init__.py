"""The laws that every format keeps, as property-based tests that users can run on formats of their own.

    from toolparse import Format, testing

    testing.check(Format("mine", call="<call>{{name}} {{arguments}}</call>"))

Each law takes a Format and raises AssertionError with the example that breaks it. They need `hypothesis`.
`laws` holds the laws and what they assert, `strategies` what they are tried with.
"""

try:
    import hypothesis as _  # noqa: F401 - said once, before anything else asks for it
except ImportError as error:
    raise ImportError("toolparse.testing needs hypothesis: pip install 'toolparse[test]'") from error

from toolparse.testing.laws import (
    LAWS,
    assert_calls,
    assert_deltas,
    assert_events,
    assert_same_message,
    assert_tiles,
    check,
    chunking,
    event_grammar,
    every_call,
    no_key_dropped,
    nothing_lost,
    one_bad_call,
    round_trip,
)
from toolparse.testing.strategies import (
    arguments_first,
    calls,
    carries_ids,
    chunked,
    damaged,
    inner_call,
    made_calls,
    made_output,
    made_picture,
    made_plain,
    made_text,
    made_turn,
    made_value,
    made_word,
    names,
    numbered,
    outputs,
    pictures,
    pieces_of,
    plain,
    plain_calls,
    plain_values,
    same,
    schema_of,
    texts,
    values,
    wrapper_keys,
    write_plain,
    written,
)

__all__ = [
    "LAWS",
    "arguments_first",
    "assert_calls",
    "assert_deltas",
    "assert_events",
    "assert_same_message",
    "assert_tiles",
    "calls",
    "carries_ids",
    "check",
    "chunked",
    "chunking",
    "damaged",
    "event_grammar",
    "every_call",
    "inner_call",
    "made_calls",
    "made_output",
    "made_picture",
    "made_plain",
    "made_text",
    "made_turn",
    "made_value",
    "made_word",
    "names",
    "no_key_dropped",
    "nothing_lost",
    "numbered",
    "one_bad_call",
    "outputs",
    "pictures",
    "pieces_of",
    "plain",
    "plain_calls",
    "plain_values",
    "round_trip",
    "same",
    "schema_of",
    "texts",
    "values",
    "wrapper_keys",
    "write_plain",
    "written",
]
