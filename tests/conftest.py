"""What the tests share: hypothesis profiles, and the real templates and tokenizers where there are any.

Profiles (`HYPOTHESIS_PROFILE`): `dev` is quick, `ci` is the measure, `laws` takes ten times more examples.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.places import NO_SHARED, ROOT, real_template_files, shared_folder, template_id, tokenizers_folder

# Tests look into detection and change parts of it: that takes one process. `test_isolation.py` has several.
os.environ.setdefault("TOOLPARSE_ISOLATION", "off")
# Models are tiny, and tests run side by side: torch's threads would wait for one another most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_SLOW_MACHINE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
_QUIET = settings(deadline=None, suppress_health_check=_SLOW_MACHINE, print_blob=True)
settings.register_profile("dev", _QUIET, max_examples=50)
settings.register_profile("ci", _QUIET, max_examples=500, derandomize=True)
settings.register_profile("laws", _QUIET, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def pytest_sessionstart() -> None:
    """Tests that run what was compiled from other sources than those at hand would say nothing."""
    stale = [
        str(source.relative_to(ROOT))
        for folder in ("reader", "codecs")
        for compiled in (ROOT / "toolparse" / folder).glob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}")
        if (source := compiled.with_name(compiled.name.partition(".")[0] + ".py")).stat().st_mtime
        > compiled.stat().st_mtime
    ]
    if stale:
        pytest.exit(f"changed since they were compiled: {', '.join(stale)}; run `make compile` (or `make pure`)", 3)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is in tests/test_laws*.py runs a law."""
    for item in items:
        if item.path.name.startswith("test_laws"):
            item.add_marker(pytest.mark.law)


def run_python(code: str, *arguments: object, stdin: str = "", **environment: str) -> str:
    """What a program prints in a Python of its own, which imports from this checkout."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, input=stdin, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def sliced(text: Any, size: int) -> list[Any]:
    """A text, or ids, in pieces of one size."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def streamed(parser: Any, pieces: Iterable[Any], **given: Any) -> Any:
    """The message of a stream that is fed these pieces: the characters of a text, if it is one."""
    stream = parser.stream(**given)
    for piece in pieces:
        stream.feed(piece)
    return stream.close()


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test registers, others don't see."""
    from toolparse import registry

    registry.families()  # filled before it is copied
    for table in ("_entries", "_names", "_templates", "_added"):
        monkeypatch.setattr(registry, table, dict(getattr(registry, table)))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children of the test get Ctrl-C, also where the suite runs in the background and ignores it: they inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that was detected before is known, nor will be."""
    from toolparse.templates.judging import detection_store

    monkeypatch.setenv("TOOLPARSE_CACHE", "off")
    detection_store.forget()
    yield
    detection_store.forget()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    folder = shared_folder()
    if folder is None:
        pytest.skip(NO_SHARED)
    return folder


@pytest.fixture(scope="session")
def real_templates() -> dict[str, str]:
    """Real template texts by `shared:NAME` or `trl:NAME`."""
    texts = {template_id(path): path.read_text(encoding="utf-8") for path in real_template_files()}
    if not texts:
        pytest.skip(f"{NO_SHARED}, or install trl, which ships some templates")
    return texts


@pytest.fixture(scope="session")
def real_tokenizer() -> Iterator[Callable[[str], Any]]:
    """`real_tokenizer("qwen3")`: the tokenizer that scripts/fetch_tokenizers.py fetched under that name."""
    loaded: dict[str, Any] = {}

    def load(name: str) -> Any:
        if name not in loaded:
            folder = tokenizers_folder() / name
            if not (folder / "tokenizer.json").is_file():
                pytest.skip(f"no real tokenizer {name!r}: run `python scripts/fetch_tokenizers.py --only {name}`")
            if importlib.util.find_spec("transformers") is None:
                pytest.skip("a real tokenizer needs transformers, which is not installed")
            from transformers import AutoTokenizer, PreTrainedTokenizerFast

            try:
                loaded[name] = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            except ValueError:  # its configuration asks for code that comes with the model; the file says all there is
                loaded[name] = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        return loaded[name]

    yield load
    loaded.clear()
