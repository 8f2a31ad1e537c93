"""GLM's keyed pairs. Sources: GLM-4.5's to 5's chat templates; vLLM and SGLang `glm45`, `glm47`."""

from toolparse.format import Format

GLM45 = Format(
    "glm45",
    call="<tool_call>{{name}}\n{{params}}</tool_call>",
    param="<arg_key>{{key}}</arg_key>\n<arg_value>{{value}}</arg_value>\n",
    between="\n",
    lead="\n",
    reasoning="<think>{{text}}</think>\n",
    ends=("<|user|>", "<|observation|>", "<|endoftext|>"),
    aliases=("glm4-moe", "glm-45", "glm"),
    models="GLM-4.5, 4.5-Air, 4.5V, 4.6, 4.6V",
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
    models="GLM-4.7, 5, 5.1, 5.2, 5.3; Atria-Dawn",
    source="GLM-4.7's chat template; vLLM `glm47`",
)

FORMATS = (GLM45, GLM47)
