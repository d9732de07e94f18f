#!/usr/bin/env bash
# fuzz.sh [TIME]: run every fuzz target for TIME (10s). Go fuzzes one target of
# one package at a time, so they are found and run one after the other.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

n=0
for dir in $(grep -rlE --include='*_test.go' '^func Fuzz' cmd pkg templates | xargs -r -n1 dirname | sort -u); do
	for target in $(go test -list '^Fuzz' "./$dir" | grep '^Fuzz' || true); do
		echo "== $dir $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-10s}" "./$dir"
		n=$((n + 1))
	done
done
echo "$n fuzz targets"
