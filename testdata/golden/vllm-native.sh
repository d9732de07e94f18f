#!/bin/bash
# vLLM as a command. Started by the node supervisor, which sets AIFBENCH_*.
set -eu
# The key and the token come from files of mode 0600: never argv, never a trace.
VLLM_API_KEY="$(cat "$AIFBENCH_KEY_FILE")"
export VLLM_API_KEY
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
export VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
export VLLM_CACHE_ROOT="$AIFBENCH_SCRATCH/vllm-cache" VLLM_CONFIG_ROOT="$AIFBENCH_SCRATCH/vllm-config"
export VLLM_HOST_IP=127.0.0.1
# What belongs to the command, such as ray, lies beside it.
export PATH=/opt/vllm/bin:"$PATH"
set -- serve meta/llama --served-model-name meta/llama --host 127.0.0.1 --port "$AIFBENCH_PORT" --tensor-parallel-size 4
exec /opt/vllm/bin/vllm "$@"


