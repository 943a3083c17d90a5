#!/bin/sh
# Runs what lies in /docker-entrypoint.d before nginx starts, then the command.
set -e

log() { [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$0: $*"; }

case $1 in
  nginx | nginx-debug)
    if [ -n "$(find /docker-entrypoint.d/ -mindepth 1 -maxdepth 1 -type f -print -quit 2>/dev/null)" ]; then
      log "/docker-entrypoint.d/ is not empty, will attempt to perform configuration"
      log "Looking for shell scripts in /docker-entrypoint.d/"
      for f in $(find /docker-entrypoint.d/ -follow -type f | sort -V); do
        case $f in
          *.envsh)
            if [ -x "$f" ]; then
              log "Sourcing $f"
              # shellcheck source=/dev/null
              . "$f"
            else
              log "Ignoring $f, not executable"
            fi ;;
          *.sh)
            if [ -x "$f" ]; then
              log "Launching $f"
              "$f"
            else
              log "Ignoring $f, not executable"
            fi ;;
          *) log "Ignoring $f" ;;
        esac
      done
      log "Configuration complete; ready for start up"
    else
      log "No files found in /docker-entrypoint.d/, skipping configuration"
    fi ;;
esac

exec "$@"
