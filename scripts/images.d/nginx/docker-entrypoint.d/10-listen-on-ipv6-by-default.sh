#!/bin/sh
# Adds an IPv6 listener to the default site, if that is still the one shipped.
set -e
site=/etc/nginx/conf.d/default.conf
me=${0##*/}
log() { [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$me: $*"; }

[ -f /proc/net/if_inet6 ] || { log "info: ipv6 not available"; exit 0; }
[ -f $site ] || { log "info: /${site#/} is not a file or does not exist"; exit 0; }
touch $site 2>/dev/null || { log "info: can not modify $site (read-only file system?)"; exit 0; }
! grep -q 'listen *\[::\]:80;' $site || { log "info: IPv6 listen already enabled"; exit 0; }
sha256sum -c --status /usr/share/nginx/default.conf.sha256 2>/dev/null || { log "info: $site differs from the packaged version"; exit 0; }
sed -i 's,listen  *80;,listen       80;\n    listen  [::]:80;,' $site
log "info: Enabled listen on IPv6 in $site"
