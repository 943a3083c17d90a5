# shellcheck shell=bash disable=SC2034,SC2154
# redis: the server in /usr/local/bin, data in the volume /data, user redis.
from=debian
layers=(packages files)
tags=(7 7.0 7.2 7-bookworm 6 6.2 5 latest bookworm)
alpine_tags=(7-alpine 7.0-alpine 7.2-alpine 7.4-alpine 6-alpine 6.2-alpine 5-alpine alpine 4.0.11-alpine)
docker_format=1
config='.config.Env += ["REDIS_VERSION=7.0.15"] | .config.Entrypoint=["docker-entrypoint.sh"] | .config.Cmd=["redis-server"]
  | .config.WorkingDir="/data" | .config.Volumes={"/data":{}} | .config.ExposedPorts={"6379/tcp":{}}'

layer_packages() {
  in_root groupadd -r -g 999 redis
  in_root useradd -r -g redis -u 999 redis
  install_packages redis-server
  local f
  for f in redis-check-rdb redis-benchmark redis-cli; do mv "$root/usr/bin/$f" "$root/usr/local/bin/"; done
  for f in redis-server redis-sentinel redis-check-aof; do
    ln -s redis-check-rdb "$root/usr/local/bin/$f"
    rm -f "$root/usr/bin/$f"
  done
  mkdir "$root/data" && in_root chown redis:redis /data
  rm -rf "$root/etc/redis" "$root/var/lib/redis" "$root/var/log/redis"
}

layer_files() { install -D -m 755 "$recipes/redis/docker-entrypoint.sh" "$root/usr/local/bin/docker-entrypoint.sh"; }
