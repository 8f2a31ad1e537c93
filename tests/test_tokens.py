"""The text of token ids is what the tokenizer's own `decode` gives: every script of Unicode, whole and piece by piece.

Real tokenizers are tried where they were fetched; small ones, made here, stand for each kind everywhere.
"""

from __future__ import annotations

import random
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import toolparse
from tests.conftest import sliced, streamed
from toolparse.tokens import TokenText, Vocabulary

tokenizers = pytest.importorskip("tokenizers", reason="the small tokenizers are made with the tokenizers package")

SCRIPTS_LACKED = "ສະບາຍດີ ຂ້ອຍ ሰላም እንዴት ነህ ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ 𠮷野家 龘靐齉 𐤀𐤁𐤂 😀👩\u200d👩\u200d👧 a\u0301"


@cache
def words_of_all_scripts() -> tuple[str, ...]:
    """A word of each group of characters that Unicode names alike (LAO, ETHIOPIC, CJK, ...), seven characters long."""
    groups: dict[str, list[str]] = defaultdict(list)
    for point in range(0x20, 0x110000):
        char = chr(point)
        name = unicodedata.name(char, "")
        if name:
            groups[name.split()[0]].append(char)
    return tuple("".join(chars[:: max(1, len(chars) // 7)][:7]) for chars in groups.values())


def byte_fallback(*, strips: bool) -> Any:
    """A vocabulary as Llama 2 (which takes a blank from the beginning) and Gemma have it: letters, and bytes."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    tokens += [*map(chr, range(33, 127)), "é", "你", "▁a"]
    options = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(numbered(tokens), [("▁", "a")], **options))
    normalizers, decoders = tokenizers.normalizers, tokenizers.decoders
    made.normalizer = normalizers.Replace(" ", "▁")
    decoder = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if strips:
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), made.normalizer])
        decoder.append(decoders.Strip(" ", 1, 0))
    made.decoder = decoders.Sequence(decoder)
    return with_markers(made)


def byte_level() -> Any:
    """A vocabulary as GPT-2 has it: bytes, and a merge that ends inside a character."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokens = numbered([*alphabet, "àº", "Ġa"])  # two of the three bytes of most Lao letters
    made = tokenizers.Tokenizer(tokenizers.models.BPE(tokens, [("à", "º"), ("Ġ", "a")]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    return with_markers(made)


def word_pieces() -> Any:
    """A vocabulary whose text hangs on the neighbours: blanks between words, `##` within one."""
    tokens = numbered(["[UNK]", "a", "##a", "b", "##b", ".", "'", "é", "你", "ສ"])
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(tokens, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece(cleanup=False)
    return with_markers(made)


def numbered(tokens: Sequence[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


def with_markers(made: Any) -> Any:
    made.add_special_tokens(["<tool_call>", "</tool_call>", "<|im_end|>"])
    return made


class Opaque:
    """A tokenizer whose tokens say nothing of their bytes, so that only `decode` tells the text."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return list(self.inner.encode(text).ids)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return str(self.inner.decode(ids, skip_special_tokens=skip_special_tokens))

    def convert_ids_to_tokens(self, id: int) -> str:
        if not 0 <= id < self.inner.get_vocab_size():
            raise IndexError(id)
        return f"token {id}"

    def get_added_vocab(self) -> dict[str, int]:
        return {token.content: id for id, token in self.inner.get_added_tokens_decoder().items()}

    def get_vocab_size(self) -> int:
        return int(self.inner.get_vocab_size())


SMALL: dict[str, Callable[[], Any]] = {
    "byte fallback": cache(lambda: byte_fallback(strips=False)),
    "byte fallback, strips": cache(lambda: byte_fallback(strips=True)),
    "byte-level": cache(byte_level),
    "word pieces": cache(word_pieces),
    "opaque": cache(lambda: Opaque(byte_level())),
}
SPELLINGS = {
    "byte fallback": "pieces",
    "byte fallback, strips": "pieces",
    "byte-level": "byte-level",
    "word pieces": "pieces",
    "opaque": "context",
}
#: Real ones of each kind; scripts/fetch_tokenizers.py fetches them.
REAL = {
    "qwen3": "byte-level",
    "llama3_2": "byte-level",
    "gptoss": "byte-level",
    "deepseek_v3": "byte-level",
    "mistral_nemo": "byte-level",
    "gemma3": "pieces",
    "llama2": "pieces",
    "internlm2": "pieces",
    "chatglm3": "pieces",
}


def ids_of(tokenizer: Any, text: str) -> list[int]:
    ids = tokenizer.encode(text, add_special_tokens=False)
    return list(getattr(ids, "ids", ids))


def assert_text_is(tokenizer: Any, ids: Sequence[int], wanted: str, steps: Sequence[int] = (0, 1, 3)) -> None:
    """The text of ids, at once (0) and in pieces; every token begins somewhere in it, none before the one before."""
    vocabulary = Vocabulary(tokenizer)
    for step in steps:
        tokens = TokenText(vocabulary, ("<tool_call>", "</tool_call>"))
        pieces = sliced(ids, step) if step else [ids]
        said = "".join([tokens.feed(piece) for piece in pieces] + [tokens.feed((), final=True)])
        assert tokens.text == wanted, (step, list(ids))
        assert tokens.unmask(said) == wanted, (step, list(ids))
        assert len(tokens.offsets) == len(ids)
        assert tokens.offsets == sorted(tokens.offsets)
        assert not tokens.offsets or 0 <= tokens.offsets[0] <= tokens.offsets[-1] <= len(wanted)


def assert_decoded(tokenizer: Any, ids: Sequence[int], steps: Sequence[int] = (0, 1, 3)) -> None:
    assert_text_is(tokenizer, ids, Vocabulary(tokenizer).decode(ids), steps)


def assert_all_scripts(tokenizer: Any) -> None:
    words = words_of_all_scripts()
    for text in (
        SCRIPTS_LACKED,
        " " + SCRIPTS_LACKED,
        " ".join(words),
        "".join(words),
        "  two blanks\n\n\t. , 'x' \ufffd",
    ):
        ids = ids_of(tokenizer, text)
        assert_decoded(tokenizer, ids)
    for at in range(0, len(words), 10):
        assert_decoded(tokenizer, ids_of(tokenizer, " ".join(words[at : at + 10])), (0, 1))


def assert_calls_keep_their_text(tokenizer: Any) -> None:
    """A text of every script as an argument: by ids what it is by text."""
    parser = toolparse.Parser(toolparse.get("hermes"), tokenizer=tokenizer)
    for word in (SCRIPTS_LACKED, *words_of_all_scripts()[::9]):
        text = parser.render([("f", {"said": word})], content=f"a{word}a")
        ids = ids_of(tokenizer, text)
        by_text = parser.parse(Vocabulary(tokenizer).decode(ids))
        by_ids = parser.parse(ids)
        assert streamed(parser, sliced(ids, 1)) == by_ids
        assert by_ids.text == by_text.text
        assert by_ids.content == by_text.content
        assert [(c.name, c.arguments, c.ok) for c in by_ids.tool_calls] == [
            (c.name, c.arguments, c.ok) for c in by_text.tool_calls
        ]
        assert [span.token_end for span in by_ids.spans][-1:] == [len(ids)]


@pytest.mark.parametrize("kind", SMALL)
def test_small_vocabularies_of_each_kind(kind: str) -> None:
    tokenizer = SMALL[kind]()
    assert Vocabulary(tokenizer).spelling == SPELLINGS[kind]
    if kind == "word pieces":
        for text in ("aab ba. 'a' é 你 ສ a", "a", "", ". a"):
            assert_decoded(tokenizer, ids_of(tokenizer, text))
    else:
        assert_all_scripts(tokenizer)
        assert_calls_keep_their_text(tokenizer)


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_vocabularies_over_all_scripts(name: str, real_tokenizer: Callable[[str], Any]) -> None:
    tokenizer = real_tokenizer(name)
    assert Vocabulary(tokenizer).spelling == REAL[name]
    assert_all_scripts(tokenizer)
    assert_calls_keep_their_text(tokenizer)


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_vocabularies_with_any_ids(name: str, real_tokenizer: Callable[[str], Any]) -> None:
    """Ids as no text gives them, those that the vocabulary lacks among them; runs of bytes have a test of their own."""
    tokenizer = real_tokenizer(name)
    rng = random.Random(name)
    bytes_of = (
        {tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in range(256)} if REAL[name] == "pieces" else ()
    )
    for _ in range(300):
        ids = [
            rng.choice((-1, -100, len(tokenizer) + 7, 2**31, 2**70))
            if rng.random() < 0.1
            else rng.randrange(len(tokenizer) + 9)
            for _ in range(rng.randrange(1, 30))
        ]
        assert_decoded(tokenizer, [id for id in ids if id not in bytes_of])


@pytest.mark.parametrize("kind", SMALL)
@given(data=st.data())
def test_small_vocabularies_with_any_ids(kind: str, data: st.DataObject) -> None:
    tokenizer = SMALL[kind]()
    size = tokenizer.get_vocab_size()
    bytes_of = range(3, 259) if kind.startswith("byte fallback") else ()
    any_id = st.one_of(
        st.integers(0, size - 1).filter(lambda id: id not in bytes_of),
        st.sampled_from([-1, -100, size, size + 999, 2**31, 2**32, 2**63, 10**30]),
    )
    assert_decoded(tokenizer, data.draw(st.lists(any_id, max_size=12)))


@pytest.mark.parametrize("strips", [False, True])
@given(runs=st.lists(st.one_of(st.binary(max_size=8), st.text(max_size=5).map(str.encode)), max_size=4))
def test_runs_of_bytes_keep_their_characters(strips: bool, runs: list[bytes]) -> None:
    """What is documented: bytes that make no character are U+FFFD each, and take no character with them."""
    tokenizer = SMALL["byte fallback, strips" if strips else "byte fallback"]()
    ids: list[int] = []
    wanted = ""
    for run in runs:
        ids += [3 + byte for byte in run] + [tokenizer.token_to_id("▁a")]
        wanted += _characters(run) + " a"
    assert_text_is(tokenizer, ids, wanted.removeprefix(" ") if strips else wanted)
    if all(_is_utf8(run) for run in runs):
        assert_decoded(tokenizer, ids)


def _characters(run: bytes) -> str:
    text = ""
    while run:
        length = next((n for n in (1, 2, 3, 4) if n <= len(run) and _is_utf8(run[:n])), 0)
        text += run[:length].decode() if length else "\ufffd"
        run = run[max(1, length) :]
    return text


def _is_utf8(run: bytes) -> bool:
    try:
        run.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("kind", ["byte fallback", "byte fallback, strips", "byte-level"])
def test_a_text_cut_inside_a_character_keeps_the_rest(kind: str) -> None:
    tokenizer = SMALL[kind]()
    ids = ids_of(tokenizer, "ສະບາຍດີ")
    text = toolparse.Parser(toolparse.get("hermes"), tokenizer=tokenizer).parse(ids[:-1]).text
    assert text.rstrip("\ufffd") == "ສະບາຍດ"


@pytest.mark.parametrize("kind", ["byte fallback", "byte-level"])
def test_a_marker_behind_half_a_character_has_its_token(kind: str) -> None:
    """The half belongs to the content, the marker's token to the call."""
    tokenizer = SMALL[kind]()
    ids = ids_of(tokenizer, "ສ")[:-1] + ids_of(tokenizer, '<tool_call>{"name": "f", "arguments": {}}</tool_call>')
    message = toolparse.Parser(toolparse.get("hermes"), tokenizer=tokenizer).parse(ids)
    (call,) = message.tool_calls
    assert call.span.token_start == ids.index(tokenizer.token_to_id("<tool_call>"))
    assert message.content.strip("\ufffd") == ""


@pytest.mark.parametrize("kind", SMALL)
def test_ids_that_no_vocabulary_has_are_no_exception(kind: str) -> None:
    parser = toolparse.Parser(toolparse.get("hermes"), tokenizer=SMALL[kind]())
    ids = [-1, -100, 10**6, 2**32, 2**64, 10**30]
    message = parser.parse(ids, prompt=ids)
    assert message.text == ""
    assert streamed(parser, sliced(ids, 1), prompt=ids) == message
