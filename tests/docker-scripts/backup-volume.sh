#!/bin/sh
# Saves a volume into an archive with a throw-away container, and brings it back into another.
set -eu
docker volume rm -f backup-data backup-copy >/dev/null 2>&1 || true
work=$(mktemp -d)
trap 'docker volume rm -f backup-data backup-copy >/dev/null; rm -rf "$work"' EXIT

docker volume create backup-data
docker run --rm -v backup-data:/data busybox sh -c '
  mkdir -p /data/sub; echo one > /data/a.txt; echo two > /data/sub/b.txt
  ln -s a.txt /data/link; chmod 640 /data/a.txt; chown 1000:1000 /data/sub/b.txt'
docker run --rm -v backup-data:/data:ro -v "$work":/backup busybox tar czf /backup/data.tar.gz -C /data .
tar tzf "$work/data.tar.gz" | sort
docker volume create --label purpose=restore backup-copy
docker run --rm --mount type=volume,src=backup-copy,dst=/data --mount type=bind,src="$work",dst=/backup,readonly \
  busybox tar xzf /backup/data.tar.gz -C /data
docker run --rm -v backup-copy:/data busybox sh -c 'cd /data; find . | sort; cat a.txt sub/b.txt; readlink link; stat -c "%a %u:%g" a.txt sub/b.txt'
docker run --rm -v backup-copy:/data:ro busybox touch /data/x 2>&1 | sed 's/.*: \(Read-only\)/\1/'
docker volume ls -q --filter label=purpose=restore
docker volume ls --filter name=backup- --format '{{.Name}} {{.Driver}}'
docker volume inspect -f '{{.Name}} {{.Scope}} {{index .Labels "purpose"}}' backup-copy
docker run -d --name backup-user -v backup-data:/data busybox sleep 1000 >/dev/null
docker volume rm backup-data 2>&1 | sed 's/\[.*\]/[...]/; s/- [0-9a-f]*$/- .../' || true
docker ps --filter volume=backup-data --format '{{.Names}}'
docker rm -f backup-user
docker volume rm backup-data
docker volume inspect backup-data 2>&1 || echo "gone: $?"
