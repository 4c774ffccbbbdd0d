# Runs a command. When SIGTERM comes, because the machine is wanted back, it passes that on, lets
# the command save, and returns 75, "try again later": the command itself may end with 0 then.
# shellcheck disable=SC2329  # some scripts only send it on
resumable() {
  local child='' told='' status=0
  trap 'told=yes; kill -TERM "$child" 2>/dev/null || true' TERM
  "$@" &
  child=$!
  while true; do
    status=0
    wait "$child" || status=$?
    kill -0 "$child" 2>/dev/null || break
  done
  trap - TERM
  [ -z "$told" ] || status=75
  return "$status"
}
