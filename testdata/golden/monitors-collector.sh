#!/bin/bash
# OpenTelemetry Collector of a monitors run. Started by the node supervisor,
# which sets AIFBENCH_* and has written the configuration.
set -eu
exec /usr/bin/otelcol --config "$AIFBENCH_MONITORS_DIR/collector.yaml"
