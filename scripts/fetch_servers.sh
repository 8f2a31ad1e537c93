#!/usr/bin/env bash
# The Python files of vLLM's and SGLang's wheels (376 MB to fetch), and the small packages that their parsers
# import, for tests/serving/test_plugins.py to run the plugins against. Usage: fetch_servers.sh PYTHON [FOLDER]
set -euo pipefail
python=${1:?which python}
folder=$(realpath -m "${2:-.cache/servers}")
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
pip=("$python" -m pip --disable-pip-version-check --quiet)

"${pip[@]}" download --no-deps --no-cache-dir --only-binary :all: -d "$wheels" vllm==0.33.0 sglang==0.5.23
rm -rf "$folder"
mkdir -p "$folder"
"${pip[@]}" install --no-deps --target "$folder" \
  aiohappyeyeballs aiohttp aiosignal annotated-doc cachetools cbor2 cloudpickle fastapi frozenlist ijson mistral-common \
  multidict openai-harmony partial-json-parser prometheus-client propcache py-cpuinfo pybase64 pyzmq tiktoken uvloop yarl
"$python" - "$wheels" "$folder" <<'PY'
import sys, zipfile
from pathlib import Path

for wheel in Path(sys.argv[1]).glob("*.whl"):
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(sys.argv[2], [name for name in packed.namelist() if name.endswith(".py")])
PY
echo "the servers' files are in $folder"
