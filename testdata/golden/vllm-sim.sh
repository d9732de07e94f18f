#!/bin/bash
# The built-in simulator of vLLM. It can never pass for vLLM: every result names it.
set -eu
exec "$AIFBENCH_BIN" node sim vllm --port "$AIFBENCH_PORT" --key-file "$AIFBENCH_KEY_FILE" --model sim --ttft 50ms --itl 10ms --slots 32 --max-model-len 4096
