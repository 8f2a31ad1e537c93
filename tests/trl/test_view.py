"""Pages of traces: a table that sorts and filters, one page for each rollout, two steps side by side."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from toolparse.tokens import Vocabulary
from trl_integration.traces import read_traces, write_traces
from trl_integration.view import compare_html, table_html, view, write_pages

from .helpers import CALL, END, NAME, roll, tokenizer

BAD = '<tool_call>\n{"name": "ad", "arguments": {}}\n</tool_call>' + END


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Two steps of three rollouts: one with a call, one that broke its call, one whose text is hostile."""
    path = tmp_path / "trace.jsonl"
    script = [[CALL, "Three." + END], [BAD, "Sorry." + END], ["</div><script>alert(1)</script> é🙂" * 3 + END]]
    for step in (0, 4):
        rollouts, _, _ = roll(NAME, script, prompt=[{"role": "user", "content": "Add <b>1 and 2</b>"}])
        for at, rollout in enumerate(rollouts):
            rollout.rewards = {"right": float(at + step), "long": float("nan")}
            rollout.turn_rewards = {"right": [0.0] * (len(rollout.turns) - 1) + [float(at + step)]}
            rollout.advantage = at - 1.0
        write_traces(rollouts, path, Vocabulary(tokenizer(NAME)), step=step)
    return path


def test_a_trace_holds_what_is_needed_to_see_it_again(trace: Path) -> None:
    first = read_traces(trace)[0]
    assert first["rewards"] == {"right": 0.0, "long": None}
    for row in first["rows"]:
        for segment in row:
            text = "".join(text for _, text in segment["texts"])
            assert text == tokenizer(NAME).decode(segment["ids"])
            assert sum(count for count, _ in segment["texts"]) == len(segment["ids"])
    assert [span[2] for span in first["rows"][0][1]["spans"]].count("call") == 1


def test_the_command_makes_all_pages(trace: Path) -> None:
    done = CliRunner().invoke(view, [str(trace)])
    assert done.exit_code == 0, done.output
    folder = trace.with_name("trace-pages")
    assert sorted(p.name for p in folder.iterdir()) == [*(f"{n}.html" for n in range(6)), "compare.html", "index.html"]
    index = (folder / "index.html").read_text()
    assert set(re.findall(r'href="([^"]+)"', index)) == {f"{n}.html" for n in range(6)}
    for page in folder.iterdir():
        text = page.read_text()
        assert "<script>alert" not in text
        assert "<b>1 and" not in text
        assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", text)  # nothing is loaded
    assert "right by turn" in (folder / "0.html").read_text()


def test_of_many_rollouts_only_the_two_steps_have_pages(trace: Path, tmp_path: Path) -> None:
    lines = trace.read_text().splitlines()
    trace.write_text("\n".join(lines[:3] + [line.replace('"step": 0', '"step": 2') for line in lines[:3]] + lines[3:]))
    pages = write_pages(trace, tmp_path / "few", most=5)
    assert [page.name for page in pages] == ["index.html", *(f"{n}.html" for n in (0, 1, 2, 6, 7, 8)), "compare.html"]
    assert pages[0].read_text().count("<a ") == 6


def test_mistakes_are_named(trace: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(view, [str(trace), "--steps", "0", "9"])
    assert done.exit_code == 2
    assert "no step 9; it has 0, 4" in done.output
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"messages": []}\n')
    assert "line 1 is no rollout: it has no 'rows'" in CliRunner().invoke(view, [str(broken)]).output
    broken.write_text("")
    assert "has no rollouts" in CliRunner().invoke(view, [str(broken)]).output


def test_it_is_a_command_of_toolparse() -> None:
    found = [entry.value for entry in entry_points(group="toolparse.commands")]
    if not found:
        pytest.skip("the installed package is older than the command: install it again")
    assert found == ["trl_integration.view:view"]
    from toolparse.cli import cli

    assert "side by side" in CliRunner().invoke(cli, ["view", "--help"]).output


def test_two_steps_are_paired_by_prompt_and_then_by_order() -> None:
    def entry(prompt: str, index: int) -> dict[str, Any]:
        return {
            "index": index,
            "prompt": [{"role": "user", "content": prompt}],
            "messages": [],
            "calls": [],
            "rows": [],
            "rewards": {},
            "turn_rewards": {},
            "advantage": None,
            "stop_reason": "answered",
            "detail": None,
            "keep": True,
            "tool_seconds": 0.0,
        }

    page = compare_html([entry("one", 0), entry("two", 1)], [entry("two", 5), entry("three", 6), entry("four", 7)])
    order = re.findall(r"rollout (\d)</h2>", page)
    assert order == ["0", "6", "1", "5", "7"]
    assert page.count("nothing to set beside it") == 1


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_PROBE = """
<script>(() => {
const rows = () => [...document.querySelectorAll("#rows tbody tr")].filter(r => !r.hidden);
const cells = at => rows().map(r => r.cells[at].textContent.trim());
const out = {};
if (document.querySelector("#rows")) {
  document.querySelectorAll("#rows th button")[3].click(); out.up = cells(3);
  document.querySelectorAll("#rows th button")[3].click(); out.down = cells(3);
  const text = document.querySelector("#text"); text.value = "ADD <B>"; text.dispatchEvent(new Event("input")); out.found = rows().length;
  text.value = "nowhere"; text.dispatchEvent(new Event("input")); out.none = rows().length;
  text.value = ""; text.dispatchEvent(new Event("input"));
  out.count = document.querySelector("#count").textContent;
}
document.querySelectorAll("details").forEach(d => d.open = true);
const page = document.documentElement;
out.width = window.innerWidth; out.over = page.scrollWidth - page.clientWidth;
const rgb = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number);
const light = c => { const [r, g, b] = rgb(c).map(v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)$|transparent/.test(c)) return c; } return "rgb(255, 255, 255)"; };
out.contrast = Math.min(...[...document.querySelectorAll("body *")].filter(e => e.innerText && !["SCRIPT", "STYLE", "OPTION"].includes(e.tagName))
  .map(e => { const a = light(getComputedStyle(e).color), b = light(ground(e)); return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }));
out.dark = light(getComputedStyle(document.body).backgroundColor) < 0.2;
parent.document.querySelector("#said").textContent = JSON.stringify(out);
})()</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH: the pages are not looked at")
@pytest.mark.parametrize("width", [420, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_them(trace: Path, width: int, dark: bool) -> None:
    """Nothing is wider than the window, all text stands out, and the table sorts and filters."""
    pages = write_pages(trace, trace.with_name("pages"))
    for page in (pages[0], pages[1], pages[3], pages[-1]):
        # A frame of the wanted width: a window of a headless browser has a least width.
        text = page.read_text(encoding="utf-8").replace("</body>", _PROBE + "</body>")
        if dark:
            text = text.replace("(prefers-color-scheme:dark)", "all")
        outer = page.with_name("outer.html")
        outer.write_text(
            "<meta charset=utf-8><pre id=said></pre>"
            f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{escape(text)}"></iframe>',
            encoding="utf-8",
        )
        command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu"]
        command += [f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
        done = subprocess.run([*command, outer.as_uri()], capture_output=True, text=True, timeout=120, check=True)
        found = re.search(r"<pre id=\"said\">(.+?)</pre>", done.stdout, re.DOTALL)
        assert found is not None, done.stdout[-400:] + done.stderr[-400:]
        seen = json.loads(found[1])
        assert seen["width"] == width
        assert seen["over"] <= 0, page.name
        assert seen["contrast"] >= 4.5, page.name
        assert seen["dark"] == dark
        if page.name == "index.html":
            assert seen["up"] == ["0.0", "1.0", "2.0", "4.0", "5.0", "6.0"]
            assert seen["down"] == seen["up"][::-1]
            assert (seen["found"], seen["none"], seen["count"]) == (6, 0, "6 of 6 rollouts")


def test_a_table_without_pages_has_no_links(trace: Path) -> None:
    assert "<a " not in table_html(read_traces(trace))
