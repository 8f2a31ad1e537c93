#!/usr/bin/env bash
# The training tests with the oldest trl and transformers that pyproject.toml declares, and with the newest on the index.
# Each pair gets an environment of its own beside the repository's; needs a package index.
set -euo pipefail
cd "$(dirname "$0")/.."
py=${1:-.venv/bin/python}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

oldest() { sed -n "s/^ *\"$1>=\([0-9.]*\)\".*/\1/p" pyproject.toml | head -1; }

for pair in "trl==$(oldest trl) transformers==$(oldest transformers)" "trl transformers"; do
  echo "--- $pair"
  home="$scratch/$(echo "$pair" | tr -c 'a-z0-9\n' '-')"
  "$py" -m venv "$home"
  "$home/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
  # shellcheck disable=SC2086
  TOOLPARSE_PURE=1 "$home/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade $pair '.[trl,test,test-trl]'
  "$home/bin/python" -m pip list --disable-pip-version-check 2>/dev/null | grep -E '^(trl|transformers) '
  PYTHONPATH=. "$home/bin/python" -m pytest -q -n 0 -p no:cacheprovider \
    tests/trl/test_training.py tests/trl/test_drop_in.py tests/trl/test_rloo.py tests/trl/test_credit.py \
    tests/trl/test_models.py tests/trl/test_async_worker.py
done
