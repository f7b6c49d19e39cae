#!/usr/bin/env bash
# Make this machine a Slurm cluster of one node, to test --launcher slurm on. As root, on Debian or Ubuntu; no systemd is
# needed, and running it again only starts what is not running.
#
#   bash tests/slurm/install.sh          install and start munged, slurmctld and slurmd
#   bash tests/slurm/install.sh stop     stop them
#
# MEMORY (megabytes, default: the machine's, less 10 %) and CPUS (default: the machine's, 2 at least, so that two jobs run
# side by side) are what the node offers.
set -euo pipefail

CPUS=${CPUS:-$(nproc --all)}
[ "$CPUS" -ge 2 ] || CPUS=2
MEMORY=${MEMORY:-$(awk '/^MemTotal:/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)}
CONF=/etc/slurm/slurm.conf
MARK="# written by tests/slurm/install.sh"

[ "$(id -u)" = 0 ] || { echo "error: install.sh must run as root" >&2; exit 2; }

if [ "${1:-}" = stop ]; then
  for daemon in slurmd slurmctld munged; do
    if [ -s "/run/junkdna-$daemon.pid" ]; then kill "$(cat "/run/junkdna-$daemon.pid")" 2>/dev/null || true; fi
  done
  exit 0
fi

missing=no
for program in munged slurmctld slurmd sbatch; do command -v "$program" >/dev/null || missing=yes; done
if [ "$missing" = yes ]; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q
  apt-get install -y -q --no-install-recommends munge slurmctld slurmd slurm-client
fi

if [ -e "$CONF" ] && ! grep -qF "$MARK" "$CONF"; then
  echo "error: $CONF exists and is not from this script; this machine has a Slurm of its own" >&2
  exit 2
fi
mkdir -p /etc/slurm /var/spool/junkdna-slurm/ctld /var/spool/junkdna-slurm/d /var/log/slurm
cat >"$CONF.new" <<END
$MARK
ClusterName=junkdna
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
# a job that is queued again may not start before its old credential has expired; 120 s unless told
AuthInfo=cred_expire=5
StateSaveLocation=/var/spool/junkdna-slurm/ctld
SlurmdSpoolDir=/var/spool/junkdna-slurm/d
SlurmctldPidFile=/run/junkdna-slurmctld.pid
SlurmdPidFile=/run/junkdna-slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
# a container has no control groups to hand out
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=5
ReturnToService=2
# 1: a job whose node failed is queued again
JobRequeue=1
KillWait=1
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=$CPUS RealMemory=$MEMORY State=UNKNOWN
PartitionName=test Nodes=$(hostname) Default=YES MaxTime=INFINITE State=UP
END
changed=no
cmp -s "$CONF.new" "$CONF" || changed=yes
mv "$CONF.new" "$CONF"

running() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }
wait_for() { # wait_for SECONDS COMMAND...: until the command succeeds
  local left=$1
  shift
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || { echo "error: gave up waiting for: $*" >&2; tail -n 20 /var/log/slurm/*.log >&2 || true; exit 1; }
    sleep 1
  done
}

if ! munge -n 2>/dev/null | unmunge >/dev/null 2>&1; then
  [ -s /etc/munge/munge.key ] || { dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=1024 status=none; }
  chown munge:munge /etc/munge/munge.key && chmod 400 /etc/munge/munge.key
  install -d -o munge -g munge -m 755 /run/munge
  install -d -o munge -g munge -m 700 /var/lib/munge /var/log/munge
  setpriv --reuid=munge --regid=munge --clear-groups munged --pid-file /run/munge/munged.pid --force
  ln -sf /run/munge/munged.pid /run/junkdna-munged.pid
fi
if [ "$changed" = yes ]; then
  for daemon in slurmd slurmctld; do
    if running "/run/junkdna-$daemon.pid"; then kill "$(cat "/run/junkdna-$daemon.pid")" && sleep 2; fi
  done
fi
running /run/junkdna-slurmctld.pid || slurmctld
wait_for 30 scontrol ping
running /run/junkdna-slurmd.pid || slurmd
scontrol update "NodeName=$(hostname)" State=RESUME 2>/dev/null || true
wait_for 60 srun --time=1 true
sinfo
