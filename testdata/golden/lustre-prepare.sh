#!/bin/bash
# Prepares and describes the data directory on a node that sees the file system, then ends.
set -eu
exec "$AIFBENCH_BIN" node prepare --run /home/u/runs/x-20260101-000000-abcd --dir /p/scratch/aifbench-x-20260101-000000-abcd --out "$AIFBENCH_SCRATCH" --stripe-count=-1 --stripe-size=4M
