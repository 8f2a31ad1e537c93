"""A random model of one layer as a GGUF file, made on the spot with the vocabulary of a tiny tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_gguf(tokenizer: Any, path: Path, *, width: int = 64, context: int = 2048) -> Path:
    """Write the file; needs the `gguf` package, numpy and torch."""
    import gguf
    import torch

    torch.manual_seed(0)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(width // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _write_vocabulary(tokenizer, writer)
    size = len(tokenizer)
    shapes = {
        "token_embd.weight": (size, width),
        "output_norm.weight": (width,),
        "output.weight": (size, width),
        "blk.0.attn_norm.weight": (width,),
        "blk.0.ffn_norm.weight": (width,),
        **{f"blk.0.attn_{part}.weight": (width, width) for part in ("q", "k", "v", "output")},
        "blk.0.ffn_gate.weight": (2 * width, width),
        "blk.0.ffn_up.weight": (2 * width, width),
        "blk.0.ffn_down.weight": (width, 2 * width),
    }
    for name, shape in shapes.items():
        values = torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * 0.05
        writer.add_tensor(name, values.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_vocabulary(tokenizer: Any, writer: Any) -> None:
    import json

    import gguf

    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    added = set(tokenizer.get_added_vocab().values())
    tokens = [tokenizer.convert_ids_to_tokens(id) for id in range(len(tokenizer))]
    kinds = [gguf.TokenType.USER_DEFINED if id in added else gguf.TokenType.NORMAL for id in range(len(tokens))]
    kinds[tokenizer.eos_token_id] = gguf.TokenType.CONTROL
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges or ["a b"])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)
