#!/usr/bin/env bash
# Both wheels, compiled and pure, built as a release builds them, each installed into a bare environment and used there.
#   scripts/check_wheels.sh [PYTHON]
set -euo pipefail
python=$(readlink -f "$(command -v "${1:-${PYTHON:-python3}}")") # of a virtual environment: the one that it was made from
cd "$(dirname "$0")/.."
root=$PWD made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
trap 'echo "check_wheels.sh: line $LINENO failed: $BASH_COMMAND" >&2' ERR

quiet() { "$@" --quiet --disable-pip-version-check; }

"$python" -m venv "$made/build"
for kind in compiled pure; do
  # Out of a copy: a build leaves nothing in the tree, and nothing in the tree gets into a wheel but what git knows.
  git ls-files -z | xargs -0 -I{} cp --parents {} "$(mkdir -p "$made/$kind" && echo "$made/$kind")"
  if [ $kind = pure ]; then export TOOLPARSE_PURE=1; fi
  "$made/build/bin/python" -m pip wheel -v --no-deps -w "$made/$kind-wheel" "$made/$kind" > "$made/log" 2>&1 ||
    { tail -50 "$made/log"; exit 1; }
  grep "built without compiled modules" "$made/log" || true
  wheel=$(echo "$made/$kind-wheel"/toolparse-*.whl)
  "$python" - "$kind" "$wheel" <<'PYTHON'
import sys, zipfile
kind, wheel = sys.argv[1:]
names = zipfile.ZipFile(wheel).namelist()
tops = {name.partition("/")[0] for name in names if ".dist-info" not in name and not name.endswith(".so")}
assert tops == {"toolparse", "trl_integration"}, tops
assert "toolparse/py.typed" in names
others = [name for name in names if name.startswith(("tests/", "fixtures/")) or "chat_template" in name]
assert not others, others
compiled = [name for name in names if name.endswith((".so", ".pyd"))]
assert bool(compiled) == (kind == "compiled"), compiled
assert wheel.endswith("-py3-none-any.whl") == (kind == "pure"), wheel
PYTHON
  "$python" -m venv "$made/$kind-bare"
  quiet "$made/$kind-bare/bin/python" -m pip install -c "$root/constraints.txt" "$wheel"
  mkdir "$made/$kind-empty" && cd "$made/$kind-empty"
  "$made/$kind-bare/bin/python" -c "
import toolparse, trl_integration
assert toolparse.COMPILED == ('$kind' == 'compiled'), toolparse.COMPILED
assert '$kind-bare' in toolparse.__file__, toolparse.__file__"
  "$made/$kind-bare/bin/toolparse" families > families.txt
  grep -q qwen families.txt
  cp "$root/fixtures/templates/qwen3-coder.jinja" template.jinja
  "$made/$kind-bare/bin/toolparse" inspect template.jinja > inspected.txt
  grep -q "proved on its template" inspected.txt
  echo '{"name": "f", "arguments": {"x": 1}}' | "$made/$kind-bare/bin/toolparse" render hermes > call.txt
  "$made/$kind-bare/bin/toolparse" parse hermes call.txt > parsed.txt
  "$made/$kind-bare/bin/python" -c "
import json
call = json.load(open('parsed.txt'))['tool_calls'][0]['function']
assert call == {'name': 'f', 'arguments': {'x': 1}}, call"
  cd "$root"
  echo "$(basename "$wheel"): $(wc -c < "$wheel") bytes; installed bare, reads, writes, detects"
done
