#!/bin/bash
# Chroma in a container. Started by the node supervisor, which sets AIFBENCH_*.
set -eu
dir="$AIFBENCH_SCRATCH/persist"
# Makes the directory this run's, asks whether its file system locks, and leaves data_dir and extra.json for the supervisor.
"$AIFBENCH_BIN" node persist --run /home/u/runs/x-20260101-000000-abcd --dir "$dir" --out "$AIFBENCH_SCRATCH"
# Always a file: without one the server ignores the variables below and loses its telemetry.
printf 'listen_address: "127.0.0.1"\nallow_reset: false\n' > "$AIFBENCH_SCRATCH/chroma.yaml"
export CHROMA_PORT="$AIFBENCH_PORT" CHROMA_PERSIST_PATH="$dir"
if [ -n "${AIFBENCH_OTLP_ENDPOINT:-}" ]; then
  export CHROMA_OPEN_TELEMETRY__ENDPOINT="$AIFBENCH_OTLP_ENDPOINT" CHROMA_OPEN_TELEMETRY__SERVICE_NAME="$AIFBENCH_RUN_ID"
  # Spans would write 3 kB to stdout for each request; the metrics stay.
  export OTEL_METRIC_EXPORT_INTERVAL=5000 RUST_LOG=error
fi
export APPTAINERENV_CHROMA_PORT="$CHROMA_PORT" APPTAINERENV_CHROMA_PERSIST_PATH="$CHROMA_PERSIST_PATH"
if [ -n "${CHROMA_OPEN_TELEMETRY__ENDPOINT:-}" ]; then
  export APPTAINERENV_CHROMA_OPEN_TELEMETRY__ENDPOINT="$CHROMA_OPEN_TELEMETRY__ENDPOINT" APPTAINERENV_CHROMA_OPEN_TELEMETRY__SERVICE_NAME="$AIFBENCH_RUN_ID"
  export APPTAINERENV_OTEL_METRIC_EXPORT_INTERVAL=5000 APPTAINERENV_RUST_LOG=error
fi
exec apptainer exec --cleanenv --home "$AIFBENCH_SCRATCH" --bind "$AIFBENCH_SCRATCH" --bind "$dir" /home/u/c.sif chroma run "$AIFBENCH_SCRATCH/chroma.yaml"


