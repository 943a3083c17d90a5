#!/bin/bash
# A deployment with Compose, and the questions that deployment scripts ask.
set -euo pipefail
work=$(mktemp -d)
cd "$work"
export COMPOSE_PROJECT_NAME=deployment
trap 'docker compose down -v -t 0 >/dev/null 2>&1; rm -rf "$work"' EXIT
cat > compose.yaml <<'YAML'
services:
  web:
    image: nginx:alpine
    ports: ["127.0.0.1:${PORT:-28095}:80"]
    volumes: ["./html:/usr/share/nginx/html:ro"]
    depends_on: [cache]
    labels: { tier: front }
  cache:
    image: redis:7-alpine
    volumes: ["data:/data"]
    environment: { MODE: "${MODE:-plain}" }
volumes:
  data:
YAML
mkdir html; echo "version one" > html/index.html
docker compose config -q && echo "the file is good"
docker compose config --services | sort
docker compose config --images | sort
docker compose config --volumes
docker compose up -d --quiet-pull 2>/dev/null
docker compose ps --services | sort
docker compose ps -q | wc -l
docker compose ps --format '{{.Service}} {{.State}}' | sort
docker compose ps --format json | jq -r '.Name' | sort
[ -n "$(docker compose ps -q web)" ] && echo "web is there"
docker compose port web 80
i=0; until curl -fsS http://127.0.0.1:28095/ 2>/dev/null || [ $i -ge 300 ]; do i=$((i+1)); sleep 0.1; done
until [ "$(docker compose exec -T cache redis-cli ping 2>/dev/null)" = PONG ]; do sleep 0.1; done
docker compose exec -T cache redis-cli set build 42
docker compose exec -T cache sh -c 'echo $MODE'
before=$(docker compose ps -q cache)
MODE=fancy docker compose up -d 2>/dev/null
after=$(docker compose ps -q cache)
[ "$before" != "$after" ] && echo "cache was made anew"
docker compose exec -T cache sh -c 'echo $MODE'
docker ps --filter label=com.docker.compose.project=deployment --format '{{.Names}}' | sort
docker inspect -f '{{index .Config.Labels "com.docker.compose.service"}} {{.Config.Labels.tier}}' deployment-web-1
docker volume ls -q --filter label=com.docker.compose.project=deployment
docker network ls --filter label=com.docker.compose.project=deployment --format '{{.Name}}'
docker compose run --rm -T --no-deps cache sh -c 'echo one-off in $(hostname | wc -c) characters; exit 3' 2>/dev/null || echo "code $?"
docker compose stop web 2>/dev/null
docker compose ps -a --format '{{.Service}} {{.State}} {{.ExitCode}}' | sort
docker compose start web 2>/dev/null
docker compose ls --format json | jq -r '.[] | select(.Name == "deployment") | .Status'
until docker compose logs --no-log-prefix cache 2>/dev/null | grep "Ready to accept" >/dev/null; do sleep 0.1; done
docker compose logs --no-log-prefix cache 2>/dev/null | grep -c "Ready to accept" || true
docker compose exec -T missing true 2>&1 || echo "code $?"
docker compose down 2>/dev/null
docker compose ps -aq | wc -l
docker volume ls -q --filter label=com.docker.compose.project=deployment
