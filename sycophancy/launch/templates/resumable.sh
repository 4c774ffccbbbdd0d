# Runs a command. When the machine is preempted and SIGTERM comes, it passes SIGTERM on, lets the
# command save and returns 75, "try again later", although the command itself may then return 0.
# shellcheck disable=SC2329  # some scripts only pass this function on
resumable() {
  local child='' stopped='' status=0
  trap 'stopped=yes; kill -TERM "$child" 2>/dev/null || true' TERM
  "$@" &
  child=$!
  while true; do
    status=0
    wait "$child" || status=$?
    kill -0 "$child" 2>/dev/null || break
  done
  trap - TERM
  [ -z "$stopped" ] || status=75
  return "$status"
}
