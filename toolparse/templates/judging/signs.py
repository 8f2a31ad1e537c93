"""What the templates of a family say of themselves, where others write the very same calls or they write none.

Only asked where pictures are the same and neither frames nor the model's name decide, or where there are none: texts of
the prompt that the family's own templates hold, so that a model is called the same by its template, its tokenizer and
its folder.
"""

SIGNS: dict[str, tuple[str, ...]] = {
    "qwen": ("# Tools\n\nYou may call one or more functions to assist with the user query.", "You are Qwen"),
    "exaone4": ("[|assistant|]",),
    "granite4": ("<|start_of_role|>",),
    "ling2": ("<role>ASSISTANT</role>",),
    "trinity": ("Arcee",),
    "lfm2": ("List of tools: ",),
}
