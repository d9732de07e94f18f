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
export VLLM_HOST_IP=127.0.0.1
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
set -- serve meta/llama --served-model-name meta/llama --host 127.0.0.1 --port "$AIFBENCH_PORT" --tensor-parallel-size 4
set -- vllm "$@"
exec apptainer exec --cleanenv --home "$AIFBENCH_SCRATCH/home" --bind "$AIFBENCH_SCRATCH" --bind /p/data --bind /p/hf --nv --nvccli /p/vllm.sif "$@"


