#!/usr/bin/env bash
# A fresh clone of the last commit, an empty environment, `pip install '.[serve]'`, `toolparse serve` on a tiny model
# that is made on the spot, and curl against it. Some minutes. Usage: serve_from_scratch.sh [PYTHON]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
git clone --quiet "$root" "$folder/clone"
cd "$folder/clone"
"${1:-python3}" -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet install)
"${pip[@]}" torch==2.13.0  # first and by exactly this spec, as in the Makefile
"${pip[@]}" -c constraints.txt '.[serve]'

"$folder/venv/bin/python" - "$folder/tiny" <<'PY'
import sys, fixtures
from fixtures.tiny import tiny_model, tiny_tokenizer

tokenizer = tiny_tokenizer(fixtures.template("qwen"))
tokenizer.save_pretrained(sys.argv[1])
tiny_model(tokenizer).save_pretrained(sys.argv[1])
PY

cd "$folder"  # the installed package, not the clone's sources
"$folder/venv/bin/toolparse" serve "$folder/tiny" --port 0 2>"$folder/said" &
server=$!
for _ in $(seq 600); do
  url=$(grep -o 'http://127[.0-9]*:[0-9]*' "$folder/said" || true)
  [ -z "$url" ] || break
  kill -0 "$server" 2>/dev/null || break
  sleep 0.2
done
cat "$folder/said"
[ -n "$url" ] || { echo "it did not start"; exit 1; }
ask() {
  printf '\n--- %s %s\n' "$1" "${2:-}"
  curl --silent --show-error --fail --max-time 60 ${2:+-H 'content-type: application/json' -d "$2"} "$url$1" | head -c 600
}
hello='"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4'
ask /health | grep '"ok"'
ask /v1/models | grep '"tiny"'
ask /v1/chat/completions "{$hello}" | grep '"finish_reason":"length"'
ask /v1/chat/completions "{$hello, \"stream\": true}" | grep 'chat.completion.chunk'
ask /v1/messages "{$hello}" | grep '"stop_reason":"max_tokens"'
ask /v1/responses '{"input": "Hi", "max_output_tokens": 4}' | grep '"status":"incomplete"'
printf '\nserved from scratch\n'
