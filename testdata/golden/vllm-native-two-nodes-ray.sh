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
# Ray spans the nodes where this vLLM has no multi-node mode of its own.
export RAY_USAGE_STATS_ENABLED=0
if [ "$AIFBENCH_NODE_RANK" -gt 0 ]; then
  export RAY_ADDRESS="$AIFBENCH_HEAD_ADDR:$AIFBENCH_PORT_MASTER"
  # The head may come up later than this node.
  for _ in $(seq 60); do
    ray status >/dev/null 2>&1 && break
    sleep 2
  done
  exec ray start --address="$RAY_ADDRESS" --node-ip-address="$AIFBENCH_NODE_ADDR" --block
fi
ray start --head --port="$AIFBENCH_PORT_MASTER" --node-ip-address="$AIFBENCH_NODE_ADDR" --include-dashboard=false
export RAY_ADDRESS="$AIFBENCH_HEAD_ADDR:$AIFBENCH_PORT_MASTER"
set -- serve meta/llama --served-model-name meta/llama --host 127.0.0.1 --port "$AIFBENCH_PORT" --tensor-parallel-size 4 --pipeline-parallel-size 2 --distributed-executor-backend ray
exec vllm "$@"


