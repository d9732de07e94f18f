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
	local text=$1 from=$SECONDS rc=0
	shift
	say "$text"
	# As a job of its own: bash acts on a signal while it waits, but not before
	# a command in the foreground has ended.
	"$@" </dev/null &
	child=$!
	wait "$child" || rc=$?
	child=''
	note "took $((SECONDS - from)) s"
	return "$rc"
}
set -m
child=''

case $site in '' | lab | slurm | local) ;; *) echo "demo: SITE=$site: use local, or leave it out" >&2; exit 2 ;; esac
case $engine in '' | real | sim) ;; *) echo "demo: ENGINE=$engine: use sim, or leave it out" >&2; exit 2 ;; esac

# What can be had here. Exit code 3 of set-up means: not on this machine.
have() { "$here/setup.sh" "$@" || { note "cannot be had here: $*"; return 1; }; }

vllm=sim chroma=sim monitors='' lab=''
if [[ $site != local && $EUID != 0 ]]; then
	if sudo -n true 2>/dev/null; then
		say "not root: the lab is started through sudo"
		exec sudo -n env PATH="$PATH" SITE="$site" ENGINE="$engine" AIFBENCH_CACHE="$AIFBENCH_CACHE" bash "$here/demo.sh"
	fi
	say "no root and no sudo without a password: no private Slurm"
	site=local
fi
if [[ $site != local ]]; then
	if [[ $engine != sim ]]; then
		say "what this needs"
		note "once: Debian packages (Slurm, MariaDB, Prometheus; 60 MB), Chroma (25 MB), vLLM on CPU (1.1 GB), a build of the Collector"
		if [[ -x $AIFBENCH_CACHE/vllm/bin/vllm ]]; then note "vLLM is in ${AIFBENCH_CACHE#"$PWD"/} already"; fi
		note "(ENGINE=sim does without vLLM, Chroma and Collector; SITE=local ENGINE=sim needs nothing but Go)"
	fi
	if step "private Slurm: packages" have slurm; then
		if step "Prometheus" have prometheus; then monitors=yes; fi
		if [[ $engine != sim ]]; then
			step "OpenTelemetry Collector (built once from source, 1-5 minutes)" have otelcol || true
			if step "Chroma" have chroma; then chroma=native; fi
			if step "vLLM on CPU" have vllm && step "a tiny model" have model; then vllm=native; fi
			if [[ $vllm == sim ]]; then note "the sim engine stands in for vLLM: its latencies are set, not measured"; fi
			if [[ $chroma == sim ]]; then note "the sim engine stands in for Chroma: an exact store"; fi
		fi
	else
		site=local
	fi
fi

home='' owned_lab='' temp=''
finish() {
	local rc=$?
	trap - EXIT
	trap '' INT TERM HUP
	if [[ $child ]]; then
		kill -TERM -- "-$child" 2>/dev/null || true
		wait "$child" 2>/dev/null || true
	fi
	if [[ $home && -d $home ]]; then ab stop all -q >/dev/null 2>&1 || true; fi
	if [[ $owned_lab ]]; then "$here/lab.sh" kill --rm >&2 || rc=1; fi
	if [[ $temp ]]; then rm -rf "$temp"; fi
	# Under sudo: what lies in the user's checkout is the user's.
	if [[ ${SUDO_UID:-} && $EUID == 0 ]]; then chown -Rh "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$AIFBENCH_CACHE" || true; fi
	exit "$rc"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
mkdir -p "$out"

# Processes that run a program or serve a file of this demo. The pattern is in
# a file, or grep would find itself.
running() {
	local f
	printf '%s\n' "$@" >"$out/pattern"
	# shellcheck disable=SC2013 # names of /proc have no blanks
	for f in $(grep -las -F -f "$out/pattern" /proc/[0-9]*/cmdline); do
		tr '\0' ' ' <"$f" 2>/dev/null && echo
	done
	rm -f "$out/pattern"
	return 0
}

if [[ $site != local ]]; then
	owned_lab=$(mktemp -d /tmp/aifb-demo.XXXXXX)
	export AIFBENCH_LAB_DIR=$owned_lab
	if step "private Slurm with accounting: starting" "$here/lab.sh" start; then
		vars=$("$here/lab.sh" env)
		eval "$vars"
		lab=$AIFBENCH_LAB
		"$here/lab.sh" install bin/aifbench
		bin=$lab/bin/aifbench
		home=$lab/home/alice/demo
		files=$lab/home/alice
		ab() { "$here/lab.sh" as alice "$AIFBENCH_LAB_LOGIN" env AIFBENCH_HOME="$home" AIFBENCH_POLL_MIN=1s "$bin" "$@"; }
		say "site slurm, user alice; engines: vllm $vllm, chroma $chroma, lustre built in"
	else
		note "the private Slurm does not start here"
		"$here/lab.sh" kill --rm >&2 || true
		owned_lab='' site=local vllm=sim chroma=sim monitors=''
	fi
fi
if [[ $site == local ]]; then
	temp=$(mktemp -d)
	home=$temp files=$temp
	bin=$PWD/bin/aifbench
	ab() { env -u SLURM_CONF AIFBENCH_HOME="$home" AIFBENCH_SITE=local "$bin" "$@"; }
	say "site local, on what the program carries itself: jobs are process groups of this machine; vllm sim, chroma sim, lustre's phases built in"
fi

# Long enough for a p95 (200 samples), short enough for a minute in all.
levels=1,8 chroma_time=8s phase=2s
if [[ $vllm == sim ]]; then levels=4,16 chroma_time=4s phase=1s; fi
start_vllm=(start vllm --wait --engine sim)
if [[ $vllm == native ]]; then
	start_vllm=(start vllm --wait --vllm-command "$lab/cache/vllm/fast/vllm" --model "$lab/cache/model" --served-name tiny
		--max-model-len 2048 --dtype bfloat16 --gpus 0 --mem 6G --share-node
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

step "bench vllm: structured outputs" ab bench vllm --api chat --structured json --concurrency 4 --requests 20 --output-len 256 || note "exit $?: see the verdict above"
step "bench vllm: concurrency $levels, over 200 requests each" ab bench vllm --concurrency "$levels" --requests 220 --input-len 32 --output-len 8 --warmup-requests 8 --gate 'error_ratio<=0'
step "bench chroma" ab bench chroma --vectors 5k --dimension 64 --concurrency 2 --duration "$chroma_time" --gate 'recall_mean_ratio>=0.9'
step "bench lustre: the 12 IO500 phases, built in and short" ab bench lustre --phase-time "$phase"

step "metrics vllm, over the last bench's window" ab metrics vllm
step "metrics chroma" ab metrics chroma
step "the last lines of vllm" ab logs vllm --lines 2

stamp=$(date -u +%Y%m%d-%H%M%S)
step "everything into one archive" ab save all "$files/aifbench-demo-$stamp.zip"
step "a page of the vllm result" ab report vllm-bench "$files/aifbench-demo-$stamp.html"
for f in zip html; do
	cp "$files/aifbench-demo-$stamp.$f" "$out/"
	[[ -s $out/aifbench-demo-$stamp.$f ]] || { echo "demo: the $f is empty" >&2; exit 1; }
	note "${out#"$PWD"/}/aifbench-demo-$stamp.$f: $(($(stat -c %s "$out/aifbench-demo-$stamp.$f") / 1024)) KiB"
done
step "stop all" ab stop all

say "is anything left?"
left=0
if [[ $lab ]]; then
	queue=$("$here/lab.sh" as alice "$AIFBENCH_LAB_LOGIN" squeue -h --me) || left=1
	if [[ $queue ]]; then note "jobs: $queue"; left=1; fi
fi
procs=$(running "$home/" ${lab:+"$lab/cache/"})
if [[ $procs ]]; then note "processes: $procs"; left=1; fi
if ((left)); then
	echo "demo: something was left running" >&2
	exit 1
fi
note "nothing: no job, no process"
if [[ $owned_lab ]]; then
	step "private Slurm: stopping" "$here/lab.sh" kill --rm
	procs=$(running "$owned_lab/")
	if [[ $procs || -e $owned_lab ]]; then
		echo "demo: something of the lab is left: $procs" >&2
		exit 1
	fi
	owned_lab='' home=''
	note "nothing of it is left"
fi
say "done. archive and page: ${out#"$PWD"/}/aifbench-demo-$stamp.{zip,html}"
