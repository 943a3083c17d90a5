#!/bin/bash
# Aliases, several networks, isolation, and what is connected while it runs.
set -euo pipefail
clean() {
  docker rm -f net-a net-b net-c net-alone >/dev/null 2>&1 || true
  docker network rm net-one net-two >/dev/null 2>&1 || true
}
clean; trap clean EXIT
docker network create net-one >/dev/null
docker network create --internal --driver bridge net-two >/dev/null
docker run -d --init --name net-a --network net-one --network-alias store --network-alias db busybox sleep 1000 >/dev/null
docker run -d --init --name net-b --network net-one --network-alias store busybox sleep 1000 >/dev/null
docker run -d --init --name net-c --network net-two busybox sleep 1000 >/dev/null
reach() { docker exec "$1" ping -c 1 -W 2 "$2" >/dev/null 2>&1 && echo "$1 reaches $2" || echo "$1 does not reach $2"; }
reach net-a net-b; reach net-b db; reach net-b net-c; reach net-c net-a
docker exec net-b nslookup -type=a store 127.0.0.11 2>/dev/null | grep -c '^Address.*[0-9]$' || true
docker network connect --alias cache net-one net-c
reach net-b cache; reach net-b net-c
docker inspect -f '{{range $n, $_ := .NetworkSettings.Networks}}{{println $n}}{{end}}' net-c | sort
docker network disconnect net-one net-c
reach net-b net-c
docker network inspect -f '{{len .Containers}} {{.Internal}}' net-one net-two
docker run --rm --network none busybox ip -o link | grep -c 'link/ether' || true
docker run --rm --network container:net-a busybox hostname | wc -c
docker run --rm --network net-one --dns 9.9.9.9 --dns-search example.test --add-host fixed:10.9.8.7 busybox \
  sh -c 'grep fixed /etc/hosts | tr "\t" " "; grep ^search /etc/resolv.conf; grep ^nameserver /etc/resolv.conf'
docker run --rm --network host busybox sh -c 'test -e /sys/class/net/lo && echo the network of the host'
docker run --rm --network no-such-network busybox true >/dev/null 2>&1 || echo "no such network: $?"
docker run -d --name net-alone -p 127.0.0.1:28191:80 -p 28192:81/udp --expose 82 busybox sleep 1000 >/dev/null
docker port net-alone | grep -v '\[::\]' | sort
docker ps --filter name=net-alone --format '{{.Ports}}' | sed 's/, \[::\]:28192->81\/udp//'
docker run --rm -p 127.0.0.1:28191:80 busybox true 2>&1 | grep -c "port is already allocated" || true
docker rm -f net-alone >/dev/null
docker network ls --filter driver=bridge --filter name=net- --format '{{.Name}}' | sort
docker network ls -q --filter name=net-one | tr -d '\n' | wc -c
docker stop -t 0 net-a net-b net-c
docker rm net-a net-b net-c
docker network rm net-one net-two
