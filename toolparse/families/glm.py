"""GLM's keyed pairs. Sources: GLM-4.5's to 5's chat templates; vLLM and SGLang `glm45`, `glm47`."""

from toolparse.format import Also, Format

GLM45 = Format(
    "glm45",
    call="<tool_call>{{name}}\n{{params}}</tool_call>",
    param="<arg_key>{{key}}</arg_key>\n<arg_value>{{value}}</arg_value>\n",
    between="\n",
    lead="\n",
    reasoning="<think>{{text}}</think>\n",
    ends=("<|user|>", "<|observation|>", "<|endoftext|>"),
    also=(
        Also(call='<tool_call>{"name": {{name}}, "arguments": {{arguments}}}</tool_call>', slip=True),
        Also(call="<tool_call>{{name}}</arg_value>{{params}}</tool_call>", slip=True),
        Also(param="<arg_key>{{key}}</arg_key>\n{{value}}</arg_value>\n", slip=True),
        Also(param="<arg_key>{{key}}</arg_key>\n<arg_value>{{value}}</arg_value></arg_value>\n", slip=True),
    ),
    aliases=("glm4-moe", "glm-45", "glm"),
    models="GLM-4.5, GLM-4.5-Air, GLM-4.5V, GLM-4.6, GLM-4.6V",
    source="GLM-4.6's chat template; vLLM `glm45`",
)

GLM47 = GLM45.variant(
    "glm47",
    call="<tool_call>{{name}}{{params}}</tool_call>",
    param="<arg_key>{{key}}</arg_key><arg_value>{{value}}</arg_value>",
    between="",
    lead="",
    reasoning="<think>{{text}}</think>",
    prefill="<think>",
    aliases=("glm-47", "glm5", "glm-5"),
    models="GLM-4.7, GLM-5, GLM-5.1, GLM-5.2, GLM-5.3, Atria-Dawn",
    source="GLM-4.7's chat template; vLLM `glm47`",
)

LING3 = GLM45.variant(
    "ling3",
    call="<tool_call>{{name}}\n{{params}}\n</tool_call>",
    param="<arg_key>{{key}}</arg_key>\n<arg_value>{{value}}</arg_value>",
    reasoning="<think>{{text}}</think>",
    prefill="<think>",
    ends=("<|role_end|>",),
    aliases=("ling-3", "ring-26", "bailing-v3"),
    models="Ling-3.0-flash, Ring-2.6",
    source="Ling 3's chat template; vLLM `ling3`, SGLang `ling3`",
)

SPARK25 = GLM47.variant(
    "spark25",
    ends=("<｜end▁of▁sentence｜>",),
    aliases=("spark-x25", "spark"),
    models="Spark-X2.5",
    source="Spark-X2.5's chat template; SGLang `spark25`",
)

LAGUNA = GLM45.variant(
    "laguna",
    reasoning="<think>\n{{text}}\n</think>\n",
    prefill="</think>",
    ends=("</assistant>", "〈|EOS|〉"),
    aliases=("poolside-v1", "poolside"),
    models="Laguna-XS.2, Laguna-M.1, Laguna-XS-2.1, Laguna-S-2.1",
    source="Laguna XS.2's chat template; vLLM `poolside_v1`",
)

IQUEST_Q1 = GLM47.variant(
    "iquest-q1",
    call="<iquest_tool_call>{{name}}{{params}}</iquest_tool_call>",
    ends=("<|iquest_end|>",),
    aliases=("iquest",),
    models="IQuest-Q1",
    source="SGLang `iquest_q1`",
)

GLM4_9B = Format(
    "glm4-9b",
    call="{{name}}\n{{arguments}}",
    lead="",
    between_messages="<|assistant|>",
    reasoning="<think>{{text}}</think>",
    ends=("<|observation|>", "<|user|>", "<|endoftext|>"),
    aliases=("glm4", "chatglm4", "glm-4-0414"),
    models="GLM-4-9B-chat, GLM-4-0414, GLM-Z1, GLM-4V",
    source="GLM-4's function-calling guide; LLaMA-Factory and ms-swift `glm4`",
)

FORMATS = (GLM45, GLM47, LING3, SPARK25, LAGUNA, IQUEST_Q1, GLM4_9B)
