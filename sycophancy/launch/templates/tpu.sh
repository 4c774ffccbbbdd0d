#!/usr/bin/env bash
# Runs sycophancy on a Cloud TPU: creates it, installs on every host, starts the same command on
# each, waits, brings the results here, and deletes the TPU however this script ends.
# Made by `sycophancy launch tpu`. Needs gcloud, signed in. Run it again to continue.
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
on_workers() { # every host, or one, runs a word of the script below
  local worker=$1
  shift
  vm ssh "$name" --worker="$worker" --command="bash sycophancy-worker.sh $*" < /dev/null
}

# The script for the hosts.
worker_script() {
  declare -p bucket prefix setup expected_hosts
  declare -f choose resumable attribute meet
  cat << 'WORKER'
#@ worker
WORKER
}

pack_source() { # what git knows of, as it is now, or the whole folder where there is no git
  if git -C "$source" rev-parse --git-dir > /dev/null 2>&1; then
    git -C "$source" ls-files -z --cached --others --exclude-standard > "$work/files"
    # A file that was deleted and is still in git's list is no reason to stop.
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
  created=yes # before it is: a create that fails half-way can leave something that costs money
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
  for try in 1 2 3 4 5; do # ssh is not up at once on every host
    if vm scp "$work/sycophancy.tar.gz" "$work/sycophancy-worker.sh" "$name:." --worker=all &&
      on_workers all install; then
      return
    fi
    say "installing on $name failed (try $try of 5)"
    pause
  done
  return 1
}

absent() { # succeeds only when the cloud says that there is no such thing
  local said
  ! said=$("$@" describe "$name" 2>&1) || return 1
  case "$said" in *NOT_FOUND* | *"not found"*) return 0 ;; esac
  return 1
}

delete() { # returns 1 if something may be left
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

# shellcheck disable=SC2329  # the trap calls it
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

ready() { # 0: the TPU is there; 1: it is not; 2: the cloud did not answer
  local state
  if state=$(vm describe "$name" --format='value(state)' 2> "$work/error"); then
    [ "$state" = READY ]
    return
  fi
  ! grep -qi 'not.found' "$work/error" || return 1
  return 2
}

# Waits for run $1. 0: done. 75: the machine was taken away, or the run was told to stop. Else: failed.
watch_run() {
  local id=$1 said silent=0 state
  while true; do
    pause
    if said=$(on_workers all status "$id"); then
      silent=0
      if state=$(grep -o 'sycophancy-exit:[0-9]*' <<< "$said"); then
        # The first that failed counts: the others are ended by its silence.
        case "$state" in *:75*) return 75 ;; esac
        state=$(grep -v ':0$' <<< "$state" | head -n 1) || true
        [ -z "$state" ] || return "${state#*:}"
        [ "$(grep -c 'sycophancy-exit:0' <<< "$said")" -lt "$expected_hosts" ] || return 0
      fi
      say "$(grep -o 'sycophancy-running:.*' <<< "$said" | head -n 1)"
      continue
    fi
    state=0
    ready || state=$?
    if [ "$state" -eq 1 ]; then
      say "$name was taken away"
      return 75
    fi
    silent=$((silent + 1)) # the network here may be down for a while; the run goes on meanwhile
    [ "$silent" -lt 60 ] || fail "$name has not answered 60 times; giving up"
  done
}

fetch() {
  local id=$1 try
  for try in 1 2 3; do
    if on_workers 0 pack "$id" && vm scp "$name:results.tar.gz" "$work/" --worker=0; then
      mkdir -p "$collect"
      tar -xzf "$work/results.tar.gz" -C "$collect"
      say "$run: results are in $collect/$(basename -- "$folder")"
      return
    fi
    say "bringing the results of $run here failed (try $try of 3)"
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
        delete || fail "what is left of $name cannot be deleted"
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
    say "$run: interrupted; it continues where it was (restart $((again + 1)) of at most $restarts)"
    on_workers all stop "$id" || true
  done
  [ "$status" -eq 0 ] || on_workers all stop "$id" || true
  if ! fetch "$id"; then
    if [ "$status" -eq 0 ] && [ -z "$bucket" ]; then
      keep=yes # better a bill than the run: nothing else has its results
      say "$run is complete, and only $name has its results"
    fi
    [ "$status" -ne 0 ] || status=1
  fi
  return "$status"
}

main() {
  local id status=0
  command -v gcloud > /dev/null ||
    fail 'gcloud is not here: install the Google Cloud CLI, then: gcloud auth login'
  work=$(mktemp -d)
  created=''
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  if vm describe "$name" > /dev/null 2>&1; then
    [ -n "$keep" ] ||
      fail "a TPU named $name is there already: take it with --keep, or delete it: $(how_to_delete)"
    created=yes
  elif [ -n "$queued" ] && queue describe "$name" > /dev/null 2>&1; then
    fail "a queued resource named $name is there already; delete it first: $(how_to_delete)"
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
