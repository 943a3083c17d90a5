#!/bin/sh
# Reads what containers have said, in every way scripts do.
set -eu
docker rm -f logs-1 logs-2 >/dev/null 2>&1 || true
docker run -d --name logs-1 busybox sh -c 'for i in 1 2 3 4 5; do echo "line $i"; done; sleep 0.2; echo "a problem" >&2; sleep 0.2; printf "no end of line"' >/dev/null
docker wait logs-1
docker logs logs-1 2>/dev/null | tail -n 2; echo
docker logs logs-1 2>&1 >/dev/null
docker logs --tail 2 logs-1 2>/dev/null; echo
docker logs -n 1 logs-1 2>/dev/null; echo
docker logs --tail 0 logs-1
docker logs --tail all logs-1 2>/dev/null | wc -l
docker logs -t logs-1 2>/dev/null | sed -E 's/^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{9}Z /TIME /' | head -n 2
docker logs --since 1h logs-1 2>/dev/null | wc -l
docker logs --until 1h logs-1 2>/dev/null | wc -l
docker logs --since 2001-01-01T00:00:00Z --until 2002-01-01 logs-1
docker logs -f logs-1 2>/dev/null | grep -c line
docker logs --details logs-1 2>/dev/null | head -n 1
docker run -d --name logs-2 --log-opt max-size=10k --log-opt max-file=2 busybox sh -c 'i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo "tick $i"; sleep 0.05; done' >/dev/null
docker logs -f logs-2 | tail -n 1
docker inspect -f '{{.HostConfig.LogConfig.Type}} {{index .HostConfig.LogConfig.Config "max-file"}}' logs-2
docker start -a logs-1 2>/dev/null | head -n 1
docker logs logs-1 2>/dev/null | grep -c 'line 1'
docker run --rm busybox sh -c 'echo out; echo err >&2' 2>/dev/null
docker run --rm busybox sh -c 'echo out; echo err >&2' 2>&1 >/dev/null
printf 'a\nb\n' | docker run --rm -i busybox cat -n
docker run --rm -t busybox sh -c 'tty; echo terminal' | tr -d '\r'
docker attach --no-stdin logs-1 2>&1 || true
docker rm logs-1 logs-2
