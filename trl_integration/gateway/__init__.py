"""Training any agent: an endpoint over the trainer's engine that keeps what was sampled, token by token.

session   conversations as rows of exact ids     server   the endpoint and its engine
agents    running agents as rollouts
"""

from .agents import AgentRollout, AgentTask, CommandResult, most_sampled
from .server import Gateway, TrainerEngine
from .session import Row, Session, Turn

__all__ = [
    "AgentRollout",
    "AgentTask",
    "CommandResult",
    "Gateway",
    "Row",
    "Session",
    "TrainerEngine",
    "Turn",
    "most_sampled",
]
