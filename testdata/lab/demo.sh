#!/usr/bin/env bash
# demo.sh: the whole tool once through, on real parts where they can be had.
#
# Why one script: a stranger should see the main job done before reading
# anything. With root it starts a private Slurm with accounting and runs real
# Prometheus, Collector, vLLM on CPU and Chroma as jobs of an ordinary user.
# Where something cannot be had it says so and goes on with what the program
# carries itself: the local scheduler, the sim engines, the built-in phases.
#
#   SITE=local    no Slurm: jobs are process groups on this machine
#   ENGINE=sim    no vLLM and no Chroma: the built-in stand-ins
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
export AIFBENCH_CACHE=${AIFBENCH_CACHE:-$PWD/.cache}
out=$AIFBENCH_CACHE/demo
site=${SITE:-} engine=${ENGINE:-}

say() { printf '\n== [%3d s] %s\n' "$SECONDS" "$*" >&2; }
note() { printf '   %s\n' "$*" >&2; }
step() { # step TEXT CMD...: do it, show it, and say how long it took
	local text=$1 from=$SECONDS
	shift
	say "$text"
	"$@"
	note "took $((SECONDS - from)) s"
}

case $site in '' | lab | slurm | local) ;; *) echo "demo: SITE=$site: use local, or leave it out" >&2; exit 2 ;; esac
case $engine in '' | real | sim) ;; *) echo "demo: ENGINE=$engine: use sim, or leave it out" >&2; exit 2 ;; esac

# What can be had here. Exit code 3 of set-up means: not on this machine.
have() { "$here/setup.sh" "$@" || { note "cannot be had here: $*"; return 1; }; }
sudo=()
vllm=sim chroma=sim monitors='' lab=''
if [[ $site != local && $EUID != 0 ]]; then
	if sudo -n true 2>/dev/null; then
		say "not root: the lab is started through sudo"
		exec sudo -E SITE="$site" ENGINE="$engine" AIFBENCH_CACHE="$AIFBENCH_CACHE" bash "$0"
	fi
	note "no root and no sudo, so no private Slurm: jobs run by the local scheduler"
	site=local
fi
if [[ $site != local ]]; then
	if [[ $engine != sim ]]; then
		say "what this needs"
		note "Debian packages (Slurm, MariaDB, Prometheus), Chroma (25 MB), and once about 1.1 GB for vLLM on CPU"
		note "(ENGINE=sim does without vLLM and Chroma; SITE=local ENGINE=sim needs nothing but Go)"
	fi
	if step "private Slurm: packages" have slurm; then
		step "Prometheus" have prometheus && monitors=yes
		step "OpenTelemetry Collector (built once from source, 1-5 minutes)" have otelcol || true
		if [[ $engine != sim ]]; then
			if command -v python3 >/dev/null; then
				step "Chroma" have chroma && chroma=native
				step "vLLM on CPU" have vllm && step "a tiny model" have model && vllm=native
			else
				note "no Python 3: the sim engines stand in for vLLM and Chroma"
			fi
		fi
	else
		note "no Slurm here: jobs run by the local scheduler, with the sim engines"
		site=local
	fi
fi

home='' owned_lab=''
finish() {
	local rc=$?
	trap - EXIT INT TERM
	if [[ $home ]]; then ab stop all -q >/dev/null 2>&1 || true; fi
	if [[ $owned_lab ]]; then "$here/lab.sh" kill --rm >&2 || rc=1; fi
	if [[ $site == local && $home ]]; then rm -rf "$home"; fi
	exit "$rc"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p "$out"

if [[ $site == local ]]; then
	home=$(mktemp -d)
	bin=$PWD/bin/aifbench
	ab() { env -u SLURM_CONF AIFBENCH_HOME="$home" AIFBENCH_SITE=local "$bin" "$@"; }
	pull() { cp "$1" "$2"; }
	files=$home
	say "site local: jobs are process groups of this machine; engines: vllm $vllm, chroma $chroma, lustre built in"
else
	owned_lab=$(mktemp -d /tmp/aifb-demo.XXXXXX)
	export AIFBENCH_LAB_DIR=$owned_lab
	step "private Slurm with accounting: starting" "$here/lab.sh" start
	vars=$("$here/lab.sh" env)
	eval "$vars"
	lab=$AIFBENCH_LAB
	"$here/lab.sh" install bin/aifbench
	bin=$lab/bin/aifbench
	home=$lab/home/alice/demo
	files=$lab/home/alice
	ab() { "$here/lab.sh" as alice "$AIFBENCH_LAB_LOGIN" env AIFBENCH_HOME="$home" AIFBENCH_POLL_MIN=1s "$bin" "$@"; }
	pull() { cp "$1" "$2"; }
	say "site slurm, user alice; engines: vllm $vllm, chroma $chroma, lustre built in"
fi

# Long enough for a p95 (200 samples), short enough for a minute in all.
levels=1,8 chroma_time=8s phase=2s
if [[ $vllm == sim ]]; then levels=4,16 chroma_time=4s phase=1s; fi
start_vllm=(start vllm --wait --engine sim)
if [[ $vllm == native ]]; then
	start_vllm=(start vllm --wait --vllm-command "$lab/cache/vllm/fast/vllm" --model "$lab/cache/model" --served-name tiny
		--max-model-len 2048 --dtype bfloat16 --gpus 0 --mem 6G
		--vllm-arg=--enforce-eager --vllm-arg=--max-num-seqs --vllm-arg=32 --vllm-arg=--kv-cache-memory-bytes --vllm-arg=67108864
		--vllm-arg=--distributed-executor-backend --vllm-arg=uni
		--env VLLM_ENABLE_V1_MULTIPROCESSING=0 --env VLLM_CPU_OMP_THREADS_BIND=nobind --env OMP_NUM_THREADS=1)
fi
start_chroma=(start chroma --wait --engine sim)
if [[ $chroma == native ]]; then start_chroma=(start chroma --wait --chroma-command "$lab/cache/chroma/bin/chroma" --otlp-interval 1s); fi

if [[ $monitors ]]; then
	collector=()
	if [[ -x $AIFBENCH_CACHE/otelcol/otelcol ]]; then collector=(--collector "$lab/cache/otelcol/otelcol"); fi
	step "start monitors" ab start monitors --wait -p gpu --scrape-interval 1s "${collector[@]}"
else
	note "no Prometheus: metrics will come from the runs' own telemetry"
fi
step "start vllm ($vllm)" ab "${start_vllm[@]}"
step "start chroma ($chroma)" ab "${start_chroma[@]}"
step "start lustre" ab start lustre --wait
step "check all" ab check all

step "bench vllm: concurrency $levels, over 200 requests each" ab bench vllm --concurrency "$levels" --requests 220 --input-len 32 --output-len 8 --warmup-requests 8 --gate 'error_ratio<=0'
step "bench vllm: structured outputs" ab bench vllm --api chat --structured json --concurrency 4 --requests 20 --output-len 256 || note "exit $?: see the verdict above"
step "bench chroma" ab bench chroma --vectors 5k --dimension 64 --concurrency 2 --duration "$chroma_time" --gate 'recall_mean_ratio>=0.9'
step "bench lustre: the 12 IO500 phases, built in and short" ab bench lustre --phase-time "$phase"

step "metrics vllm, over the last bench's window" ab metrics vllm
step "metrics chroma" ab metrics chroma
step "the last lines of vllm" ab logs vllm --lines 2

stamp=$(date -u +%Y%m%d-%H%M%S)
step "everything into one archive" ab save all "$files/aifbench-demo-$stamp.zip"
step "a page of the vllm result" ab report vllm-bench "$files/aifbench-demo-$stamp.html"
pull "$files/aifbench-demo-$stamp.zip" "$out/"
pull "$files/aifbench-demo-$stamp.html" "$out/"
step "stop all" ab stop all

say "is anything left?"
left=0
if [[ $lab ]]; then
	queue=$("$here/lab.sh" as alice "$AIFBENCH_LAB_LOGIN" squeue -h --me) || left=1
	if [[ $queue ]]; then note "jobs: $queue"; left=1; fi
fi
if procs=$(pgrep -af "$home/bin/" | grep -v pgrep); then note "processes: $procs"; left=1; fi
if ((left)); then
	echo "demo: something was left running" >&2
	exit 1
fi
note "nothing: no job, no process"
say "done. archive and page: ${out#"$PWD"/}/aifbench-demo-$stamp.{zip,html}"
