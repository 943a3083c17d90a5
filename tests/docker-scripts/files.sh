#!/bin/bash
# Moves files in and out of containers and images.
set -euo pipefail
work=$(mktemp -d)
cd "$work"
trap 'docker rm -f files files-2 >/dev/null 2>&1; docker image rm -f files-image:1 files-loaded:2 >/dev/null 2>&1; rm -rf "$work"' EXIT
docker rm -f files files-2 >/dev/null 2>&1 || true
docker run -d --name files --init busybox sleep 1000 >/dev/null
echo "from the host" > note.txt
mkdir -p tree/deep; echo a > tree/a; echo b > tree/deep/b
docker cp note.txt files:/tmp/ 2>/dev/null
docker cp note.txt files:/tmp/renamed.txt 2>/dev/null
docker cp tree files:/opt 2>/dev/null
docker exec files sh -c 'mkdir -p /srv/x'
docker cp tree/. files:/srv/x 2>/dev/null
docker exec files sh -c 'cat /tmp/note.txt /tmp/renamed.txt; find /opt /srv | sort'
docker cp files:/srv/x/deep out 2>/dev/null; ls out
docker cp files:/etc/passwd - 2>/dev/null | tar tf -
tar cf - tree | docker cp - files:/var 2>/dev/null
docker exec files cat /var/tree/deep/b
docker cp files:/no/such/file . 2>/dev/null || echo "cp: $?"
docker exec files sh -c 'rm /etc/group; echo changed >> /etc/passwd; mkdir /new; echo n > /new/file'
docker diff files | grep -vE '^. /(opt|srv|tmp|var|sbin)' | sort
docker stop -t 0 files >/dev/null
docker cp files:/new/file - 2>/dev/null | tar xOf -
docker cp note.txt files:/new/late 2>/dev/null
docker export files | tar tf - | grep -E '^new' | sort
id=$(docker commit -m "with notes" -c 'CMD ["cat", "/new/late"]' -c 'ENV WHO=commit' files files-image:1)
echo "${id%%:*}"
docker run --rm files-image:1
docker run --rm files-image:1 sh -c 'echo $WHO; test -e /etc/group || echo no group'
docker image inspect -f '{{json .Config.Cmd}} {{.Comment}} {{len .RootFS.Layers}} {{.Os}}' files-image:1
docker images files-image --format '{{.Repository}}:{{.Tag}}'
docker tag files-image:1 files-loaded:2
docker save files-loaded:2 -o saved.tar
tar tf saved.tar | grep -c manifest.json
docker image rm files-loaded:2 files-image:1 | grep -c Untagged
docker load -i saved.tar
docker run --rm files-loaded:2
docker history --format '{{.Comment}}' files-loaded:2 | head -n 1
docker export files | docker import -c 'CMD ["echo", "imported"]' - files-image:1 | cut -d: -f1
docker run --rm files-image:1
