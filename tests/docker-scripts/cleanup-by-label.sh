#!/bin/bash
# Finds containers by label, name and status, as clean-up jobs do, and removes them.
set -euo pipefail
mine="label=job=nightly"
docker ps -aq --filter "$mine" | xargs -r docker rm -f >/dev/null
for n in 1 2 3; do
  docker run -d --label job=nightly --label number=$n --name "nightly-$n" busybox sleep 1000 >/dev/null
done
docker run --label job=nightly --name nightly-done busybox true
docker run --label job=nightly --name nightly-failed busybox false || echo "failed with $?"
docker create --label job=nightly --name nightly-created busybox true >/dev/null

echo "running: $(docker ps -q --filter "$mine" | wc -l), all: $(docker ps -aq --filter "$mine" | wc -l)"
docker ps -a --filter "$mine" --filter status=exited --format '{{.Names}}' | sort
docker ps -a --filter "$mine" --filter exited=1 --format '{{.Names}}'
docker ps -a --filter "$mine" --filter status=created --format '{{.Names}} {{.Status}}'
docker ps --filter "$mine" --filter label=number=2 --format '{{.Names}} {{.Label "number"}}'
docker ps -a --filter name=nightly-d --filter "$mine" --format '{{.Names}}'
docker ps -a --filter "$mine" --format json | jq -r '[.Names, .State, (.Labels | contains("job=nightly"))] | @tsv' | sort
docker ps -a --filter "$mine" --format '{{.Command}}' | sort | uniq -c
for id in $(docker ps -q --filter "$mine"); do
  docker inspect -f '{{index .Config.Labels "number"}} {{.Config.Cmd}}' "$id"
done | sort
docker kill nightly-1 nightly-2
docker inspect -f '{{.Name}} {{.State.ExitCode}} {{.State.OOMKilled}}' nightly-1 nightly-2
docker rm nightly-done nightly-failed
docker rm nightly-3 >/dev/null 2>&1 || echo "a running one is not removed: $?"
docker ps -aq --filter "$mine" | xargs docker rm -f | wc -l
docker ps -aq --filter "$mine" | wc -l
