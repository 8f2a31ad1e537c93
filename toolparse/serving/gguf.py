"""GGUF files through `llama-cpp-python`: the model, and its vocabulary as a tokenizer."""

from __future__ import annotations

from typing import Any

_CONTROL, _USER_DEFINED = 8, 16  # attributes of added tokens in llama.cpp's vocabulary


def load_llama(path: str, *, vocab_only: bool = False) -> Any:
    """A `llama_cpp.Llama` with the context that the model was trained for."""
    from llama_cpp import Llama

    return Llama(path, n_ctx=0, vocab_only=vocab_only, verbose=False, logits_all=False)


class GgufTokenizer:
    """The vocabulary of a GGUF file, by the methods that are asked of tokenizers here."""

    def __init__(self, llama: Any) -> None:
        self._llama = llama
        data = llama.metadata
        self.chat_template: str | None = data.get("tokenizer.chat_template")
        self.name_or_path = str(data.get("general.name", ""))
        self.bos_token_id = self._special(llama.token_bos())
        self.eos_token_id = self._special(llama.token_eos())
        self.bos_token = self._text(self.bos_token_id)
        self.eos_token = self._text(self.eos_token_id)
        self._added = self._added_tokens()

    def __len__(self) -> int:
        return int(self._llama.n_vocab())

    @staticmethod
    def _special(id: int) -> int | None:
        return id if id >= 0 else None

    def _text(self, id: int | None) -> str | None:
        return None if id is None else self.decode([id])

    def _added_tokens(self) -> dict[str, int]:
        import llama_cpp

        vocab = llama_cpp.llama_model_get_vocab(self._llama.model)
        wanted = _CONTROL | _USER_DEFINED
        return {self.decode([id]): id for id in range(len(self)) if llama_cpp.llama_vocab_get_attr(vocab, id) & wanted}

    def get_added_vocab(self) -> dict[str, int]:
        """Control and user-defined tokens by text."""
        return dict(self._added)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The ids of a text; markers in it are read as markers."""
        return list(self._llama.tokenize(text.encode("utf-8"), add_bos=add_special_tokens, special=True))

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        """The text of ids."""
        kept = [id for id in ids if not (skip_special_tokens and self._is_added(id))]
        return str(self._llama.detokenize(kept, special=True).decode("utf-8", "replace"))

    def _is_added(self, id: int) -> bool:
        return id in self._added.values()

    def convert_ids_to_tokens(self, id: int) -> str | None:
        """The token as the vocabulary spells it; None for an id that it lacks."""
        import llama_cpp

        if not 0 <= id < len(self):
            return None
        vocab = llama_cpp.llama_model_get_vocab(self._llama.model)
        return str(llama_cpp.llama_vocab_get_text(vocab, id).decode("utf-8", "replace"))
