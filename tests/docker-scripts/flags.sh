#!/bin/bash
# Flags as scripts write them: values behind "=", settings of the client, versions that are compared.
say() { echo "$1: $2"; }
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ] && echo "at least $1"; }
docker rm -f flags-a >/dev/null 2>&1
docker run --rm=true -d=false -t=false busybox echo attached;        say run $?
docker run -d=true --rm=false --init=1 --name=flags-a --label=tier=front busybox sh -c 'echo one; echo two; exec sleep 1000' >/dev/null
say detached $?
until docker logs --tail=1 flags-a 2>/dev/null | grep two; do sleep 0.1; done
docker logs --timestamps=false --follow=false -n=1 flags-a
docker ps --all=true --quiet=false --no-trunc=F --filter name=flags-a --format '{{.Names}} {{.Label "tier"}}'
docker ps -aq=false --filter=name=flags-a --format={{.Names}}
docker exec -it=false --privileged=false flags-a echo inside;        say exec $?
docker exec flags-a cat /proc/1/cmdline | tr '\0' ' '; echo
docker --host unix:///var/run/docker.sock ps --filter name=flags-a --format '{{.Names}}'
docker -H=unix:///var/run/docker.sock inspect --size=false --format '{{.HostConfig.Init}}' flags-a
docker --context default --debug=false --log-level=error ps --filter name=flags-a --format '{{.Names}}'
docker --log-level loud ps >/dev/null 2>&1;                           say "log level" $?
docker --context nowhere ps >/dev/null 2>&1;                          say context $?
docker -H tcp://127.0.0.1:1 --context default ps >/dev/null 2>&1;     say "host and context" $?
docker -H tcp://127.0.0.1:1 ps 2>&1 | grep -o 'Cannot connect to the Docker daemon at tcp://127.0.0.1:1'
docker -H tcp://127.0.0.1:1 run busybox true >/dev/null 2>&1;         say "run elsewhere" $?
DOCKER_HOST=tcp://127.0.0.1:1 docker ps >/dev/null 2>&1;              say DOCKER_HOST $?
docker run --rm=perhaps busybox true 2>&1 | head -n 1
docker run --detach=perhaps busybox true >/dev/null 2>&1;             say "no boolean" $?
docker run --rm --isolation=default --volume-driver=local -v /made busybox true; say isolation $?
docker run --rm --isolation hyperv busybox true >/dev/null 2>&1;      say hyperv $?
docker run --rm --storage-opt size=1G busybox true >/dev/null 2>&1;   say "storage option" $?
docker run --rm --link-local-ip=169.254.77.5 busybox ip -o -4 addr show eth0 | grep -o '169.254.77.5/16'
docker run --rm --ipc=none busybox test -e /dev/shm;                  say "no /dev/shm" $?
docker run --rm --security-opt label=disable --security-opt label:type:any busybox true; say labels $?
docker info --format '{{.OSType}} {{.Swarm.LocalNodeState}} {{.DefaultRuntime}} {{.MemoryLimit}} {{.PidsLimit}} {{.IPv4Forwarding}}'
docker info --format '{{range .ClientInfo.Plugins}}{{if eq .Name "compose"}}{{.Name}}{{end}}{{end}}'
docker info --format '{{if .ServerVersion}}there{{end}} {{len .SecurityOptions}} {{.Swarm.ControlAvailable}}'
at_least 24.0.0 "$(docker version --format '{{.Server.Version}}')"
at_least 24.0.0 "$(docker version -f '{{.Client.Version}}')"
at_least 1.44 "$(docker version -f '{{.Server.APIVersion}}')"
at_least 24.0.0 "$(docker --version | sed 's/Docker version \([^,]*\),.*/\1/')"
at_least 2.20.0 "$(docker compose version --short)"
docker compose version | grep -o '^Docker Compose version'
docker rm --force=true --volumes=false flags-a
