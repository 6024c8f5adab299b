#!/usr/bin/env bash
# A Slurm cluster of several hosts on one machine, from the distribution's packages. Every host is a set of namespaces of
# its own (network, name, mounts, processes), so it has a hostname, an address, a /dev/shm, and can crash; one more holds
# the controller and the bridge between them. Outside of them nothing is created: when a host's first process is killed,
# all of the host is gone.
#
#   tests/slurm/cluster.sh possible      says why there can be no cluster here (exit code 77), or nothing
#   tests/slurm/cluster.sh up [N]        starts controller and hosts n1 .. nN (default 4), and waits until they are idle
#   tests/slurm/cluster.sh exec CMD ...  runs a command on the controller's host: sbatch, squeue, scontrol, scancel
#   tests/slurm/cluster.sh crash nK      a power failure of one host
#   tests/slurm/cluster.sh start nK      and its boot
#   tests/slurm/cluster.sh down          ends and removes everything
#
#   TMD_LAB      folder of the cluster: logs, state, keys (default: /tmp/tmd_lab; short, for it holds a socket)
set -u
lab=${TMD_LAB:-/tmp/tmd_lab} network=10.99.0 controller=254
export SLURM_CONF=$lab/slurm.conf

# wait_for SECONDS CONDITION
wait_for() {
  local i
  for ((i = 0; i < $1 * 20; i++)); do
    eval "$2" >/dev/null 2>&1 && return
    sleep 0.05
  done
  return 1
}

# A killed process may stay a zombie for a while, where whoever has to collect it is slow.
is_gone() { case $(awk '/^State/ {print $2}' "/proc/$1/status" 2>/dev/null) in '' | Z | X) ;; *) return 1 ;; esac; }

# on HOST CMD...: in its network, name and mounts, in the present folder; its processes are seen from outside.
on() {
  local init
  init=$(cat "$lab/run/$1.init" 2>/dev/null) || return 1
  shift
  # shellcheck disable=SC2016
  nsenter --target "$init" --net --uts --mount -- sh -c 'cd "$0" 2>/dev/null; exec "$@"' "$PWD" "$@"
}

# The first process of a host: waits for its network, starts the daemon, and collects whatever ends.
# shellcheck disable=SC2016
first_process='
  name=$1 lab=$2; shift 2
  hostname "$name"
  ip link set lo up
  mount -t tmpfs -o size=2g,mode=1777 tmpfs /dev/shm
  mount --bind "$lab/hosts" /etc/hosts
  until [ -e "$lab/run/$name.linked" ]; do sleep 0.01; done
  "$@" &
  while :; do wait -n; [ -n "$(jobs -rp)" ] || sleep 0.2; done'

# boot NAME LAST_OCTET DAEMON...
boot() {
  local name=$1 address=$network.$2 outer init
  shift 2
  mkdir -p "$lab/spool/$name" "$lab/tmp/$name"
  setsid unshare --net --uts --mount --pid --fork --kill-child=KILL --mount-proc \
    bash -c "$first_process" init "$name" "$lab" "$@" </dev/null >>"$lab/log/$name.init.log" 2>&1 &
  outer=$!
  echo "$outer" >"$lab/run/$name.unshare"
  wait_for 5 "ps -o pid= --ppid $outer | grep -q ." || return 1
  init=$(ps -o pid= --ppid "$outer" | tr -d ' ')
  echo "$init" >"$lab/run/$name.init"
  wait_for 5 "[ \$(readlink /proc/$init/ns/net) != $(readlink /proc/self/ns/net) ]" || return 1
  link "$name" "$address" "$init" || return 1
  : >"$lab/run/$name.linked"
}

link() { # NAME ADDRESS INIT
  if [ "$1" = ctl ]; then
    nsenter --target "$3" --net sh -c "ip link add br0 type bridge && ip addr add $2/24 dev br0 && ip link set br0 up"
    return
  fi
  on ctl sh -c "ip link del v-$1 2>/dev/null
    ip link add v-$1 type veth peer name eth0 netns $3 && ip link set v-$1 master br0 up" || return 1
  nsenter --target "$3" --net sh -c "ip addr add $2/24 dev eth0 && ip link set eth0 up &&
    ip route add default via $network.$controller"
}

halt() { # NAME
  local outer init
  outer=$(cat "$lab/run/$1.unshare" 2>/dev/null) || return 0
  init=$(cat "$lab/run/$1.init" 2>/dev/null) || init=$outer
  kill -9 "$init" "$outer" 2>/dev/null
  wait_for 5 "is_gone $outer && is_gone $init"
  rm -f "$lab/run/$1".{init,unshare,linked}
}

down() {
  local file daemon
  for file in "$lab"/run/*.unshare; do [ -e "$file" ] && halt "$(basename "$file" .unshare)"; done
  if daemon=$(cat "$lab/run/munged.pid" 2>/dev/null); then
    kill "$daemon" 2>/dev/null
    wait_for 3 "is_gone $daemon" || kill -9 "$daemon"
  fi
  rm -rf "$lab"
}

# Credentials that expire after 5 s let a requeued job start again after 6 s instead of 121; below 5 the setting is
# ignored. TmpFS of each host's own: the PMIx plugin keeps folders there. More processors a host than there are,
# and no control groups: the machine may be a container. Slurm looks for jobs at once, and for dead hosts soon.
write_configuration() { # HOSTS
  local i
  cat <<CONF
ClusterName=lab
SlurmctldHost=ctl($network.$controller)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$lab/run/munge/sock,cred_expire=5
SlurmctldPidFile=$lab/run/slurmctld.pid
SlurmdPidFile=$lab/run/slurmd-%n.pid
SlurmctldLogFile=$lab/log/slurmctld.log
SlurmdLogFile=$lab/log/slurmd-%n.log
StateSaveLocation=$lab/state
SlurmdSpoolDir=$lab/spool/%n
TmpFS=$lab/tmp/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=1,bf_interval=1
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=10
SlurmctldTimeout=10
MessageTimeout=10
TCPTimeout=2
KillWait=5
MinJobAge=3600
SlurmdParameters=config_overrides
LaunchParameters=disable_send_gids
PropagateResourceLimits=NONE
CONF
  for ((i = 1; i <= $1; i++)); do
    echo "NodeName=n$i NodeAddr=$network.$i CPUs=4 RealMemory=4000 State=UNKNOWN"
  done
  echo "PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime=20"
  echo "PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF"
}

start_munge() {
  (umask 077 && head -c 128 /dev/urandom >"$lab/run/munge.key" && mkdir -m 711 "$lab/run/munge")
  munged --force --key-file="$lab/run/munge.key" --socket="$lab/run/munge/sock" --pid-file="$lab/run/munged.pid" \
    --log-file="$lab/log/munged.log" --seed-file="$lab/run/munge.seed" --num-threads=2
}

up() { # HOSTS
  local i
  down
  mkdir -p "$lab"/{run,log,state,spool,tmp}
  chmod 755 "$lab" "$lab"/{run,log}
  { echo "127.0.0.1 localhost"; echo "$network.$controller ctl"; } >"$lab/hosts"
  for ((i = 1; i <= $1; i++)); do echo "$network.$i n$i" >>"$lab/hosts"; done
  write_configuration "$1" >"$SLURM_CONF"
  start_munge && boot ctl $controller slurmctld -D -c || return 1
  for ((i = 1; i <= $1; i++)); do boot "n$i" "$i" slurmd -D -N "n$i" || return 1; done
  # shellcheck disable=SC2016
  wait_for 20 '[ "$(on ctl sinfo --noheader --partition=main --format=%D --states=idle)" = '"$1 ]" ||
    { on ctl sinfo; tail -qn 3 "$lab"/log/*; return 1; }
}

possible() {
  local command missing=() said
  for command in slurmctld slurmd sbatch munged ip unshare nsenter; do
    command -v $command >/dev/null || missing+=("$command")
  done
  if [ "$(id -u)" != 0 ]; then
    echo "a Slurm cluster on one machine needs root"
  elif [ ${#missing[@]} -gt 0 ]; then
    echo "a Slurm cluster needs ${missing[*]}: scripts/setup --slurm"
  elif ! said=$(unshare --net --uts --mount --pid --fork --mount-proc ip link add br0 type bridge 2>&1); then
    echo "a Slurm cluster on one machine needs namespaces, which this system refuses: $said"
  else
    return 0
  fi
  return 77
}

case ${1:-} in
  possible) possible ;;
  up) up "${2:-4}" ;;
  exec) shift && on ctl "$@" ;;
  crash) halt "$2" ;;
  start) boot "$2" "${2#n}" slurmd -D -N "$2" ;;
  down) down ;;
  *) sed -n '2,16p' "$0" | cut -c3- >&2; exit 64 ;;
esac
