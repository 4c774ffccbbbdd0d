# shellcheck disable=SC2329  # some scripts only send it on
attribute() {
  curl --silent --fail --header 'Metadata-Flavor: Google' \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

# Tells sycophancy which hosts the TPU has, if their number, $1, is more than one: over ssh nothing
# in the environment says it. The number of a process must be that of its host.
# shellcheck disable=SC2329  # likewise
meet() {
  local hosts first
  [ "$1" -gt 1 ] || return 0
  # id:port:address, with commas between
  hosts=$(attribute worker-network-endpoints) || return 1
  first=${hosts%%,*}
  first=${first#*:*:}
  SYCOPHANCY_COORDINATOR="${first%%:*}:8482"
  SYCOPHANCY_NUM_PROCESSES=$(awk -F, '{ print NF }' <<< "$hosts")
  SYCOPHANCY_PROCESS_ID=$(attribute agent-worker-number) || return 1
  export SYCOPHANCY_COORDINATOR SYCOPHANCY_NUM_PROCESSES SYCOPHANCY_PROCESS_ID
}
