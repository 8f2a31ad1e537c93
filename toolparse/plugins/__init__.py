"""Plugins for inference servers: their tool parsers, with the format found from the tokenizer that they serve."""
