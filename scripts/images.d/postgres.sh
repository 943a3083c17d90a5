# shellcheck shell=bash disable=SC2034,SC2154
# postgres: the server of Debian 12 (version 15) under all tags.
from=debian
layers=(packages files)
tags=(15 15-bookworm 12 13 14 16 17 latest bookworm 15.3)
alpine_tags=(15-alpine 16-alpine 17-alpine 14-alpine 13-alpine 12-alpine alpine)
config='.config.Env |= ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin","LANG=en_US.utf8","PG_MAJOR=15","PGDATA=/var/lib/postgresql/data"]
  | .config.Entrypoint=["docker-entrypoint.sh"] | .config.Cmd=["postgres"] | .config.StopSignal="SIGINT"
  | .config.Volumes={"/var/lib/postgresql/data":{}} | .config.ExposedPorts={"5432/tcp":{}}'

layer_packages() {
  in_root groupadd -r --gid=999 postgres
  in_root useradd -r -g postgres --uid=999 --home-dir=/var/lib/postgresql --shell=/bin/bash postgres
  in_root install --directory --mode=1777 --owner=postgres --group=postgres /var/lib/postgresql
  mkdir -p "$root/etc/postgresql-common"
  echo 'create_main_cluster = false' >"$root/etc/postgresql-common/createcluster.conf"
  install_packages locales libnss-wrapper xz-utils zstd postgresql-15
  in_root localedef -i en_US -c -f UTF-8 -A /usr/share/locale/locale.alias en_US.UTF-8
  # Just-in-time compilation is left out: it is half of the image, and the server
  # does without it when the provider's library is not there.
  rm -rf "$root"/usr/lib/*/libLLVM-* "$root"/usr/lib/llvm-* "$root/usr/lib/postgresql/15/lib/llvmjit.so" \
    "$root/usr/lib/postgresql/15/lib/bitcode" "$root/usr/share/i18n"
  sed -ri "s!^#?(listen_addresses)\s*=\s*\S+.*!\1 = '*'!" "$root/usr/share/postgresql/15/postgresql.conf.sample"
  rm -rf "$root/var/lib/postgresql/15" "$root/etc/postgresql"
  in_root install --directory --mode=1777 --owner=postgres --group=postgres /var/lib/postgresql/data
  in_root install --directory --mode=3777 --owner=postgres --group=postgres /var/run/postgresql
}

layer_files() {
  install -D -m 755 "$recipes/postgres/docker-entrypoint.sh" "$root/usr/local/bin/docker-entrypoint.sh"
  mkdir -p "$root/docker-entrypoint-initdb.d"
}
