#!/bin/sh
# Fills /etc/nginx/templates/*.template with the environment.
set -e
from=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
to=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}
filter=${NGINX_ENVSUBST_FILTER:-}
me=${0##*/}
log() { [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$me: $*"; }

[ -d "$from" ] || exit 0
[ -w "$to" ] || { log "ERROR: $from exists, but $to is not writable"; exit 0; }
# Only variables that exist are replaced: $host and the like are nginx's own.
# shellcheck disable=SC2016
names=$(awk -v f="$filter" 'BEGIN { for (n in ENVIRON) if (n ~ f) printf "${%s} ", n }')
find "$from" -follow -type f -name "*$suffix" | while read -r t; do
  out=$to/${t#"$from"/}
  out=${out%"$suffix"}
  mkdir -p "$(dirname "$out")"
  log "Running envsubst on $t to $out"
  envsubst "$names" <"$t" >"$out"
done
