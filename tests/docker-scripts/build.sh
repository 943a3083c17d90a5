#!/bin/bash
# Images from Dockerfiles, by all names of the command.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
docker rmi -f built:1 built:2 built:3 built:4 built:5 >/dev/null 2>&1 || true
cat >Dockerfile <<'F'
FROM busybox AS base
ARG WHO=nobody
RUN echo "hello $WHO" >/hello
FROM base AS last
LABEL made=here
COPY file /data/
ENV A=1 B="two words"
CMD ["cat", "/hello", "/data/file"]
F
echo content >file
echo secret >word
id=$(docker build -q -t built:1 --build-arg WHO=you .)
test "$id" = "$(docker image inspect -f '{{.Id}}' built:1)" && echo "the id is printed"
docker run --rm built:1
docker image build -q --target base --iidfile id -t built:2 . >/dev/null
test "$(cat id)" = "$(docker image inspect -f '{{.Id}}' built:2)" && echo "the id is in the file"
docker run --rm built:2 cat /hello
docker builder build -q --label more=1 -t built:3 . >/dev/null
docker image inspect -f '{{json .Config.Labels}} {{json .Config.Cmd}} {{.Config.Env}}' built:3
docker buildx build -q --load -t built:4 -f - . >/dev/null <<'F'
FROM busybox
RUN --mount=type=secret,id=word true
COPY word /
F
docker run --rm built:4 cat /word
DOCKER_BUILDKIT=0 docker buildx b -q -t built:5 --secret id=word,src=word -f - . <<'F' | cut -c1-7
FROM busybox
RUN --mount=type=secret,id=word sha256sum </run/secrets/word | cut -c1-8 >/sum
F
docker run --rm built:5 cat /sum
docker build -q . -f nowhere >/dev/null 2>&1 || echo "no Dockerfile: $?"
printf 'FROM busybox\nRUN exit 7\n' | docker build -q -f - . >/dev/null 2>&1 || echo "a step that fails: $?"
printf 'FORM busybox\n' | docker build -q -f - . >/dev/null 2>&1 || echo "an instruction that is none: $?"
docker build >/dev/null 2>&1 || echo "no context: $?"
docker image ls --filter reference=built --format '{{.Tag}}' | sort
docker rmi built:1 built:2 built:3 built:4 built:5 >/dev/null
