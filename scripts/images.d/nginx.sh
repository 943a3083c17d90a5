# shellcheck shell=bash disable=SC2034,SC2154
# nginx: serves /usr/share/nginx/html, logs to stdout and stderr.
from=debian
layers=(packages files)
tags=(latest 1 1.22 1.25 1.26 1.27 stable mainline bookworm stable-bookworm)
alpine_tags=(alpine 1-alpine 1.25-alpine 1.26-alpine 1.27-alpine stable-alpine mainline-alpine alpine-slim 1.25-alpine-slim)
config='.config.Env += ["NGINX_VERSION=1.22.1","PKG_RELEASE=1~bookworm"] | .config.Entrypoint=["/docker-entrypoint.sh"]
  | .config.Cmd=["nginx","-g","daemon off;"] | .config.ExposedPorts={"80/tcp":{}} | .config.StopSignal="SIGQUIT"
  | .config.Labels={maintainer:"umiak stand-in"}'

layer_packages() {
  in_root groupadd --system --gid 101 nginx
  in_root useradd --system --gid nginx --no-create-home --home-dir /nonexistent --comment 'nginx user' --shell /bin/false --uid 101 nginx
  install_packages nginx gettext-base curl ca-certificates tzdata
  rm -rf "$root"/etc/nginx/{sites-available,sites-enabled,snippets,modules-available,modules-enabled,conf.d,nginx.conf} \
    "$root/var/www" "$root/etc/logrotate.d/nginx" "$root"/var/log/nginx/*
  ln -sfn /usr/lib/nginx/modules "$root/etc/nginx/modules"
}

layer_files() {
  local d=$recipes/nginx
  install -D -m 755 "$d/docker-entrypoint.sh" "$root/docker-entrypoint.sh"
  mkdir -p "$root/docker-entrypoint.d"
  install -m 755 "$d"/docker-entrypoint.d/* "$root/docker-entrypoint.d/"
  install -D -m 644 "$d/nginx.conf" "$root/etc/nginx/nginx.conf"
  install -D -m 644 "$d/default.conf" "$root/etc/nginx/conf.d/default.conf"
  install -D -m 644 -t "$root/usr/share/nginx/html" "$d/index.html" "$d/50x.html"
  (cd "$d" && sha256sum default.conf | sed "s, default.conf, /etc/nginx/conf.d/default.conf,") >"$root/usr/share/nginx/default.conf.sha256"
  ln -sf /dev/stdout "$root/var/log/nginx/access.log"
  ln -sf /dev/stderr "$root/var/log/nginx/error.log"
}
