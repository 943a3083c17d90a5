#!/bin/sh
# Starts a server, waits until it answers, uses it, and stops it.
set -eu
name=wait-for-service
docker rm -f "$name" >/dev/null 2>&1 || true
id=$(docker run -d --name "$name" redis:7-alpine)
echo "id has ${#id} characters"

tries=0
until [ "$(docker exec "$name" redis-cli ping 2>/dev/null)" = PONG ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 500 ] || { echo "never ready"; docker logs "$name"; exit 1; }
  sleep 0.1
done
echo ready
docker exec "$name" redis-cli set colour blue
docker exec -e WHAT=colour "$name" sh -c 'redis-cli get $WHAT'
echo "from a pipe" | docker exec -i "$name" redis-cli -x set text
docker exec "$name" redis-cli get text
docker logs "$name" 2>&1 | grep -c "Ready to accept connections"
if docker ps --filter "name=^${name}$" --format '{{.Names}} {{.Image}} {{.State}}' | grep -q running; then
  docker ps --filter "name=$name" --format 'table {{.Names}}\t{{.Image}}\t{{.Ports}}'
fi
docker inspect --format '{{.State.Status}} {{.State.Running}} {{.Name}} {{.Config.Image}}' "$name"
docker stop "$name"
docker inspect --format '{{.State.Status}} {{.State.Running}} {{.State.ExitCode}}' "$name"
docker start "$name"
docker inspect -f '{{if .State.Running}}yes{{else}}no{{end}}' "$name"
docker rm -f "$name"
docker inspect "$name" >/dev/null 2>&1 || echo "gone: $?"
