#!/usr/bin/env bash
#@ directives
# Runs sycophancy under SLURM. Written by `sycophancy launch slurm`; submit it with sbatch.
# The folder and the program below must be on a file system that every node sees.
set -euo pipefail

#@ settings

#@ choose

#@ resumable

main() {
  local status=0 cancelled=''
  # At the time limit (--signal) only the tasks receive SIGTERM; on scancel and preemption this
  # shell receives it too. Then it must not requeue: the user cancelled the job, or SLURM itself
  # requeues it (PreemptMode=REQUEUE).
  trap 'cancelled=yes' TERM
  cd "$folder_here"
  choose "${SLURM_ARRAY_TASK_ID:-0}"
  if [ -n "$local_devices" ]; then
    # There is one task for each node; by default, JAX under SLURM uses one device for each task.
    export JAX_LOCAL_DEVICE_IDS="$local_devices"
  fi
  # srun kills its tasks with SIGKILL when it receives SIGTERM, so this script sends it no signal.
  # When the first task has saved and ended, srun must let the others finish saving. Tasks whose
  # partner crashed end on their own, so no task waits for ever.
  # shellcheck disable=SC2016  # $@ is expanded by the tasks' shells
  srun --kill-on-bad-exit=0 --wait=0 bash -c "$(declare -f resumable); "'resumable "$@"' task \
    "$program" "${arguments[@]}" || status=$?
  if [ "$status" -eq 75 ] && [ -z "$cancelled" ]; then
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "$restarts" ]; then
      echo "launch: $run was restarted $restarts times; submit the same script to continue" >&2
      exit 75
    fi
    echo "launch: $run was stopped and saved; it is queued again" >&2
    if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then # the job's own id may stand for the whole array
      scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
    else
      scontrol requeue "$SLURM_JOB_ID"
    fi
  fi
  exit "$status"
}

main
