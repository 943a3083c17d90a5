#!/bin/bash
# Backs volumes up into archives and restores them, and asks who has them.
set -u
cd $(mktemp -d)
docker volume rm keeper-none >/dev/null 2>&1
docker volume rm kept-data kept-data2 2>/dev/null
docker volume create kept-data
docker run --rm -v kept-data:/data busybox sh -c 'mkdir /data/d; echo hello > /data/d/f; ln -s f /data/d/l; chown -R 1000:1000 /data/d; chmod 640 /data/d/f'
docker run --rm -v kept-data:/data:ro -v "$PWD":/backup busybox tar czf /backup/backup.tgz -C /data .
tar tvzf backup.tgz | awk '{print $1,$2,$NF}'
docker volume create --label a=b --name kept-data2
docker run --rm -v kept-data2:/data -v "$PWD:/backup:ro" busybox sh -c 'cd /data && tar xzf /backup/backup.tgz && ls -lnR . | grep -v total | awk "{print \$1,\$3,\$4,\$NF}"'
docker run --rm --mount type=volume,source=kept-data2,target=/from,readonly --mount type=bind,source="$PWD",target=/to busybox cp -a /from/d /to/copy
stat -c '%a %u:%g %n' copy copy/f
docker volume ls --filter name=kept-data --format 'table {{.Name}}\t{{.Driver}}\t{{.Scope}}'
docker volume ls -f label=a=b
docker volume ls -qf dangling=true -f name=kept-data
docker run -d --name keeper -v kept-data:/x busybox sleep 100 >/dev/null
docker volume rm nosuchvol; echo "code $?"
docker volume rm -f nosuchvol; echo "code $?"
docker ps -q --filter volume=kept-data | wc -l
docker ps --filter volume=kept-data --format '{{.Names}} {{.Mounts}} {{.LocalVolumes}}'
docker rm -vf keeper
docker volume rm kept-data kept-data2
docker volume create bad/name; echo "code $?"
docker volume create -d nosuch x; echo "code $?"
