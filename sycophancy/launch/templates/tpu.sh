#!/usr/bin/env bash
# Runs sycophancy on a Cloud TPU: creates the TPU, installs on every host, starts the same command on
# each, waits, fetches the results, and deletes the TPU, also after a failure or Ctrl-C.
# Written by `sycophancy launch tpu`. Needs gcloud, signed in. Start it again to continue a run.
set -euo pipefail

#@ settings

#@ choose

#@ resumable

#@ meet

say() { printf 'launch: %s\n' "$*" >&2; }
fail() {
  say "$*"
  exit 1
}
pause() { sleep "${LAUNCH_POLL_SECONDS:-60}"; }

where=("--zone=$zone" ${project:+"--project=$project"} --quiet)
vm() { gcloud compute tpus tpu-vm "$@" "${where[@]}"; }
queue() { gcloud compute tpus queued-resources "$@" "${where[@]}"; }
on_workers() { # calls the script below on all hosts ($1 is `all`), or on host $1
  local worker=$1
  shift
  vm ssh "$name" --worker="$worker" --command="bash sycophancy-worker.sh $*" < /dev/null
}

# Prints the script that runs on the hosts.
worker_script() {
  declare -p bucket mounted t5x prefix setup expected_hosts
  declare -f choose resumable attribute meet
  cat << 'WORKER'
#@ worker
WORKER
}

pack_source() { # the files of the git checkout with their changes, or the whole folder without git
  if git -C "$source" rev-parse --git-dir > /dev/null 2>&1; then
    git -C "$source" ls-files -z --cached --others --exclude-standard > "$work/files"
    # Git also lists files that were deleted from the folder; they are left out.
    (cd "$source" && while IFS= read -r -d '' file; do
      [ ! -e "$file" ] || printf '%s\0' "$file"
    done < "$work/files") > "$work/present"
    tar -czf "$work/sycophancy.tar.gz" -C "$source" --null -T "$work/present"
  else
    tar -czf "$work/sycophancy.tar.gz" -C "$source" --exclude=./runs --exclude=./.venv .
  fi
}

create() {
  say "creating $name ($accelerator)"
  created=yes # set before, since a creation that fails half-way can leave a TPU that costs money
  if [ -z "$queued" ]; then
    vm create "$name" --accelerator-type="$accelerator" --version="$runtime" ${spot:+"--spot"}
    return
  fi
  queue create "$name" --node-id="$name" --accelerator-type="$accelerator" \
    --runtime-version="$runtime" ${spot:+"--spot"}
  while true; do
    case "$(queue describe "$name" --format='value(state.state)' || echo unknown)" in
      *ACTIVE*) return ;;
      *FAILED* | *SUSPEND*)
        say "the queued resource $name failed"
        return 1
        ;;
    esac
    say "waiting in the queue for $name"
    pause
  done
}

install_all() {
  local try
  for try in 1 2 3 4 5; do # ssh takes a while to start on every host
    if vm scp "$work/sycophancy.tar.gz" "$work/sycophancy-worker.sh" "$name:." --worker=all &&
      on_workers all install; then
      return
    fi
    say "installing on $name failed (try $try of 5)"
    pause
  done
  return 1
}

absent() { # succeeds only if the cloud says that the TPU or queue entry does not exist
  local answer
  ! answer=$("$@" describe "$name" 2>&1) || return 1
  case "$answer" in *NOT_FOUND* | *"not found"*) return 0 ;; esac
  return 1
}

delete() { # returns 1 if the TPU may still exist
  local try
  for try in 1 2 3; do
    if [ -n "$queued" ]; then
      queue delete "$name" --force || true
      ! absent queue || ! absent vm || return 0
    else
      vm delete "$name" || true
      ! absent vm || return 0
    fi
    say "$name is not gone yet (try $try of 3)"
    pause
  done
  return 1
}

how_to_delete() {
  if [ -n "$queued" ]; then
    echo "gcloud compute tpus queued-resources delete $name --force --zone=$zone ${project:+--project=$project}"
  else
    echo "gcloud compute tpus tpu-vm delete $name --zone=$zone ${project:+--project=$project}"
  fi
}

# shellcheck disable=SC2329  # called by the trap
finish() {
  local status=$?
  trap '' INT TERM HUP # a second Ctrl-C must not leave the TPU behind
  set +e
  if [ -z "$created" ]; then
    :
  elif [ -n "$keep" ]; then
    say "$name is kept, and costs money until: $(how_to_delete)"
  elif delete; then
    say "$name is deleted"
  else
    say "$name MAY STILL BE THERE AND COST MONEY. Delete it: $(how_to_delete)"
    [ "$status" -ne 0 ] || status=1
  fi
  rm -rf "$work"
  exit "$status"
}

ready() { # 0: the TPU is ready; 1: it is not; 2: the cloud did not answer
  local state
  if state=$(vm describe "$name" --format='value(state)' 2> "$work/error"); then
    [ "$state" = READY ]
    return
  fi
  ! grep -qi 'not.found' "$work/error" || return 1
  return 2
}

# Waits for run $1. Returns 0 if it is complete, 75 if the TPU was preempted or the run was stopped,
# and its exit status if it failed.
watch_run() {
  local id=$1 answer silent=0 state
  while true; do
    pause
    if answer=$(on_workers all status "$id"); then
      silent=0
      if state=$(grep -o 'sycophancy-exit:[0-9]*' <<< "$answer"); then
        # When one host fails, the others end because of it, so the first failure counts.
        case "$state" in *:75*) return 75 ;; esac
        state=$(grep -v ':0$' <<< "$state" | head -n 1) || true
        [ -z "$state" ] || return "${state#*:}"
        [ "$(grep -c 'sycophancy-exit:0' <<< "$answer")" -lt "$expected_hosts" ] || return 0
      fi
      say "$(grep -o 'sycophancy-running:.*' <<< "$answer" | head -n 1)"
      continue
    fi
    state=0
    ready || state=$?
    if [ "$state" -eq 1 ]; then
      say "$name was preempted"
      return 75
    fi
    silent=$((silent + 1)) # if only the network is down here, the run continues
    [ "$silent" -lt 60 ] || fail "$name has not answered 60 times; giving up"
  done
}

# Copies what run $1 has left, without the checkpoints if they are in the bucket, to $collect.
collect_results() {
  local there
  mkdir -p "$collect"
  case "$folder" in
    gs://*)
      there="$collect/$(basename -- "$folder")"
      mkdir -p "$there" &&
        gcloud storage rsync "$folder" "$there" --recursive --exclude='finetune/checkpoints/.*' &&
        vm scp "$name:job-$1.log" "$there/launch.log" --worker=0
      ;;
    *)
      on_workers 0 pack "$1" && vm scp "$name:results.tar.gz" "$work/" --worker=0 &&
        tar -xzf "$work/results.tar.gz" -C "$collect"
      ;;
  esac
}

fetch() {
  local id=$1 try
  for try in 1 2 3; do
    if collect_results "$id"; then
      say "$run: results are in $collect/$(basename -- "$folder")"
      return
    fi
    say "fetching the results of $run failed (try $try of 3)"
    pause
  done
  return 1
}

one_run() {
  local id=$1 again status
  for ((again = 0; again <= restarts; again++)); do
    status=0
    ready || status=$?
    if [ "$status" -eq 1 ]; then
      if [ -n "$created" ]; then
        delete || fail "the remains of $name cannot be deleted"
      fi
      create || return 1
      install_all || return 1
    fi
    say "$run: started on $name; its log: gcloud compute tpus tpu-vm ssh $name --zone=$zone" \
      "${project:+--project=$project }--worker=0 --command='tail -f job-$id.log'"
    status=0
    on_workers all start "$id" || status=75
    if [ "$status" -eq 0 ]; then
      watch_run "$id" || status=$?
    fi
    [ "$status" -eq 75 ] || break
    say "$run: interrupted; it continues where it stopped (restart $((again + 1)) of at most $restarts)"
    on_workers all stop "$id" || true
  done
  [ "$status" -eq 0 ] || on_workers all stop "$id" || true
  if ! fetch "$id"; then
    if [ "$status" -eq 0 ] && [ -z "$bucket" ]; then
      keep=yes # the TPU holds the only copy of the results
      say "$run is complete, and only $name has its results"
    fi
    [ "$status" -ne 0 ] || status=1
  fi
  return "$status"
}

main() {
  local id status=0
  command -v gcloud > /dev/null ||
    fail 'gcloud is not installed: install the Google Cloud CLI, then: gcloud auth login'
  work=$(mktemp -d)
  created=''
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  if vm describe "$name" > /dev/null 2>&1; then
    [ -n "$keep" ] ||
      fail "a TPU named $name exists: use it with --keep, or delete it: $(how_to_delete)"
    created=yes
  elif [ -n "$queued" ] && queue describe "$name" > /dev/null 2>&1; then
    fail "a queued resource named $name exists; delete it first: $(how_to_delete)"
  fi
  pack_source
  worker_script > "$work/sycophancy-worker.sh"
  [ -z "$created" ] || install_all || fail "cannot install on $name"
  for ((id = 0; id < count; id++)); do
    choose "$id"
    say "run $((id + 1)) of $count: $run"
    one_run "$id" || {
      status=$?
      fail_all=$status
      say "$run ended with $status"
    }
  done
  exit "${fail_all:-0}"
}

main
