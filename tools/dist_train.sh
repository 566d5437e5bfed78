#!/usr/bin/env bash
# tools/dist_train.sh CONFIG GPUS [options of train.py]
# On several machines: NNODES, NODE_RANK (0 on the first) and MASTER_ADDR in the environment; PORT if 29500 is taken.
# Without GPUs it starts as many CPU processes, which talk through gloo.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [options of train.py]" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
TOOLS=$(cd "$(dirname "$0")" && pwd)

PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --nproc_per_node="$GPUS" \
    --master_port="${PORT:-29500}" \
    "$TOOLS/train.py" "$CONFIG" --seed 0 --launcher pytorch "${@:3}"
