#!/bin/bash
# Renames, pauses, limits and prunes.
set -euo pipefail
docker rm -f house house-2 renamed >/dev/null 2>&1 || true
docker create --name house --label house=1 -it busybox sh >/dev/null
docker inspect -f '{{.State.Status}} {{.Config.Tty}} {{.Config.OpenStdin}}' house
docker rename house renamed
docker start renamed
docker pause renamed
docker ps --filter name=renamed --format '{{.State}} {{.Names}}'
docker inspect -f '{{.State.Status}} {{.State.Paused}} {{.State.Running}}' renamed
docker exec renamed true 2>&1 | grep -c "is paused" || true
docker unpause renamed
docker update --memory 64m --memory-swap 64m --cpus 0.5 --pids-limit 50 renamed
docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}' renamed
docker top renamed -o pid,args | awk 'NR == 1 {print $1, $2} NR > 1 {print $2}'
docker stop -t 0 renamed
docker run -d --name house-2 --label house=2 busybox sleep 1000 >/dev/null
docker container prune -f --filter label=house=1 | grep -v '^Total' | sed -E 's/[0-9a-f]{64}/ID/'
docker container ls -a --filter label=house --format '{{.Names}}'
docker container inspect -f '{{.Name}}' house-2
docker rm -f house-2
docker volume create --label house=1 house-data
docker volume prune -f -a --filter label=house=1 | grep -v '^Total'
docker network create --label house=1 house-net >/dev/null
docker network prune -f --filter label=house=1
docker version --format '{{.Client.Os}}/{{.Client.Arch}}' | sed 's/amd64\|arm64/ARCH/'
docker info --format '{{.OSType}}'
docker images --format '{{.Repository}}:{{.Tag}}' busybox
docker images -q busybox | tr -d '\n' | wc -c
docker image ls --filter reference='busy*' --format '{{.Repository}}'
docker image inspect busybox --format '{{.Os}} {{json .Config.Cmd}}'
docker system df --format '{{.Type}}'
docker run --rm --read-only --tmpfs /tmp:size=1m busybox sh -c 'touch /x 2>/dev/null || echo read-only; touch /tmp/x && echo tmpfs'
docker run --rm --cap-drop ALL busybox sh -c 'chown 1:1 /tmp 2>/dev/null || echo "no right to"'
docker run --rm --ulimit nofile=123:456 busybox sh -c 'ulimit -n'
docker run --rm --hostname h --env-file /dev/stdin busybox sh -c 'hostname; echo $A-$B' <<< $'A=1\nB=two words'
docker run --rm --sysctl net.ipv4.ip_forward=0 busybox cat /proc/sys/net/ipv4/ip_forward
docker run --rm -u 1000:1000 --group-add 7 busybox id -G
docker run --rm --entrypoint echo busybox from the entrypoint
