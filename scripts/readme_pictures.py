# ruff: noqa: E402 - the repository is put on the path first
"""The README's pictures, from real output: `python scripts/readme_pictures.py` (Chromium on PATH, and Pillow).

docs/assets/inspect.png is what `toolparse inspect` writes on a terminal, docs/assets/rollout.png the page of a rollout
whose model is a script. Text is drawn with the fonts of the machine.
"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from PIL import Image, ImageChops
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

import fixtures
import toolparse
from fixtures.tiny import tiny_tokenizer
from trl_integration import MultiTurnRollout, ScriptedBackend, rollout_html

WIDTH = 960
SCALE = 1.5
COLUMNS = 100
COLOURS = 48  # of a picture's palette: text needs no more, and the files stay small
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

TERMINAL = """<meta charset=utf-8><style>
body {{ margin: 0; background: #16181c; color: #e4e6ea }}
pre {{ font: 15px/1.4 ui-monospace, monospace; padding: 18px 22px; margin: 0 }}
</style>{}"""


def get_weather(city: str, days: int = 1) -> str:
    """Get the forecast.

    Args:
        city: The city's name.
        days: For how many days.
    """
    return f"{city}: rain, then sun" if days > 1 else f"{city}: rain"


#: What the model of the second picture says: a tool that is not there, then the right one, then the answer.
TURNS = [
    '<think>\nThe forecast will tell.\n</think>\n\n<tool_call>\n{"name": "get_wether", "arguments": {"city": "Oslo"}}\n'
    "</tool_call><|im_end|>",
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}}\n</tool_call><|im_end|>',
    "Tomorrow it rains in Oslo, the day after the sun shines.<|im_end|>",
]


def inspected() -> str:
    """What `toolparse inspect` writes on a terminal, as a page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "my-model").mkdir()
        (folder / "my-model" / "chat_template.jinja").write_text(fixtures.template("kimi-k2"), encoding="utf-8")
        command = [sys.executable, "-m", "toolparse", "inspect", "my-model"]
        written = on_a_terminal(command, folder)
    console = Console(record=True, file=open(os.devnull, "w"), width=COLUMNS, force_terminal=True)  # noqa: SIM115
    console.print(Text.from_ansi("$ toolparse inspect my-model\n" + written.rstrip()))
    return TERMINAL.format(
        console.export_html(theme=DIMMED_MONOKAI, inline_styles=True, code_format="<pre>{code}</pre>")
    )


def on_a_terminal(command: Sequence[str], folder: Path) -> str:
    """What a command writes where stdout is a terminal."""
    ours, its = pty.openpty()
    size = {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, **size}, stdout=its)
    os.close(its)
    written = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not data:
            break
        written += data
    if process.wait():
        raise SystemExit(f"{' '.join(command)} failed")
    return written.decode("utf-8").replace("\r\n", "\n")


def rolled_out() -> str:
    """The page of a rollout with a call that is wrong, one that is right, and an answer."""
    tokenizer = tiny_tokenizer(fixtures.template("qwen"), eos="<|im_end|>")

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    loop = MultiTurnRollout([get_weather], parser=toolparse.parser_for(tokenizer))
    loop.bind(tokenizer)
    question = [{"role": "user", "content": "What will the weather in Oslo be like tomorrow?"}]
    for _ in range(2):  # what the first one imports and starts would be taken for the tool's time
        rollout = loop.run([question], ScriptedBackend([TURNS], encode=encode))[0]
    rollout.rewards = {"right": 1.0}
    return rollout_html(rollout, tokenizer, title="A rollout")


def picture(page: str, target: Path, most: int = 2400) -> None:
    """A page as a small PNG, cut to what is on it, and to `most` pixels of the page."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"none of {', '.join(BROWSERS)} is on PATH")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "page.html").write_text(page, encoding="utf-8")
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={WIDTH},2400",
            f"--force-device-scale-factor={SCALE}",
        ]
        command += [f"--screenshot={folder / 'shot.png'}", (folder / "page.html").as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        shot = Image.open(folder / "shot.png").convert("RGB")
    ground = Image.new("RGB", shot.size, shot.getpixel((2, shot.height - 2)))
    shown = ImageChops.difference(shot, ground).getbbox()
    if shown is None:
        raise SystemExit("the page is empty")
    shot = shot.crop((0, 0, shot.width, min(int(most * SCALE), shown[3] + 24)))
    shot.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target.relative_to(ROOT)}: {shot.width} x {shot.height}, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    picture(inspected(), ROOT / "docs" / "assets" / "inspect.png")
    picture(rolled_out(), ROOT / "docs" / "assets" / "rollout.png", most=1195)
