#!/usr/bin/env bash
# speed.sh [REPEATS]: how fast and how big the commands are that ask no Slurm.
#
# Runs are made by the program itself with its local scheduler and sim engine;
# a home of a thousand is that run copied under other ids. Each command is a
# whole process, measured from outside: wall clock from spawn to wait, and the
# kernel's peak resident set (wait4), which includes what the measuring Python
# held before exec, about 10 MB. The repeats of all commands are interleaved,
# so that a busy moment of the machine does not fall on one of them alone; CPU
# is user and system time, which other work on the machine changes little.
# AIFBENCH_BIN measures another binary than bin/aifbench.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${AIFBENCH_BIN:-$PWD/bin/aifbench}
[[ -x $bin ]] || { echo "speed: $bin is not there; run make build" >&2; exit 2; }
tmp=$(mktemp -d)
export AIFBENCH_HOME=$tmp/one AIFBENCH_SITE=local
finish() { "$bin" stop all -q >/dev/null 2>&1 || true; rm -rf "$tmp"; }
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$bin" start vllm --engine sim --wait -q >/dev/null
"$bin" bench vllm --requests 40 --output-len 4 -q >/dev/null
"$bin" stop all -q >/dev/null

python3 - "$bin" "$tmp" "${1:-40}" <<'PY'
import glob, json, os, shutil, sys, time

bin, tmp, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3])
one, many = tmp + "/one", tmp + "/many"


def quiet(args, home):
    env = dict(os.environ, AIFBENCH_HOME=home)
    null = os.open(os.devnull, os.O_RDWR)
    began = time.perf_counter()
    pid = os.posix_spawn(bin, [bin] + args, env, file_actions=[(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)])
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    os.close(null)
    return wall * 1000, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status), (usage.ru_utime + usage.ru_stime) * 1000


# A home of a thousand: 980 services that were stopped and 20 that are ready,
# the most that one user will have live; every one with its whole journal.
source = [d for d in glob.glob(one + "/runs/vllm-2*")][0]
os.makedirs(many + "/runs")
for i in range(1000):
    word = "".join("abcdefghijklmnopqrstuvwxyz234567"[i // 32**k % 32] for k in range(4))
    name = "vllm-20260101-%02d%02d%02d-%s" % (i // 3600, i // 60 % 60, i % 60, word)
    to = many + "/runs/" + name
    shutil.copytree(source, to)
    intent = json.load(open(to + "/run.json"))
    intent["id"] = name
    json.dump(intent, open(to + "/run.json", "w"))
    if i % 50 == 49:  # live: never asked to end, and not submitted to anything that could be asked
        for event in glob.glob(to + "/journal/*"):
            if not event.endswith("-intent.json"):
                os.remove(event)

last = sorted(os.listdir(one + "/runs"))[-1]
commands = [
    ("version", ["version"], one, 50),
    ("help exit-codes", ["help", "exit-codes"], one, 50),
    ("start vllm --help", ["start", "vllm", "--help"], one, 50),
    ("config show -o json", ["config", "show", "-o", "json"], one, 50),
    ("start vllm --engine sim --dry-run -o json", ["start", "vllm", "--engine", "sim", "--dry-run", "-o", "json"], one, 50),
    ("list --ended -o json (2 runs)", ["list", "--ended", "-o", "json"], one, 50),
    ("show RUN -o json", ["show", last, "-o", "json"], one, 50),
    ("wait RUN -o json (a finished bench)", ["wait", last, "-o", "json"], one, 50),
    ("logs vllm", ["logs", "vllm"], one, 50),
    ("a typo (exit 2)", ["strat", "vllm"], one, 50),
    ("check all (1,000 runs)", ["check", "all"], many, 300),
    ("list (1,000 runs)", ["list"], many, 300),
    ("list --ended -o json (1,000 runs)", ["list", "--ended", "-o", "json"], many, None),
]
seen = {name: [] for name, *_ in commands}
for r in range(repeats + 3):
    for name, args, home, _ in commands:
        got = quiet(args, home)
        if r >= 3:
            seen[name].append(got)


def rank(values, q):
    values = sorted(values)
    return values[max(0, -(-int(q * 1000) * len(values) // 1000) - 1)]


cpu = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
print("binary %.1f MB; %d CPUs, %s; load %.1f; Linux %s\n" % (os.path.getsize(bin) / 1e6, os.cpu_count(), cpu, os.getloadavg()[0], os.uname().release))
print("| command | n | min ms | p50 ms | p95 ms | max ms | limit ms | p50 CPU ms | peak MB |")
print("|---|---|---|---|---|---|---|---|---|")
bad = []
for name, _, _, limit in commands:
    ms, mb = [s[0] for s in seen[name]], max(s[1] for s in seen[name])
    p95 = rank(ms, 0.95)
    cpu_ms = rank([s[3] for s in seen[name]], 0.5)
    print("| `%s` | %d | %.1f | %.1f | %.1f | %.1f | %s | %.1f | %.1f |" % (name, len(ms), min(ms), rank(ms, 0.5), p95, max(ms), limit or "-", cpu_ms, mb * 1.048576))
    if limit and p95 > limit or mb * 1.048576 > 40:
        bad.append(name)
print("\nexit codes:", ", ".join("%s %s" % (n, sorted({s[2] for s in seen[n]})) for n in seen))
print("over a limit:", ", ".join(bad) or "none")
PY
