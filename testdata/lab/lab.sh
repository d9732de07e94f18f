#!/usr/bin/env bash
# lab.sh COMMAND: a private, real Slurm cluster on this one machine.
#
# Why: queue states, accounting, signals and node addresses are only true when
# Slurm itself makes them. The lab is slurmctld + slurmdbd + MariaDB + munge
# and one slurmd a node, all below one lab folder. In mode B each node is a
# host of its own (network, hostname and mount namespaces), in mode A all
# share the machine's address and differ by port.
#
#   start [--nodes N] [--mode A|B]   B where namespaces can be had, else A
#   stop [--rm]                      in good order; --rm removes the folder too
#   kill [--rm]                      SIGKILL everything of this lab
#   status                           exit 0 when every part answers
#   in NODE CMD...                   as root on that node, in this directory
#   as USER NODE CMD...              as alice or mallory, clean environment;
#                                    same process id, so signals reach CMD
#   env                              shell lines: eval "$(lab.sh env)"
#   install FILE                     copy to $LAB/bin/aifbench, for all users
#   fault NAME on|off                ctld-hang, ctld-stop, dbd-stop, or
#                                    link NODE (mode B: the network cable)
#
# NODE: login1 or mel0001... Which lab: $AIFBENCH_LAB_DIR, else $AIFBENCH_LAB,
# else the one started last without them (.cache/lab.current), else a new folder.
# Exit 3: cannot be had here.
set -euo pipefail
umask 022
PATH=$PATH:/usr/sbin:/sbin

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${AIFBENCH_CACHE:-$(cd "$here/../.." && pwd)/.cache}
LAB=${AIFBENCH_LAB_DIR:-${AIFBENCH_LAB:-}}
if [[ -z $LAB && -f $CACHE/lab.current ]]; then LAB=$(<"$CACHE/lab.current"); fi
users=(alice mallory)

say() { printf 'lab: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
usage() { sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

# ---- small things ----------------------------------------------------------

# wait_for SECONDS WHAT CMD...: poll until CMD succeeds.
wait_for() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || die "$what: not there in time (logs: $LAB/log)"
		sleep 0.05
	done
}

# ours PID: that process lives (a zombie has no environment) and is this lab's.
ours() { grep -qzxF -e "SLURM_CONF=$LAB/etc/slurm.conf" "/proc/$1/environ" 2>/dev/null; }

# pid_of NAME: the live process behind run/NAME.pid.
pid_of() {
	local p
	p=$(cat "$LAB/run/$1.pid" 2>/dev/null) && [[ $p ]] && ours "$p" && echo "$p"
}

gone() { ! ours "$1"; }

# stop_pid NAME [SECONDS]: TERM, wait, KILL.
stop_pid() {
	local p i
	p=$(pid_of "$1") || return 0
	kill -TERM "$p" 2>/dev/null || true
	for ((i = 0; i < ${2:-10} * 20; i++)); do
		gone "$p" && return 0
		sleep 0.05
	done
	say "$1 did not stop: killed"
	kill -KILL "$p" 2>/dev/null || true
}

# node_exec NODE CMD...: become CMD in that node's namespaces; never returns.
# nsenter does not fork here, so the process id stays.
node_exec() {
	local node=$1 holder
	shift
	[[ " login1 ${NODES[*]} " == *" $node "* ]] || die "no node $node (login1 ${NODES[*]})"
	export SLURM_CONF=$LAB/etc/slurm.conf
	if [[ $MODE == A ]]; then exec "$@"; fi
	holder=$(pid_of "ns.$node") || die "node $node is not running"
	# shellcheck disable=SC2016 # entering the mount namespace changes the directory
	exec nsenter -t "$holder" -n -u -m -- sh -c 'cd "$1" 2>/dev/null || cd /; shift; exec "$@"' _ "$PWD" "$@"
}
on() { (node_exec "$@"); }

# daemon NODE NAME CMD...: start CMD detached; its output goes to log/NAME.out.
# lab.sh's lock must not be inherited.
daemon() {
	local node=$1 name=$2
	shift 2
	(AIFBENCH_LAB_PROC=$LAB node_exec_env "$node" "$@") </dev/null >>"$LAB/log/$name.out" 2>&1 9>&-
}
node_exec_env() {
	export AIFBENCH_LAB_PROC AIFBENCH_LAB_CGROUP=$CGROUP
	node_exec "$@"
}

load() {
	[[ $LAB && -f $LAB/etc/lab.env ]] || die "no lab (lab.sh start)"
	# shellcheck disable=SC1091
	source "$LAB/etc/lab.env"
}

need_root() { ((EUID == 0)) || { say "cannot be had here: the lab needs root"; exit 3; }; }

# ---- choices ---------------------------------------------------------------

namespaces_work() {
	unshare --net --uts --mount --propagation private sh -c \
		'hostname x && mount -t tmpfs t /mnt && ip link add br9 type bridge && ip link add v9 type veth peer name w9' 2>/dev/null
}

# The cgroup trees are named by node, so one lab at a time can have them.
# Only cgroup v1: v2 needs systemd's scopes.
cgroup_works() {
	local c d=/sys/fs/cgroup/freezer/aifb-probe.$$
	for c in freezer memory cpuset; do [[ -d /sys/fs/cgroup/$c ]] || return 1; done
	mkdir "$d" 2>/dev/null && rmdir "$d" || return 1
	! other_lab_has_cgroup
}
other_lab_has_cgroup() {
	local f
	# shellcheck disable=SC2013 # words, not lines
	for f in $(grep -lzxF AIFBENCH_LAB_CGROUP=1 /proc/[0-9]*/environ 2>/dev/null); do
		grep -qzxF "AIFBENCH_LAB_PROC=$LAB" "$f" 2>/dev/null || return 0
	done
	return 1
}

free_base() {
	local p used q
	used=" $(ss -Htan | awk '{n = split($4, a, ":"); print a[n]}' | sort -u | tr '\n' ' ')"
	for ((p = 16817; p < 30000; p += 100)); do
		for ((q = p; q < p + 60; q++)); do [[ $used != *" $q "* ]] || continue 2; done
		echo "$p"
		return
	done
	die "no free ports"
}

addr() { if [[ $MODE == A ]]; then echo 127.0.0.1; elif [[ $1 == login1 ]]; then echo 10.66.0.254; else echo "10.66.0.$((10#${1#mel}))"; fi; }

# ---- configuration ---------------------------------------------------------

write_config() {
	local n i head port gpu cpu half=$(((${#NODES[@]} + 1) / 2)) tree=linuxproc task=none
	if [[ $MODE == B ]]; then head=login1; else head=$(hostname -s); fi
	gpu=$(IFS=,; echo "${NODES[*]:0:half}")
	cpu=$(IFS=,; echo "${NODES[*]:half}")
	cpu=${cpu:-$gpu}
	if [[ $CGROUP == 1 ]]; then tree=cgroup task=cgroup; fi
	cat >"$LAB/etc/slurm.conf" <<-X
		ClusterName=lab
		SlurmctldHost=$head($(addr login1))
		SlurmctldPort=$BASEPORT
		SlurmUser=slurm
		SlurmdUser=root
		AuthType=auth/munge
		AuthInfo=socket=$LAB/run/munge/socket
		CommunicationParameters=NoInAddrAny
		StateSaveLocation=$LAB/var/ctld
		SlurmdSpoolDir=$LAB/var/spool/%n
		SlurmctldPidFile=$LAB/run/slurmctld.pid
		SlurmdPidFile=$LAB/run/slurmd.%n.pid
		SlurmctldLogFile=$LAB/log/slurmctld.log
		SlurmdLogFile=$LAB/log/slurmd.%n.log
		ProctrackType=proctrack/$tree
		TaskPlugin=task/$task
		SwitchType=switch/none
		MpiDefault=none
		ReturnToService=2
		DefMemPerCPU=500
		# a small machine may declare 16-core nodes
		SlurmdParameters=config_overrides
		SchedulerType=sched/backfill
		SchedulerParameters=bf_interval=5,batch_sched_delay=1,sched_interval=5
		SelectType=select/cons_tres
		SelectTypeParameters=CR_Core_Memory
		PreemptType=preempt/qos
		PreemptMode=REQUEUE
		JobRequeue=1
		MinJobAge=15
		KillWait=5
		SlurmctldTimeout=10
		SlurmdTimeout=15
		InactiveLimit=0
		MessageTimeout=10
		AccountingStorageType=accounting_storage/slurmdbd
		AccountingStorageHost=$(addr login1)
		AccountingStoragePort=$((BASEPORT + 2))
		AccountingStoragePass=$LAB/run/munge/socket
		AccountingStorageEnforce=associations,limits,qos
		AccountingStorageTRES=gres/gpu
		AccountingStoreFlags=job_comment,job_script,job_env
		JobAcctGatherType=jobacct_gather/linux
		JobAcctGatherFrequency=task=2
		JobCompType=jobcomp/none
		PriorityType=priority/multifactor
		GresTypes=gpu
		NodeName=DEFAULT CPUs=16 Boards=1 SocketsPerBoard=2 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=16000 State=UNKNOWN
	X
	for i in "${!NODES[@]}"; do
		n=${NODES[i]} port=$((BASEPORT + 1))
		if [[ $MODE == A ]]; then port=$((BASEPORT + 11 + i)); fi
		echo "NodeName=$n NodeHostname=$([[ $MODE == B ]] && echo "$n" || echo "$head") NodeAddr=$(addr "$n") Port=$port" \
			"$( ((i < half)) && echo "Gres=gpu:a100:4 Feature=gpu" || echo "Feature=cpu")"
	done >>"$LAB/etc/slurm.conf"
	cat >>"$LAB/etc/slurm.conf" <<-X
		PartitionName=gpu Nodes=$gpu MaxTime=48:00:00 DefaultTime=10 State=UP
		PartitionName=cpu Nodes=$cpu Default=YES MaxTime=48:00:00 DefaultTime=10 State=UP
		PartitionName=short Nodes=$cpu MaxTime=00:01:00 DefaultTime=1 State=UP
		PartitionName=down Nodes=$cpu MaxTime=00:10:00 State=DOWN
	X
	echo "NodeName=$gpu Name=gpu Type=a100 File=$LAB/dev/gpu[0-3]" >"$LAB/etc/gres.conf"
	cat >"$LAB/etc/cgroup.conf" <<-X
		CgroupPlugin=cgroup/v1
		CgroupMountpoint=/sys/fs/cgroup
		CgroupAutomount=no
		ConstrainRAMSpace=yes
		AllowedRAMSpace=100
	X
	cat >"$LAB/etc/slurmdbd.conf" <<-X
		AuthType=auth/munge
		AuthInfo=socket=$LAB/run/munge/socket
		DbdAddr=$(addr login1)
		DbdHost=$([[ $MODE == B ]] && echo login1 || echo localhost)
		DbdPort=$((BASEPORT + 2))
		SlurmUser=slurm
		LogFile=$LAB/log/slurmdbd.log
		PidFile=$LAB/run/slurmdbd.pid
		StorageType=accounting_storage/mysql
		StorageHost=127.0.0.1
		StoragePort=$((BASEPORT + 3))
		StorageUser=slurm
		StoragePass=slurmlab
		StorageLoc=slurm_acct_db
	X
	chown slurm: "$LAB/etc/slurmdbd.conf"
	chmod 0600 "$LAB/etc/slurmdbd.conf"
	{
		echo 127.0.0.1 localhost
		for n in login1 "${NODES[@]}"; do echo "$(addr "$n") $n"; done
	} >"$LAB/etc/hosts"
	declare -p MODE BASEPORT NODES CGROUP CACHE | sed 's/^declare/& -g/' >"$LAB/etc/lab.env" # -g: sourced in a function
}

accounts() {
	cat <<-X
		add cluster lab
		add qos default priority=10
		add qos low priority=1 PreemptMode=requeue
		add qos high priority=1000 Preempt=low
		add qos capped MaxJobsPerUser=1 MaxSubmitJobsPerUser=2 MaxWall=00:05:00
		add account benchproj Description=bench Organization=lab
		add account otherproj Description=other Organization=lab
		add user alice account=benchproj qos=normal,default,low,high,capped defaultqos=default
		add user mallory account=otherproj qos=normal,default defaultqos=default
		exit
	X
}

folders() {
	mkdir -p "$LAB"/{etc,var/{ctld,spool,munge},run/{munge,mysql},log,dev,bin,home,cache,nodelocal}
	chmod 0755 "$LAB"
	chown slurm: "$LAB"/{var/ctld,run,log}
	chown mysql: "$LAB/run/mysql"
	chown munge: "$LAB"/{var/munge,run/munge}
	chmod 0700 "$LAB/var/munge"
	local i u
	for i in 0 1 2 3; do
		[[ -c $LAB/dev/gpu$i ]] || mknod -m 666 "$LAB/dev/gpu$i" c 1 3
	done
	for u in "${users[@]}"; do
		id "$u" >/dev/null 2>&1 || useradd -M -d /nonexistent -s /bin/bash "$u"
		if ! [[ -d $LAB/home/$u ]]; then install -d -m 0700 -o "$u" -g "$(id -g "$u")" "$LAB/home/$u"; fi
	done
	if ! [[ -f $LAB/var/munge/key ]]; then
		(umask 077 && head -c 1024 /dev/urandom >"$LAB/var/munge/key")
		chown munge: "$LAB/var/munge/key"
		chmod 0400 "$LAB/var/munge/key"
	fi
	# The project may sit where ordinary users cannot go: give them the cache
	# here. Mode B mounts it in each node; mode A links or hard-links it.
	# Nothing is ever mounted there in this namespace, so it may be removed.
	rm -rf "$LAB/cache"
	if [[ $MODE == B ]]; then
		mkdir "$LAB/cache"
		return
	fi
	chmod 1777 "$LAB/nodelocal"
	if setpriv --reuid=alice --regid="$(id -g alice)" --init-groups test -r "$CACHE/log/."; then
		ln -s "$CACHE" "$LAB/cache"
	elif ! cp -al "$CACHE" "$LAB/cache" 2>/dev/null; then # another file system
		rm -rf "$LAB/cache"
		cp -a "$CACHE" "$LAB/cache"
	fi
}

# ---- mode B: hosts ---------------------------------------------------------

hold() {
	# shellcheck disable=SC2016
	AIFBENCH_LAB_PROC=$LAB SLURM_CONF=$LAB/etc/slurm.conf setsid unshare --net --uts --mount --propagation private bash -euc '
		hostname "$2"; mount --bind "$1/etc/hosts" /etc/hosts; mount --bind "$3" "$1/cache"
		mount -t tmpfs -o mode=1777 tmpfs "$1/nodelocal"; ip link set lo up
		readlink /proc/self/ns/net >"$1/run/ns.$2.net"; echo $$ >"$1/run/ns.$2.pid"; exec sleep infinity' \
		_ "$LAB" "$1" "$CACHE" </dev/null >>"$LAB/log/ns.out" 2>&1 9>&- &
	disown
}

hosts_up() {
	local n i
	rm -f "$LAB"/run/ns.*.pid
	for n in login1 "${NODES[@]}"; do hold "$n"; done
	for n in login1 "${NODES[@]}"; do wait_for 10 "host $n" pid_of "ns.$n"; done
	on login1 sh -euc 'ip link add br0 type bridge; ip addr add 10.66.0.254/24 dev br0; ip link set br0 up'
	for n in "${NODES[@]}"; do
		i=$((10#${n#mel}))
		on login1 sh -euc "ip link add v$i type veth peer name eth0 netns $(pid_of "ns.$n"); ip link set v$i master br0 up"
		on "$n" sh -euc "ip addr add $(addr "$n")/24 dev eth0; ip link set eth0 up; ip route add default via 10.66.0.254"
	done
}

# ---- daemons ---------------------------------------------------------------

munge_up() {
	rm -f "$LAB/run/munge/socket"* # left by a kill
	daemon login1 munged setpriv --reuid=munge --regid=munge --clear-groups munged --force --num-threads=4 \
		--socket="$LAB/run/munge/socket" --key-file="$LAB/var/munge/key" --pid-file="$LAB/run/munge/munged.pid" \
		--log-file="$LAB/var/munge/log" --seed-file="$LAB/var/munge/seed"
	ln -sf munge/munged.pid "$LAB/run/munged.pid"
	wait_for 10 munged sh -c "munge -S '$LAB/run/munge/socket' -n | unmunge -S '$LAB/run/munge/socket'"
}

sql() { on login1 mariadb --no-defaults --socket="$LAB/run/mysql/sock" "$@"; }

mysql_up() {
	rm -f "$LAB"/run/mysql/*
	ln -sf mysql/pid "$LAB/run/mariadbd.pid"
	daemon login1 mariadbd setsid --fork mariadbd --no-defaults --user=mysql --datadir="$LAB/var/mysql" --socket="$LAB/run/mysql/sock" \
		--pid-file="$LAB/run/mysql/pid" --bind-address=127.0.0.1 --port=$((BASEPORT + 3)) --skip-log-bin \
		--innodb-buffer-pool-size=64M --innodb-log-file-size=16M --innodb-lock-wait-timeout=900 \
		--innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0
	wait_for 60 mariadbd on login1 mariadb-admin --no-defaults --socket="$LAB/run/mysql/sock" ping
}

dbd_up() {
	rm -f "$LAB/run/slurmdbd.pid"
	daemon login1 slurmdbd slurmdbd
	wait_for 60 slurmdbd on login1 sacctmgr -n list cluster
}

ctld_up() {
	daemon login1 slurmctld slurmctld
	wait_for 30 slurmctld on login1 scontrol ping
}

nodes_ready() {
	local s
	s=$(on login1 sinfo -h -N -o %T) && [[ $s ]] && ! grep -qE '\*|down|unk|inval|drain' <<<"$s"
}

# The empty database with the accounts in it takes seven seconds to make: keep
# a copy of it, named by what it was made from.
seed_dir() {
	echo "$CACHE/slurmdb-$({ accounts; mariadbd --version; slurmctld -V; } | sha256sum | cut -c1-12)"
}

database_up() {
	local seed
	if [[ -d $LAB/var/mysql/slurm_acct_db && ! -e $LAB/var/mysql.new ]]; then
		mysql_up
		dbd_up
		return
	fi
	rm -rf "$LAB/var/mysql" "$LAB/var/mysql.new"
	seed=$(seed_dir)
	if [[ -d $seed ]]; then
		cp -a "$seed" "$LAB/var/mysql"
		mysql_up
		dbd_up
		return
	fi
	touch "$LAB/var/mysql.new" # until the accounts are in
	install -d -o mysql -g mysql "$LAB/var/mysql"
	mariadb-install-db --no-defaults --user=mysql --datadir="$LAB/var/mysql" \
		--auth-root-authentication-method=socket --skip-test-db >>"$LAB/log/mariadbd.out" 2>&1 9>&-
	mysql_up
	sql -e "create database slurm_acct_db; create user slurm@'127.0.0.1' identified by 'slurmlab';
		create user slurm@localhost identified by 'slurmlab';
		grant all on slurm_acct_db.* to slurm@'127.0.0.1'; grant all on slurm_acct_db.* to slurm@localhost;"
	dbd_up
	accounts | on login1 sacctmgr -i >>"$LAB/log/accounts.out" 2>&1
	[[ $(on login1 sacctmgr -nP list assoc user=alice,mallory format=user | wc -l) == 2 ]] || die "accounts: see $LAB/log/accounts.out"
	stop_pid slurmdbd
	stop_pid mariadbd 30
	rm -rf "$seed.new"
	cp -a "$LAB/var/mysql" "$seed.new"
	rm -rf "$CACHE"/slurmdb-*[0-9a-f]
	mv "$seed.new" "$seed"
	rm "$LAB/var/mysql.new"
	mysql_up
	dbd_up
}

# ---- commands --------------------------------------------------------------

cmd_start() {
	local nodes=4 mode='' n t0=${EPOCHREALTIME/./}
	while (($#)); do
		case $1 in
		--nodes) nodes=$2 && shift 2 ;;
		--mode) mode=$2 && shift 2 ;;
		*) usage ;;
		esac
	done
	[[ $nodes =~ ^[1-9][0-9]?$ && $mode =~ ^(A|B|)$ ]] || usage
	need_root
	local c
	for c in slurmctld slurmd slurmdbd munged mariadbd sacctmgr ip ss; do
		command -v "$c" >/dev/null || { say "cannot be had here: no $c (setup.sh slurm)"; exit 3; }
	done
	mkdir -p "$CACHE/log"
	if [[ -z $LAB || (-z ${AIFBENCH_LAB_DIR:-}${AIFBENCH_LAB:-} && ! -d $LAB) ]]; then
		LAB=$(mktemp -d /tmp/aifb-lab.XXXXXX)
	fi
	mkdir -p "$LAB"
	LAB=$(cd "$LAB" && pwd -P)
	[[ $LAB != *[[:space:],]* ]] || die "a lab folder must have no blank or comma in its name: $LAB"
	exec 9>"$CACHE/lock.lab" # ports and cgroups are chosen one lab at a time
	flock 9
	if [[ -f $LAB/etc/lab.env ]] && (load; pid_of slurmctld >/dev/null); then
		say "already running in $LAB"
		return 0
	fi
	# Half a lab is worse than none: whatever fails from here on, nothing stays.
	trap 'rc=$?; trap - EXIT; say "start failed: cleaning up (logs: $LAB/log)"; tail -qn 3 "$LAB"/log/*.log "$LAB"/log/*.out >&2 2>/dev/null || true; kill_all; exit $((rc ? rc : 1))' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	kill_all # leftovers of this folder
	if [[ $mode == '' ]]; then
		mode=B
		if ! namespaces_work; then mode=A && say "no namespaces here: mode A, all nodes share one address"; fi
	fi
	MODE=$mode CGROUP=0 NODES=()
	for ((n = 1; n <= nodes; n++)); do NODES+=("$(printf 'mel%04d' "$n")"); done
	if [[ $MODE == B ]]; then BASEPORT=16817; else BASEPORT=$(free_base); fi
	if cgroup_works; then CGROUP=1; else say "no cgroup v1 to be had (or another lab has it): proctrack/linuxproc"; fi
	mkdir -p "$LAB/etc"
	folders
	write_config
	if [[ $MODE == B ]]; then hosts_up; fi
	munge_up
	database_up
	ctld_up
	for n in "${NODES[@]}"; do daemon "$n" "slurmd.$n" slurmd -N "$n"; done
	wait_for 60 "idle nodes" nodes_ready
	trap - EXIT INT TERM
	if [[ -z ${AIFBENCH_LAB_DIR:-} ]]; then echo "$LAB" >"$CACHE/lab.current"; fi
	say "running in $LAB: mode $MODE, ${#NODES[@]} nodes, $([[ $CGROUP == 1 ]] && echo cgroup || echo linuxproc), started in $(((${EPOCHREALTIME/./} - t0) / 1000)) ms"
}

# lab_pids: every process of this lab but this script and its ancestors:
# those that live in its network namespaces, those that carry its mark, and
# Slurm's own and its jobs' in mode A. Never found by program name alone.
lab_pids() {
	local nets='' f p self=" "
	p=$$
	while ((p > 1)); do self+="$p " p=$(awk '/^PPid/ {print $2}' "/proc/$p/status"); done
	nets=" $(cat "$LAB"/run/ns.*.net 2>/dev/null | tr '\n' ' ')"
	for p in /proc/[0-9]*; do
		p=${p#/proc/}
		[[ $self != *" $p "* ]] || continue
		if [[ $nets == *" $(readlink "/proc/$p/ns/net" 2>/dev/null || echo -) "* ]]; then echo "$p"; fi
	done
	# shellcheck disable=SC2013
	for f in $(grep -lzxF -e "SLURM_CONF=$LAB/etc/slurm.conf" -e "AIFBENCH_LAB_PROC=$LAB" /proc/[0-9]*/environ 2>/dev/null); do
		p=${f#/proc/} p=${p%/environ}
		[[ $self != *" $p "* ]] || continue
		if grep -qzE -e '^(SLURM_JOB_ID|AIFBENCH_LAB_PROC)=' "$f" 2>/dev/null || [[ $(cat "/proc/$p/comm" 2>/dev/null) == slurm* ]]; then echo "$p"; fi
	done
}

kill_all() {
	local p pids n i
	for ((i = 0; i < 40; i++)); do # jobs may fork while we look
		pids=$(lab_pids | sort -u)
		[[ $pids ]] || break
		for p in $pids; do kill -KILL "$p" 2>/dev/null || true; done
		sleep 0.05
	done
	[[ -z $pids ]] || say "still there: $pids"
	rm -f "$LAB"/run/*.pid "$LAB"/run/ns.*.net
	# Empty cgroup trees stay behind; those of a running lab are refused.
	if [[ -f $LAB/etc/lab.env ]] && (load; [[ $CGROUP == 1 ]]) && ! other_lab_has_cgroup; then
		for n in /sys/fs/cgroup/*/slurm_mel[0-9]*; do
			[[ ! -d $n ]] || find "$n" -depth -type d -exec rmdir {} + 2>/dev/null || true
		done
	fi
}

cmd_stop() {
	local n
	need_root
	load
	for n in "${NODES[@]}"; do (stop_pid "slurmd.$n") & done
	wait
	stop_pid slurmctld
	stop_pid slurmdbd
	stop_pid mariadbd 30
	stop_pid munged
	cmd_kill "$@"
}

cmd_kill() {
	need_root
	[[ $LAB && -d $LAB ]] || die "no lab"
	kill_all
	if [[ ${1:-} == --rm ]]; then
		if grep -qF " $LAB/" /proc/mounts; then die "something is mounted in $LAB: not removed"; fi
		[[ -f $LAB/etc/slurm.conf ]] || die "$LAB is not a lab: not removed"
		rm -rf "$LAB"
		if [[ $(cat "$CACHE/lab.current" 2>/dev/null) == "$LAB" ]]; then rm "$CACHE/lab.current"; fi
	fi
}

cmd_status() {
	load
	local n p rc=0 names=(munged mariadbd slurmdbd slurmctld)
	for n in "${NODES[@]}"; do names+=("slurmd.$n"); done
	if [[ $MODE == B ]]; then for n in login1 "${NODES[@]}"; do names+=("ns.$n"); done; fi
	echo "lab $LAB mode $MODE port $BASEPORT $([[ $CGROUP == 1 ]] && echo cgroup || echo linuxproc)"
	for n in "${names[@]}"; do
		if p=$(pid_of "$n"); then echo "$n pid $p"; else echo "$n not running" && rc=1; fi
	done
	if ((rc == 0)); then on login1 sinfo -N -o '%N %P %T %G' || rc=1; fi
	return "$rc"
}

cmd_env() {
	load
	printf 'export %s=%q\n' AIFBENCH_LAB "$LAB" AIFBENCH_LABSH "$here/lab.sh" AIFBENCH_CACHE "$CACHE" \
		AIFBENCH_BIN "$LAB/bin/aifbench" AIFBENCH_LAB_MODE "$MODE" AIFBENCH_LAB_LOGIN login1 \
		AIFBENCH_LAB_NODES "${NODES[*]}" SLURM_CONF "$LAB/etc/slurm.conf"
}

cmd_in() {
	(($# >= 2)) || usage
	need_root
	load
	node_exec "$@"
}

cmd_as() {
	(($# >= 3)) || usage
	need_root
	load
	local user=$1 node=$2
	shift 2
	[[ " ${users[*]} " == *" $user "* ]] || die "no user $user (${users[*]})"
	# Every step is an exec: one process from lab.sh to CMD.
	# shellcheck disable=SC2016
	node_exec "$node" setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups \
		env -i HOME="$LAB/home/$user" USER="$user" LOGNAME="$user" PATH="$LAB/bin:/usr/local/bin:/usr/bin:/bin" \
		LC_ALL=C SLURM_CONF="$LAB/etc/slurm.conf" \
		sh -c 'cd "$1" 2>/dev/null || cd "$HOME"; shift; exec "$@"' _ "$PWD" "$@"
}

cmd_install() {
	load
	install -m 0755 "$1" "$LAB/bin/.aifbench.new"
	mv "$LAB/bin/.aifbench.new" "$LAB/bin/aifbench" # also while the old one runs
}

cmd_fault() {
	need_root
	load
	local p i
	case $* in
	"ctld-hang on" | "ctld-hang off")
		p=$(pid_of slurmctld) || die "slurmctld is not running"
		if [[ $2 == on ]]; then kill -STOP "$p"; else kill -CONT "$p"; fi
		;;
	"ctld-stop on") stop_pid slurmctld ;;
	"ctld-stop off")
		pid_of slurmctld >/dev/null || ctld_up
		for ((i = 0; i < 200; i++)); do nodes_ready && break; sleep 0.1; done # they report back one by one
		;;
	"dbd-stop on") stop_pid slurmdbd ;;
	"dbd-stop off") pid_of slurmdbd >/dev/null || dbd_up ;;
	"link mel"*" on" | "link mel"*" off")
		[[ $MODE == B ]] || { say "link: only in mode B"; exit 3; }
		i=$((10#${2#mel}))
		on login1 ip link set "v$i" "$([[ $3 == on ]] && echo down || echo up)"
		;;
	*) usage ;;
	esac
}

case ${1:-} in
start | stop | kill | status | in | as | env | install | fault) cmd=$1 && shift && "cmd_$cmd" "$@" ;;
*) usage ;;
esac
