#!/usr/bin/env bash
# tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS come from the environment.
# SRUN_ARGS='--signal=USR1@120' has the run saved two minutes before the time is up; with --auto-resume the next job goes on.
if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/misc/srun.sh" "$1" "$2" train.py "$3" --work-dir="$4" --launcher=slurm "${@:5}"
