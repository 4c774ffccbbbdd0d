#!/usr/bin/env bash
# Runs sycophancy on this machine, in one process or in several that meet on the loopback interface.
# Written by `sycophancy launch local`. Start it again to continue an interrupted run.
set -euo pipefail

#@ settings

#@ choose

say() { printf 'launch: %s\n' "$*" >&2; }

# Runs the selected arguments in $processes processes. When one process fails, the others end too;
# those that are still running after $patience seconds are stopped.
patience=10
run_processes() {
  local children=() index status=0 one code left=$processes deadline='' signal=TERM first=''
  if [ "$processes" -gt 1 ]; then
    export SYCOPHANCY_COORDINATOR="127.0.0.1:$port" SYCOPHANCY_NUM_PROCESSES="$processes"
  fi
  # On SIGTERM every process saves. Background processes ignore Ctrl-C, so it is passed on as SIGTERM.
  trap 'stopped=yes; kill -TERM "${children[@]}" 2>/dev/null || true' TERM INT
  for ((index = 0; index < processes; index++)); do
    if [ "$processes" -gt 1 ]; then
      SYCOPHANCY_PROCESS_ID="$index" "$program" "${arguments[@]}" &
    else
      "$program" "${arguments[@]}" &
    fi
    children+=("$!")
  done
  while [ "$left" -gt 0 ]; do
    for index in "${!children[@]}"; do
      one=${children[index]}
      ! kill -0 "$one" 2>/dev/null || continue
      code=0
      { wait "$one" || code=$?; } 2>/dev/null # bash would print a message about a killed process
      unset "children[$index]"
      left=$((left - 1))
      [ "$code" -ne 0 ] || continue
      [ -n "$deadline" ] || deadline=$((SECONDS + patience))
      # Code 3 means that a process ended because another failed, so it is not the first. After KILL,
      # any code is a consequence of this script's own signals.
      if [ "$status" -eq 0 ] || [ "$status$signal" = 3TERM ]; then
        status=$code first=$index
      fi
    done
    if [ "$left" -gt 0 ] && [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ]; then
      kill "-$signal" "${children[@]}" 2>/dev/null || true
      signal=KILL deadline=$((SECONDS + patience))
    fi
    [ "$left" -eq 0 ] || sleep 0.2 || true
  done
  trap - TERM INT
  case "$processes:$status" in
    1:* | *:0 | *:3) ;;
    *) say "process $first ended first, with $status" ;;
  esac
  return "$status"
}

main() {
  local id stopped='' status
  cd "$folder_here"
  for ((id = 0; id < count; id++)); do
    choose "$id"
    say "run $((id + 1)) of $count: $run"
    status=0
    run_processes || status=$?
    if [ -n "$stopped" ]; then
      say "stopped; the same script continues $run"
      exit 75
    elif [ "$status" -ne 0 ]; then
      say "$run ended with $status; the same script continues it"
      exit "$status"
    fi
  done
}

main
