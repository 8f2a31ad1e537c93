"""A small tokenizer for any chat template, and a random model for it, made on the spot: for demos, tests and
examples without downloads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["markers_of", "tiny_model", "tiny_tokenizer"]

# What templates use as markers: <|name|>, <name>, </name>, <|name>, <name|>, [NAME], with ASCII or
# full-width bars; MiniMax's ]~b] and [e~[.
_MARKER = re.compile(
    r"<[|｜][^<>\s{}'\\]{1,40}?[|｜]>|<\|[a-z_]+>|<[a-z_]+\|>|</?[a-zA-Z_][\w:-]{0,40}>|\[/?[A-Z][A-Z_]{2,40}\]|\]~!?b[\[\]]|\[e~\["
)
# In this order of preference: the token that ends an assistant's turn.
_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eot|>",
    "<｜end▁of▁sentence｜>",
    "<|END_OF_TURN_TOKEN|>",
    "<turn|>",
    "<end_of_turn>",
    "<|end_of_text|>",
    "<|return|>",
    "<|message_sep|>",
    "<|eom|>",
    "<|end|>",
    "[EOS]",
    "<seed:eos>",
    "<|endoftext|>",
    "<eos>",
    "</s>",
)


def markers_of(template: str) -> list[str]:
    """The markers that a template's text contains, in order of first appearance."""
    return list(dict.fromkeys(_MARKER.findall(template)))


def tiny_tokenizer(
    template: str,
    *,
    eos: str | None = None,
    corpus: Iterable[str] = (),
    vocab_size: int = 400,
    words: Iterable[str] = (),
) -> Any:
    """A byte-level BPE tokenizer (``PreTrainedTokenizerFast``) with the template's markers as added tokens.

    Args:
        template: The chat template; the tokenizer carries it.
        eos: The end-of-turn token. Chosen from the template's markers when left out.
        corpus: Texts to learn merges from. Without them every byte is a token of its own.
        vocab_size: Tokens before the markers are added; at least 256.
        words: Further added tokens that aren't markers.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max(256, vocab_size),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(list(corpus), trainer)
    markers = markers_of(template)
    if eos is None:
        eos = next((end for end in _ENDS if end in markers), "</s>")
    added = list(dict.fromkeys([*markers, eos, "<pad>", *words]))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=eos, pad_token="<pad>", clean_up_tokenization_spaces=False
    )
    tokenizer.add_tokens([token for token in added if token not in (eos, "<pad>")])
    tokenizer.chat_template = template
    return tokenizer


def tiny_model(tokenizer: Any, *, hidden_size: int = 32, context: int = 2048, **settings: Any) -> Any:
    """A random Llama of one layer (``LlamaForCausalLM``) for a tokenizer, in torch's current random state.

    Args:
        tokenizer: Gives the vocabulary's size and the special tokens.
        hidden_size: Width of the layer; two attention heads share it.
        context: The longest sequence, in tokens.
        settings: Of ``LlamaConfig``, in place of those above.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    return LlamaForCausalLM(LlamaConfig(**config | settings))
