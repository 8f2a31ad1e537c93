"""Multi-turn tool calling in GRPO with TRL: rollouts whose masks are right by construction.

transcript   segments with authors; masks as views     bridge       the tokens between two turns
encoding     template text and tool text into ids      executor     running tools;  tool_text: what they returned
messages     messages as a template wants them         turn_end     where a turn ends
environment  state and tools of one rollout            sandbox      running code in processes
generation   where tokens come from                    rollout      one rollout, as data
loop         the loop, without a trainer               trl_adapter  the loop as TRL's rollout function
trainer      the loop inside TRL's trainers              rewards      scores of rollouts
prepare      stock trainers and any chat template      masks        supervised data
metrics      figures for the log                       traces       rollouts as JSON
view         rollouts as pages                         mcp_tools    tools of MCP servers
async_worker rollouts for AsyncGRPOTrainer
gateway      agents that own their loop
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .async_worker import AsyncRollouts
    from .bridge import Bridge, BridgeRefused
    from .environment import Environment
    from .executor import Toolbox, ToolExecutor, ToolRequest, ToolResult
    from .generation import Sampled, ScriptedBackend, TransformersBackend, VLLMBackend
    from .loop import ToolLoop
    from .masks import assistant_mask
    from .mcp_tools import MCPTools
    from .prepare import prepare
    from .rewards import environment_reward, per_rollout
    from .rollout import Budget, Rollout
    from .sandbox import CodeSandbox, Limits, isolated, run_code
    from .trainer import ToolGRPOTrainer, ToolRLOOTrainer
    from .transcript import Author, Segment, Transcript, TranscriptBatch
    from .trl_adapter import MultiTurnRollout
    from .view import rollout_html, write_page, write_pages

_NAMES = {
    "async_worker": "AsyncRollouts",
    "bridge": "Bridge BridgeRefused",
    "environment": "Environment",
    "executor": "ToolExecutor ToolRequest ToolResult Toolbox",
    "generation": "Sampled ScriptedBackend TransformersBackend VLLMBackend",
    "loop": "ToolLoop",
    "masks": "assistant_mask",
    "mcp_tools": "MCPTools",
    "prepare": "prepare",
    "rewards": "environment_reward per_rollout",
    "rollout": "Budget Rollout",
    "sandbox": "CodeSandbox Limits isolated run_code",
    "trainer": "ToolGRPOTrainer ToolRLOOTrainer",
    "transcript": "Author Segment Transcript TranscriptBatch",
    "trl_adapter": "MultiTurnRollout",
    "view": "rollout_html write_page write_pages",
}
_WHERE = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "AsyncRollouts",
    "Author",
    "Bridge",
    "BridgeRefused",
    "Budget",
    "CodeSandbox",
    "Environment",
    "Limits",
    "MCPTools",
    "MultiTurnRollout",
    "Rollout",
    "Sampled",
    "ScriptedBackend",
    "Segment",
    "ToolExecutor",
    "ToolGRPOTrainer",
    "ToolLoop",
    "ToolRLOOTrainer",
    "ToolRequest",
    "ToolResult",
    "Toolbox",
    "Transcript",
    "TranscriptBatch",
    "TransformersBackend",
    "VLLMBackend",
    "assistant_mask",
    "environment_reward",
    "isolated",
    "per_rollout",
    "prepare",
    "rollout_html",
    "run_code",
    "write_page",
    "write_pages",
]


def __getattr__(name: str) -> Any:
    # Importing TRL takes seconds; a transcript or an executor shouldn't.
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("toolparse", __name__):
            raise
        raise ImportError(f"{name} needs {error.name}: pip install 'toolparse[trl]'") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
