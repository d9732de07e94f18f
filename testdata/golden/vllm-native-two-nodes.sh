#!/bin/bash
# vLLM as a command. Started by the node supervisor, which sets AIFBENCH_*.
set -eu
# The key and the token come from files of mode 0600: never argv, never a trace.
VLLM_API_KEY="$(cat "$AIFBENCH_KEY_FILE")"
export VLLM_API_KEY
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
export VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
export VLLM_CACHE_ROOT="$AIFBENCH_SCRATCH/vllm-cache" VLLM_CONFIG_ROOT="$AIFBENCH_SCRATCH/vllm-config"
# The address the other ranks reach this node by; left alone vLLM guesses one.
export VLLM_HOST_IP="$AIFBENCH_NODE_ADDR"
set -- serve meta/llama --served-model-name meta/llama --host 127.0.0.1 --port "$AIFBENCH_PORT" --tensor-parallel-size 4 --pipeline-parallel-size 2
set -- "$@" --nnodes "$AIFBENCH_NNODES" --node-rank "$AIFBENCH_NODE_RANK" --master-addr "$AIFBENCH_HEAD_ADDR" --master-port "$AIFBENCH_PORT_MASTER"
if [ "$AIFBENCH_NODE_RANK" -gt 0 ]; then
  set -- "$@" --headless
fi
exec vllm "$@"


