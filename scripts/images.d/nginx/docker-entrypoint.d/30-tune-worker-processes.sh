#!/bin/sh
# NGINX_ENTRYPOINT_WORKER_PROCESSES_AUTOTUNE: as many workers as the CPU quota
# and the CPU set allow.
set -e
[ -n "${NGINX_ENTRYPOINT_WORKER_PROCESSES_AUTOTUNE:-}" ] || exit 0
conf=/etc/nginx/nginx.conf
touch $conf 2>/dev/null || { echo "${0##*/}: error: can not modify $conf (read-only file system?)"; exit 0; }
n=$(nproc)
if [ -f /sys/fs/cgroup/cpu.max ]; then
  read -r quota period </sys/fs/cgroup/cpu.max
  if [ "$quota" != max ]; then
    share=$(((quota + period - 1) / period))
    [ "$share" -ge "$n" ] || n=$share
  fi
fi
sed -i "s/^worker_processes.*/worker_processes  $n;/" $conf
