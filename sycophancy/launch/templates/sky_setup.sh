set -euo pipefail
export PATH="$HOME/.local/bin:$PATH"
command -v uv > /dev/null || python3 -m pip install --user --quiet uv
uv venv --quiet --allow-existing --python 3.11 .venv
uv pip install --quiet --python .venv/bin/python --constraint requirements.lock ".[$extra]"
# Runs live in the bucket: a machine that is taken away takes its disk along.
[ -e runs ] || ln -s /sycophancy-runs runs
