set -euo pipefail
export PATH="$HOME/.local/bin:$PATH"
command -v uv > /dev/null || python3 -m pip install --user --quiet uv
uv venv --quiet --allow-existing --python 3.11 .venv
uv pip install --quiet --python .venv/bin/python --constraint requirements.lock ".[$extras]"
[ -z "$t5x" ] || uv pip install --quiet --python .venv/bin/python --no-deps \
  --requirement requirements-t5x.txt
# Many runs of one folder are kept in the mounted bucket, since a preempted machine loses its disk.
[ -z "$mounted" ] || [ -e runs ] || ln -s /sycophancy-runs runs
