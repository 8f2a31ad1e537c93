"""One all-in-one tool: every rollout has a Python sandbox. ``python examples/train_sandbox.py`` plays one by script."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from examples.warehouse import TEMPLATE
from fixtures.tiny import tiny_tokenizer
from trl_integration import CodeSandbox, Limits, MultiTurnRollout, ScriptedBackend, ToolExecutor


def sandbox() -> CodeSandbox:
    """Two seconds of CPU and 256 MiB for every call."""
    return CodeSandbox(Limits(cpu_seconds=2, wall_seconds=20, memory_mb=256))


def main() -> None:
    """Play a rollout and print its messages. For training: ToolGRPOTrainer(environments=sandbox, ...)."""
    tokenizer = tiny_tokenizer(TEMPLATE, eos="<|im_end|>")
    code = '{"name": "run_python", "arguments": {"code": "sum(n * n for n in range(10))"}}'
    call = f"<tool_call>\n{code}\n</tool_call><|im_end|>"
    engine = ScriptedBackend([[call, "It is 285.<|im_end|>"]], encode=lambda text: list(tokenizer(text)["input_ids"]))
    loop = MultiTurnRollout(environments=sandbox, executor=ToolExecutor(timeout=30))
    loop.bind(tokenizer)
    [rollout] = loop.run([[{"role": "user", "content": "Sum the first squares."}]], engine)
    for message in [*rollout.prompt, *rollout.messages]:
        print(f"{message['role']}: {message['content'] or message.get('tool_calls')}")
    loop.close()


if __name__ == "__main__":
    main()
