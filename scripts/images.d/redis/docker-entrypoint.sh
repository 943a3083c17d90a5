#!/bin/sh
set -e

# Options alone, or a configuration file, are meant for the server.
case $1 in
  -* | *.conf) set -- redis-server "$@" ;;
esac

if [ "$1" = redis-server ]; then
  # The published port is the only way in, so the server has to answer others
  # than itself; who asks for protected-mode gets it.
  case " $* " in
    *" --protected-mode "* | *" --version "* | *" -v "* | *" --help "* | *" -h "* | *" --test-memory "*) ;;
    *) set -- "$@" --protected-mode no ;;
  esac
  if [ "$(id -u)" = 0 ]; then
    find . ! -user redis -exec chown redis '{}' +
    umask 0077
    exec setpriv --reuid=redis --regid=redis --init-groups -- "$@"
  fi
  umask 0077
fi

exec "$@"
