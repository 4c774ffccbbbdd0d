# shellcheck disable=SC2329  # some scripts only pass this function on
attribute() {
  curl --silent --fail --header 'Metadata-Flavor: Google' \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

# Sets the variables by which the processes on the TPU's $1 hosts meet, if there are several: over
# ssh, no variable describes the hosts. The number of a process must be that of its host.
# shellcheck disable=SC2329  # likewise
meet() {
  local hosts first
  [ "$1" -gt 1 ] || return 0
  # ID:PORT:ADDRESS of each host, separated by commas
  hosts=$(attribute worker-network-endpoints) || return 1
  first=${hosts%%,*}
  first=${first#*:*:}
  SYCOPHANCY_COORDINATOR="${first%%:*}:8482"
  SYCOPHANCY_NUM_PROCESSES=$(awk -F, '{ print NF }' <<< "$hosts")
  SYCOPHANCY_PROCESS_ID=$(attribute agent-worker-number) || return 1
  export SYCOPHANCY_COORDINATOR SYCOPHANCY_NUM_PROCESSES SYCOPHANCY_PROCESS_ID
}
