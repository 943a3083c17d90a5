#!/bin/bash
# A project in a pipeline: waits, executes, runs once, copies, scales, and takes it all down.
set -u
cd $(mktemp -d); export COMPOSE_PROJECT_NAME=dkcmp
cat > .env <<D
TAG=latest
GREETING=from dotenv
D
cat > app.env <<'D'
A=1
B="two words"
D
cat > docker-compose.yml <<'D'
services:
  app:
    image: busybox:${TAG}
    init: true
    command: sleep 1000
    env_file: app.env
    environment:
      GREETING: ${GREETING}
    healthcheck:
      test: ["CMD", "true"]
      interval: 500ms
      timeout: 10s
  job:
    image: busybox
    profiles: [tools]
    command: echo job ran
    depends_on: {app: {condition: service_healthy}}
D
cat > docker-compose.override.yml <<'D'
services:
  app:
    environment: {OVERRIDE: "yes"}
    volumes: [data:/data]
volumes: {data: {}}
D
docker compose up -d --wait 2>/dev/null; echo "code $?"
docker compose exec -T app sh -c 'echo "$A $B $GREETING $OVERRIDE"'
echo 'echo from stdin; exit 5' | docker compose exec -T app sh; echo "code $?"
docker compose exec -T app sh <<'S'
echo heredoc > /data/f
cat /data/f
S
docker compose exec -T -e X=y -w /data -u 1000 app sh -c 'echo $X $(pwd) $(id -u)'
docker compose run --rm -T job 2>/dev/null; echo "code $?"
docker compose run --rm -T app sh -c 'cat /data/f; exit 7' 2>/dev/null; echo "code $?"
echo piped | docker compose run --rm -T app cat 2>/dev/null
docker compose run --rm -T -e K=v -v "$PWD:/w" -w /w --entrypoint ls app docker-compose.yml 2>/dev/null
docker compose ps --status running -q | wc -l
docker compose ps --format '{{.Name}} {{.Health}}'
docker compose cp docker-compose.yml app:/tmp/x.yml 2>/dev/null; docker compose exec -T app ls /tmp
docker compose cp app:/data/f got 2>/dev/null; cat got
docker compose top app | awk 'NR<=2{print $1}' 
docker compose port app 80; echo "code $?"
docker compose config --format json | jq -c '.services.app.environment'
docker compose -f docker-compose.yml config --services
docker compose --profile tools config --services | sort
docker compose --env-file /dev/null config 2>/dev/null | grep image
TAG=1.36 docker compose config | grep image:
docker compose kill app 2>/dev/null; echo "code $?"
docker compose ps -a --format '{{.Name}} {{.State}}'
docker compose up -d --scale app=2 2>/dev/null; docker compose ps --format '{{.Name}}' | sort
docker compose ls --filter name=dkcmp --format json | jq -c '.[0]|[.Name,.Status]'
docker compose ls -q | grep dkcmp
docker compose logs --tail 1 app; echo "code $?"
docker compose pause app 2>/dev/null; docker compose ps --format '{{.State}}'| sort -u; docker compose unpause app 2>/dev/null
docker compose rm -fsv app >/dev/null 2>&1; docker compose ps -aq | wc -l
docker compose exec -T app true; echo "code $?"
docker compose up nosuch; echo "code $?"
docker compose down -v --remove-orphans 2>/dev/null; echo "code $?"
docker volume ls -q --filter name=dkcmp; docker network ls -q --filter name=dkcmp
docker-compose --version | cut -d' ' -f1-3
docker compose version --short | cut -d. -f1
