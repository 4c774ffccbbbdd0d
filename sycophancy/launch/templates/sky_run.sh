set -euo pipefail

#@ choose

#@ resumable

#@ meet

choose "$SYCOPHANCY_RUN"
if [ "$extra" = tpu ]; then
  meet "${SKYPILOT_NUM_NODES:-1}" # for a TPU, this is the number of its hosts
elif [ "${SKYPILOT_NUM_NODES:-1}" -gt 1 ]; then
  export SYCOPHANCY_COORDINATOR="${SKYPILOT_NODE_IPS%%$'\n'*}:8476"
  export SYCOPHANCY_NUM_PROCESSES="$SKYPILOT_NUM_NODES"
  export SYCOPHANCY_PROCESS_ID="$SKYPILOT_NODE_RANK"
fi
echo "launch: $run in $folder" >&2
resumable .venv/bin/sycophancy "${arguments[@]}"
