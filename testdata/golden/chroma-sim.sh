#!/bin/bash
# The built-in exact store. It can never pass for Chroma: every result names it.
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
exec "$AIFBENCH_BIN" node sim chroma --port "$AIFBENCH_PORT" --key-file "$AIFBENCH_KEY_FILE" --persist-dir "$dir"


