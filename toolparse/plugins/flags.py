"""Which of today's servers' own parsers read a format: their names, looked up among the families' names and aliases."""

from __future__ import annotations

from toolparse import registry
from toolparse.errors import UnknownFormat
from toolparse.format import Format

#: The names of `--tool-call-parser` by server; without those that read by a response template, whatever the family.
PARSERS = {
    "vLLM 0.33": (
        "apertus beam cohere_command3 cohere_command4 deepseek_v3 deepseek_v31 deepseek_v32 deepseek_v4 deepseek_v41 "
        "dots ernie45 functiongemma gemma4 gigachat3 glm45 glm47 granite granite-20b-fc granite4 hermes hunyuan_a13b "
        "hy_v3 hy_v4 inkling internlm jamba k2_horizon kimi_k2 kimi_k3 lfm2 ling3 llama3_json llama4_json "
        "llama4_pythonic longcat mimo minicpm5 minimax_m2 minimax_m3 mistral muse muse_glimmer musespark1x olmo3 "
        "openai phi4_mini_json plamo3 poolside_v1 pythonic qwen3_coder qwen3_json qwen3_xml seed_oss step3 step3p5 "
        "step5 xlam"
    ),
    "SGLang 0.5": (
        "apertus2509 beam cohere_command4 deepseekv3 deepseekv31 deepseekv32 deepseekv4 deepseekv41 dots glm glm45 "
        "glm47 gpt-oss k2_horizon kimi_k2 kimi_k3 lfm2 ling3 llama3 mimo minicpm5 mistral muse poolside_v1 pythonic "
        "qwen qwen25 qwen3_coder spark25 step3 step3p5 minimax-m2 minimax-m3 nanbeige trinity interns1 hermes hunyuan "
        "gigachat3 gigachat35 gemma4 inkling iquest_q1"
    ),
}


def server_flags(format: Format) -> dict[str, str]:
    """The `--tool-call-parser` that each server needs for a family, the family's own name first; no entry for none."""
    flags: dict[str, str] = {}
    for server, names in PARSERS.items():
        found = [name for name in names.split() if _family_of(name) == format.name]
        if found:
            own = format.name.replace("-", "_")
            flags[server] = f"--tool-call-parser {min(found, key=lambda name: name.replace('-', '_') != own)}"
    return flags


def _family_of(name: str) -> str | None:
    try:
        return registry.get(name).name
    except UnknownFormat:
        return None
