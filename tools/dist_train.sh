#!/usr/bin/env bash
# tools/dist_train.sh CONFIG GPUS [options of train.py]
# On several machines: NNODES, NODE_RANK (0 on the first) and MASTER_ADDR in the environment; PORT if 29500 is taken.
# NNODES=MIN:MAX trains on as many machines as there are, and goes on when one leaves or comes.
# MAX_RESTARTS=3: when a process dies, all start again from the last checkpoint, up to three times.
# Without GPUs it starts as many CPU processes, which talk through gloo.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [options of train.py]" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
TOOLS=$(cd "$(dirname "$0")" && pwd)
NNODES=${NNODES:-1}
MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}
PORT=${PORT:-29500}
case $NNODES in
*:*)
    MAX_RESTARTS=${MAX_RESTARTS:-3}
    MEET=(--rdzv_backend=c10d --rdzv_endpoint="$MASTER_ADDR:$PORT" --rdzv_id="${RUN_ID:-mmdet_ft}")
    ;;
*) MEET=(--node_rank="${NODE_RANK:-0}" --master_addr="$MASTER_ADDR" --master_port="$PORT") ;;
esac

PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" -m mmdet_ft.engine.distributed.launch \
    --nnodes="$NNODES" "${MEET[@]}" \
    --nproc_per_node="$GPUS" \
    --max_restarts="${MAX_RESTARTS:-0}" \
    "$TOOLS/train.py" "$CONFIG" --seed 0 --launcher pytorch "${@:3}"
