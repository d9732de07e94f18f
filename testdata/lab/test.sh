#!/usr/bin/env bash
# test.sh: pass every test, against the real parts. `make test` and CI run this.
#
# Why one script: on a bare machine it must install and build the parts, start
# the lab, run the tests and leave nothing behind, within CI's time on 2 cores.
# With $AIFBENCH_LAB set (eval "$(lab.sh env)") that running lab is used and
# left running; else a lab of its own is started and removed.
#
# PKGS="./pkg/slurm" and TESTFLAGS="-run TestX" narrow a run.
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
export AIFBENCH_CACHE=${AIFBENCH_CACHE:-$PWD/.cache}
logs=$AIFBENCH_CACHE/log
mkdir -p "$logs" "$AIFBENCH_CACHE/bin"

say() { printf 'test: [%d s] %s\n' "$SECONDS" "$*" >&2; }

own_lab='' bg=''
finish() {
	local rc=$?
	trap - EXIT INT TERM
	if [[ $bg ]]; then kill -- "-$bg" 2>/dev/null || true; fi
	if [[ $own_lab ]]; then
		if ((rc != 0)); then rm -rf "$logs/lab" && cp -r "$own_lab/log" "$logs/lab" 2>/dev/null || true; fi
		"$here/lab.sh" kill --rm || rc=1
	fi
	exit "$rc"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The slowest part needs only CPU, and the others mostly wait for the network.
# In a group of its own, so that it can be ended with all its compilers.
setsid "$here/setup.sh" otelcol >"$logs/setup-otelcol.log" 2>&1 &
bg=$!

rc=0
"$here/setup.sh" slurm prometheus chroma vllm model tools chromium || rc=$?
if ((rc == 3)); then say "parts are missing: tests that need them will be skipped, which fails"; elif ((rc != 0)); then exit "$rc"; fi

say "lint and build"
make --no-print-directory lint build
go build -o "$AIFBENCH_CACHE/bin/testsum" ./testdata/lab/testsum

if [[ -z ${AIFBENCH_LAB:-} && $EUID == 0 ]]; then
	own_lab=$(mktemp -d /tmp/aifb-lab.XXXXXX)
	export AIFBENCH_LAB_DIR=$own_lab
	"$here/lab.sh" start
fi
if [[ $EUID == 0 ]]; then
	vars=$("$here/lab.sh" env)
	eval "$vars"
	"$here/lab.sh" install bin/aifbench
fi

say "waiting for the Collector's build"
wait "$bg" || { cat "$logs/setup-otelcol.log" >&2; exit 1; }
bg=''
cat "$logs/setup-otelcol.log" >&2

say "go test -race"
rm -f "$logs/test.failed"
# The program's own tests come after the others, since both use the lab's one
# user and its queue: a test that asks for an empty queue must have it alone.
# shellcheck disable=SC2086 # words on purpose
run() { go test -json -race -count=1 -shuffle=on -timeout 40m ${TESTFLAGS:-} "$@" 2>&1 || touch "$logs/test.failed"; }
# shellcheck disable=SC2046,SC2086 # words on purpose
if [[ ${PKGS:-} ]]; then run $PKGS; else run $(go list ./... | grep -v '/cmd/'); run ./cmd/...; fi |
	tee "$logs/test.json" | "$AIFBENCH_CACHE/bin/testsum" "$here/allowed-skips.txt" >"$logs/test.txt" || rc=1
cat "$logs/test.txt"
if [[ -e $logs/test.failed ]]; then rc=1; fi
exit "$rc"
