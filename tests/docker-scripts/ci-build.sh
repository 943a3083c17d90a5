#!/bin/bash
# Builds in every way that pipelines do, and looks at the images.
set -u
cd $(mktemp -d)
cat > Dockerfile <<D
FROM busybox AS base
ARG VERSION=dev
ENV APP_VERSION=\$VERSION
LABEL org.opencontainers.image.version=\$VERSION
FROM base AS test
RUN echo testing \$APP_VERSION
FROM base
COPY hello.sh /hello.sh
ENTRYPOINT ["sh","/hello.sh"]
CMD ["world"]
D
echo 'echo "hello $1 $APP_VERSION"' > hello.sh
docker build -q . | xargs docker run --rm
id=$(docker build -q --build-arg VERSION=1.2.3 -t dkapp:1.2.3 -t dkapp:latest .); echo ${id%%:*}
docker run --rm dkapp:1.2.3 ci
docker build --target test --iidfile iid -t dkapp:test . >/dev/null 2>&1; echo "code $?"; cut -c1-7 iid; echo
docker image inspect dkapp:1.2.3 --format '{{index .Config.Labels "org.opencontainers.image.version"}} {{json .RepoTags}}'
docker build - <<D >/dev/null 2>&1
FROM busybox
RUN exit 3
D
echo "code $?"
docker build -t dkapp:stdin - <<D 2>/dev/null && docker run --rm dkapp:stdin
FROM busybox
CMD echo from stdin
D
tar c Dockerfile hello.sh | docker build -q -t dkapp:tar - | cut -c1-7
docker build -q -f- -t dkapp:f . <<D | cut -c1-7
FROM busybox
COPY hello.sh /
D
docker build nosuchdir; echo "code $?"
docker build; echo "code $?"
docker build --build-arg; echo "code $?"
docker images dkapp --format '{{.Tag}}' | sort
docker images --filter label=org.opencontainers.image.version=1.2.3 --format '{{.Repository}}:{{.Tag}}' | sort
docker images --filter reference='dkapp:1*' --format '{{.Repository}}:{{.Tag}}'
docker images --filter dangling=true -q | wc -l | awk '{print ($1>=0)}'
docker images nosuch
docker images -q nosuch; echo "code $?"
docker images --filter foo=bar; echo "code $?"
docker images --format json dkapp:latest | jq -c 'del(.ID,.CreatedAt,.CreatedSince,.Size,.VirtualSize)'
docker images --digests --format 'table {{.Repository}}\t{{.Digest}}' dkapp:latest
docker tag dkapp:latest localhost:5999/team/dkapp:v1
docker images --format '{{.Repository}}' localhost:5999/team/dkapp
docker tag nosuch a:b; echo "code $?"
docker tag dkapp:latest 'Bad:Name'; echo "code $?"
docker rmi localhost:5999/team/dkapp:v1
c=$(docker create dkapp:latest); docker cp $c:/hello.sh copy.sh; cat copy.sh; 
docker rm $c >/dev/null
docker rmi -f dkapp:latest dkapp:test dkapp:stdin dkapp:tar dkapp:f | sed 's/sha256.*/ID/' | sort | uniq -c
docker rmi -f dkapp:1.2.3 >/dev/null
docker rmi nosuch; echo "code $?"
docker history --format '{{.CreatedBy}}' busybox | head -2
docker history -q busybox | wc -l
docker image inspect nosuch; echo "code $?"
docker save nosuch -o x.tar; echo "code $?"
docker load -i nosuch.tar; echo "code $?"
echo garbage | docker load; echo "code $?"
