"""Formats that a prompt teaches: word markers, or JSON alone.

Sources: the ReAct prompts of Qwen1.x and ToolBench; Qwen-Agent's prompt; what servers force for a required call.
"""

from toolparse.format import Also, Format

REACT = Format(
    "react",
    call="Action: {{name}}\nAction Input: {{arguments}}",
    between="\n",
    lead="\n",
    ends=("Observation:",),
    also=(
        "Action: {{name}}\nAction Input: ```json\n{{arguments}}\n```",
        "Action: {{name}}\nAction Input: ```\n{{arguments}}\n```",
    ),
    aliases=("toolbench",),
    models="Qwen1.x, ToolBench (and fine-tunes)",
    source="the ReAct prompt; LLaMA-Factory's default tool format",
)

QWEN_AGENT = REACT.variant(
    "qwen-agent",
    call="✿FUNCTION✿: {{name}}\n✿ARGS✿: {{arguments}}",
    ends=("✿RESULT✿",),
    also=(Also(content="✿RETURN✿: {{text}}"),),
    aliases=("qwen-agent-fncall",),
    models="Qwen1.x and Qwen2 with Qwen-Agent's prompt",
    source="Qwen-Agent's function-calling prompt; ms-swift",
)

GENERIC_JSON = Format(
    "generic-json",
    lead="\n",
    section="[{{calls}}]",
    call='{"name": {{name}}, "parameters": {{arguments}}}',
    between=", ",
    synonyms=(("arguments", "parameters"),),
    also=(
        Also(section="{{calls}}"),
        Also(call='{"type": "function", "function": {"name": {{name}}, "parameters": {{arguments}}}}'),
        Also(
            section="{{calls}}",
            call='{"type": "function", "function": {"name": {{name}}, "parameters": {{arguments}}}}',
        ),
        Also(section="{{calls}}", call='{"function": {{name}}, "parameters": {{arguments}}}'),
        Also(section='{"tool_calls": [{{calls}}]}'),
        Also(
            section='{"tool_calls": [{{calls}}]}',
            call='{"type": "function", "function": {"name": {{name}}, "parameters": {{arguments}}}}',
        ),
    ),
    aliases=("generic", "json"),
    models="any model that a server forces to call",
    source="the schema that vLLM and SGLang force for a required call; smg `json`, llama.cpp `Generic`",
)

FORMATS = (REACT, QWEN_AGENT, GENERIC_JSON)
