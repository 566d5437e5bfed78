#!/usr/bin/env bash
# tools/misc/srun.sh PARTITION JOB_NAME TOOL [words of the tool]: what slurm_train.sh and slurm_test.sh have in common.
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS come from the environment.
set -euo pipefail
TOOLS=$(cd "$(dirname "$0")/.." && pwd)
GPUS_PER_NODE=${GPUS_PER_NODE:-8}

set -x
# SRUN_ARGS is split into words on purpose.
PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}" exec srun -p "$1" \
    --job-name="$2" \
    --gres=gpu:"$GPUS_PER_NODE" \
    --ntasks="${GPUS:-8}" \
    --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$TOOLS/$3" "${@:4}"
