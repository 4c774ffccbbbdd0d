# On every host of the TPU: installs, starts a run, reports its state. Each call over ssh names one task.
set -euo pipefail
cd "$HOME"
export PATH="$HOME/.local/bin:$PATH"

install() {
  mkdir -p sycophancy
  tar -xzf sycophancy.tar.gz -C sycophancy
  cd sycophancy
  bash -c "$setup"
  if [ -n "$mounted" ] && ! mountpoint -q runs; then
    if ! command -v gcsfuse > /dev/null; then
      echo 'gcsfuse is not on this image: install it with --setup, or mount a shared folder' >&2
      exit 1
    fi
    mkdir -p runs
    # A complete stage gets its final name, which renames its folder.
    gcsfuse --implicit-dirs --rename-dir-limit=1000000 ${prefix:+"--only-dir=$prefix"} "$bucket" runs
  fi
  # The image's Python is too old; uv installs a newer one.
  command -v uv > /dev/null || python3 -m pip install --user --quiet uv
  uv venv --quiet --allow-existing --python 3.11 .venv
  uv pip install --quiet --python .venv/bin/python --constraint requirements.lock \
    ".[tpu${bucket:+,gcs}]"
  [ -z "$t5x" ] || uv pip install --quiet --python .venv/bin/python --no-deps \
    --requirement requirements-t5x.txt
}

# A run is over when its exit status is written, even if its process still exists.
alive() { [ ! -e "$job.exit" ] && [ -e "$job.pid" ] && kill -0 "$(cat "$job.pid")" 2> /dev/null; }

job=job-${2:-}

case "$1" in
  install) install ;;
  start) # the run continues when this connection ends
    if ! alive; then
      rm -f "$job.exit"
      setsid nohup bash "$0" run "$2" > "$job.log" 2>&1 < /dev/null &
      echo "$!" > "$job.pid"
    fi
    ;;
  run)
    choose "$2"
    status=0
    meet "$expected_hosts" || status=$?
    cd sycophancy
    [ "$status" -ne 0 ] || resumable .venv/bin/sycophancy "${arguments[@]}" || status=$?
    echo "$status" > "../$job.exit"
    ;;
  status)
    if [ -e "$job.exit" ]; then
      echo "sycophancy-exit:$(cat "$job.exit")"
    elif alive; then
      echo "sycophancy-running: $(tail -c 200 "$job.log" | tr '\r' '\n' | tail -n 1)"
    else
      echo 'sycophancy-exit:75' # ended without a status: the host was restarted, or memory ran out
    fi
    ;;
  stop) # SIGTERM first, so that the run can save
    for _ in {1..60}; do
      alive || break
      kill -TERM "$(cat "$job.pid")" 2> /dev/null || true
      sleep 1
    done
    ! alive || kill -KILL -- "-$(cat "$job.pid")"
    ;;
  pack) # what is fetched of a run that is not in a bucket; in a mounted one, checkpoints stay there
    choose "$2"
    cd sycophancy
    mkdir -p "$folder"
    cp "../$job.log" "$folder/launch.log"
    tar -czf ../results.tar.gz ${mounted:+"--exclude=*/finetune/checkpoints"} \
      -C "$(dirname -- "$folder")" -- "$(basename -- "$folder")"
    ;;
esac
