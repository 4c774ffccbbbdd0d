set -euo pipefail
export PATH="$HOME/.local/bin:$PATH"
command -v uv > /dev/null || python3 -m pip install --user --quiet uv
uv venv --quiet --allow-existing --python 3.11 .venv
uv pip install --quiet --python .venv/bin/python --constraint requirements.lock ".[$extra]"
# Runs are kept in the bucket, since a preempted machine loses its disk.
[ -e runs ] || ln -s /sycophancy-runs runs
