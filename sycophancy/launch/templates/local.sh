#!/usr/bin/env bash
# Runs sycophancy here, as one process or as several that meet on the loopback interface.
# Made by `sycophancy launch local`. Run it again to continue.
set -euo pipefail

#@ settings

#@ choose

say() { printf 'launch: %s\n' "$*" >&2; }

# Runs the chosen arguments in $processes processes. When one fails, the others end by themselves;
# those that have not after $patience seconds are stopped.
patience=10
crew() {
  local children=() index status=0 one code left=$processes deadline='' signal=TERM first=''
  if [ "$processes" -gt 1 ]; then
    export SYCOPHANCY_COORDINATOR="127.0.0.1:$port" SYCOPHANCY_NUM_PROCESSES="$processes"
  fi
  # SIGTERM lets every process save; Ctrl-C too, as programs in the background do not see it.
  trap 'told=yes; kill -TERM "${children[@]}" 2>/dev/null || true' TERM INT
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
      { wait "$one" || code=$?; } 2>/dev/null # bash would report a kill by itself
      unset "children[$index]"
      left=$((left - 1))
      [ "$code" -ne 0 ] || continue
      [ -n "$deadline" ] || deadline=$((SECONDS + patience))
      # 3: it ended because another did, which is seen later. KILL: SIGTERM was sent from here.
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
  local id told='' status
  cd "$folder_here"
  for ((id = 0; id < count; id++)); do
    choose "$id"
    say "run $((id + 1)) of $count: $run"
    status=0
    crew || status=$?
    if [ -n "$told" ]; then
      say "stopped; the same script continues $run"
      exit 75
    elif [ "$status" -ne 0 ]; then
      say "$run ended with $status; the same script continues it"
      exit "$status"
    fi
  done
}

main
