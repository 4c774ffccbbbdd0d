#!/usr/bin/env bash
#@ directives
# Runs sycophancy under SLURM. Made by `sycophancy launch slurm`; submit it with sbatch.
# The folder and the program below must be on a file system that every node sees.
set -euo pipefail

#@ settings

#@ choose

#@ resumable

main() {
  local status=0 cancelled=''
  # scancel and preemption tell this shell too; the time limit (--signal) tells the tasks alone.
  # Then it is not for us to requeue: the user meant it, or SLURM does it (PreemptMode=REQUEUE).
  trap 'cancelled=yes' TERM
  cd "$folder_here"
  choose "${SLURM_ARRAY_TASK_ID:-0}"
  if [ -n "$local_devices" ]; then
    # One task a node: without this, JAX under SLURM would take one device for each task.
    export JAX_LOCAL_DEVICE_IDS="$local_devices"
  fi
  # srun answers SIGTERM with SIGKILL to its tasks, so nothing here passes a signal to srun itself.
  # The first task that has saved must not end those that still do: processes that wait in vain for
  # one that crashed end by themselves.
  # shellcheck disable=SC2016  # $@ is for the tasks' shells
  srun --kill-on-bad-exit=0 --wait=0 bash -c "$(declare -f resumable); "'resumable "$@"' task \
    "$program" "${arguments[@]}" || status=$?
  if [ "$status" -eq 75 ] && [ -z "$cancelled" ]; then
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "$restarts" ]; then
      echo "launch: $run was restarted $restarts times; sbatch the same script to go on" >&2
      exit 75
    fi
    echo "launch: $run was told to stop and saved; it is queued again" >&2
    if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then # the last task's own id stands for the whole array
      scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
    else
      scontrol requeue "$SLURM_JOB_ID"
    fi
  fi
  exit "$status"
}

main
