#!/bin/bash
# Waits until containers are healthy, and asks for parts of what inspect shows.
set -u
docker rm -f dkh-1 dkh-2 >/dev/null 2>&1
docker run -d --name dkh-1 --health-cmd 'test -e /tmp/ok' --health-interval 500ms --health-retries 3 --health-timeout 10s --health-start-period 0s busybox sh -c 'sleep 1; touch /tmp/ok; sleep 1000' >/dev/null
timeout 120 sh -c 'until [ "$(docker inspect -f {{.State.Health.Status}} dkh-1)" = healthy ]; do sleep 0.2; done' && echo healthy
docker inspect --format='{{json .State.Health}}' dkh-1 | jq -c '[.Status,(.Log|length>0),.Log[-1].ExitCode,.Log[-1].Output]'
docker inspect --format '{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}' dkh-1
docker ps --filter health=healthy --filter name=dkh --format '{{.Names}}: {{.Status}}' | sed 's/Up .*(/Up (/'
docker inspect -f '{{json .Config.Healthcheck}}' dkh-1
docker exec dkh-1 rm /tmp/ok
timeout 120 sh -c 'until [ "$(docker inspect -f {{.State.Health.Status}} dkh-1)" = unhealthy ]; do sleep 0.2; done' && echo unhealthy
docker inspect -f '{{.State.Health.FailingStreak}} {{(index .State.Health.Log 0).ExitCode}}' dkh-1 | awk '{print ($1>=3), NF}'
docker run -d --name dkh-2 --no-healthcheck busybox sleep 1000 >/dev/null
docker inspect -f '{{.State.Health.Status}}' dkh-2; echo "code $?"
docker inspect -f '{{.State.Nope}}' dkh-2; echo "code $?"
docker inspect -f '{{json .State.Health}}' dkh-2; echo "code $?"
docker inspect -f '{{json .Config.Healthcheck}}' dkh-2; echo "code $?"
docker inspect --type container -f '{{.Name}}' dkh-1 dkh-2
docker inspect --type image dkh-1; echo "code $?"
docker inspect --type foo dkh-1; echo "code $?"
docker inspect dkh-1 nosuch -f '{{.Name}}'; echo "code $?"
docker inspect -f '{{.HostConfig.RestartPolicy.Name}}|{{.HostConfig.NetworkMode}}|{{.Config.Image}}|{{.Path}}|{{.Args}}|{{.Platform}}|{{.Driver}}' dkh-1
docker inspect -f '{{range .Mounts}}{{.Source}}{{end}}{{range $k,$v := .NetworkSettings.Networks}}{{$k}} {{end}}' dkh-1
docker inspect -f '{{slice .Id 0 12}}' dkh-1 | tr -d '\n' | wc -c
docker inspect -f '{{index .Config.Env 0}}' dkh-1
docker inspect -f '{{index .Config.Env 10}}' dkh-1; echo "code $?"
docker inspect -f '{{.State.StartedAt}}' dkh-1 | grep -cE '^[0-9-]+T[0-9:]+\.[0-9]+Z$'
docker inspect -f '{{join .Args ","}} {{upper .Name}} {{title "x y"}} {{split "a,b" ","}} {{pad "x" 1 2}}|{{println 1}}' dkh-1
docker rm -f dkh-1 dkh-2
docker run --rm --health-interval 10us busybox true; echo "code $?"
docker run --rm --health-cmd x --no-healthcheck busybox true; echo "code $?"
docker run --rm --health-retries -1 busybox true; echo "code $?"
