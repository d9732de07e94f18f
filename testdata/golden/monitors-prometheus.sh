#!/bin/bash
# Prometheus of a monitors run. Started by the node supervisor, which sets
# AIFBENCH_* and has written the configuration.
set -eu
# Its data stays on the node: shared file systems corrupt it. A snapshot is
# copied into the run's directory when the run ends.
exec /usr/bin/prometheus \
  --config.file="$AIFBENCH_MONITORS_DIR/prometheus.yml" \
  --web.config.file="$AIFBENCH_MONITORS_DIR/web.yml" \
  --web.listen-address="127.0.0.1:$AIFBENCH_PORT" \
  --web.enable-lifecycle \
  --web.enable-admin-api \
  --storage.tsdb.path="$AIFBENCH_SCRATCH/prometheus" \
  --storage.tsdb.retention.time=15d
