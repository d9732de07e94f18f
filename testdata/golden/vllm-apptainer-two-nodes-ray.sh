#!/bin/bash
# vLLM in a container. Started by the node supervisor, which sets AIFBENCH_*.
set -eu
# The key and the token come from files of mode 0600: never argv, never a trace.
VLLM_API_KEY="$(cat "$AIFBENCH_KEY_FILE")"
export VLLM_API_KEY
HF_TOKEN="$(cat /home/u/token)"
export HF_TOKEN
export HF_HOME=/p/hf
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
export VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
export VLLM_CACHE_ROOT="$AIFBENCH_SCRATCH/vllm-cache" VLLM_CONFIG_ROOT="$AIFBENCH_SCRATCH/vllm-config"
# The address the other ranks reach this node by; left alone vLLM guesses one.
export VLLM_HOST_IP="$AIFBENCH_NODE_ADDR"
export NCCL_DEBUG=INFO
# --cleanenv drops the host's environment; what vLLM needs is handed over by name.
export APPTAINERENV_VLLM_API_KEY="$VLLM_API_KEY" APPTAINERENV_VLLM_NO_USAGE_STATS=1 APPTAINERENV_DO_NOT_TRACK=1
export APPTAINERENV_VLLM_CACHE_ROOT="$VLLM_CACHE_ROOT" APPTAINERENV_VLLM_CONFIG_ROOT="$VLLM_CONFIG_ROOT" APPTAINERENV_VLLM_HOST_IP="$VLLM_HOST_IP"
export APPTAINERENV_HF_TOKEN="$HF_TOKEN"
export APPTAINERENV_HF_HOME=/p/hf
export APPTAINERENV_HF_HUB_OFFLINE=1 APPTAINERENV_TRANSFORMERS_OFFLINE=1
export APPTAINERENV_NCCL_DEBUG=INFO
# Set but empty it would hide every GPU.
if [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then
  export APPTAINERENV_CUDA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES"
fi
# A home of the job's own: caches are written there, and the user's stays out.
mkdir -p "$AIFBENCH_SCRATCH/home"
set -- serve meta/llama --served-model-name meta/llama --host 127.0.0.1 --port "$AIFBENCH_PORT" --tensor-parallel-size 4 --pipeline-parallel-size 2 --distributed-executor-backend ray
# Ray spans the nodes where this vLLM has no multi-node mode of its own. It runs
# in the same container as vLLM: an image is unmounted with its first process.
export APPTAINERENV_RAY_USAGE_STATS_ENABLED=0 APPTAINERENV_RAY_HEAD="$AIFBENCH_HEAD_ADDR:$AIFBENCH_PORT_MASTER"
export APPTAINERENV_AIFBENCH_PORT_MASTER="$AIFBENCH_PORT_MASTER"
if [ "$AIFBENCH_NODE_RANK" -gt 0 ]; then
  # The head may come up later than this node.
  # shellcheck disable=SC2016 # expanded in the container
  set -- bash -c 'export RAY_ADDRESS="$RAY_HEAD"; for _ in $(seq 60); do ray status >/dev/null 2>&1 && break; sleep 2; done; exec ray start --address="$RAY_ADDRESS" --node-ip-address="$VLLM_HOST_IP" --block'
else
  # shellcheck disable=SC2016 # expanded in the container
  set -- bash -c 'ray start --head --port="$AIFBENCH_PORT_MASTER" --node-ip-address="$VLLM_HOST_IP" --include-dashboard=false && RAY_ADDRESS="$RAY_HEAD" exec vllm "$@"' vllm "$@"
fi
exec apptainer exec --cleanenv --home "$AIFBENCH_SCRATCH/home" --bind "$AIFBENCH_SCRATCH" --bind /p/data --bind /p/hf --nv --nvccli /p/vllm.sif "$@"


