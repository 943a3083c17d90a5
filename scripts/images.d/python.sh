# shellcheck shell=bash disable=SC2034,SC2154
# python: Debian's Python 3.11 moved to the official image's places, where no
# Debian package looks: /usr/local/bin, /usr/local/lib/python3.11/site-packages.
from=debian
layers=(libraries interpreter modules)
tags=(3.11 3.11-slim 3.11-slim-bookworm 3.11-slim-bullseye 3.11-bookworm 3 3-slim slim latest slim-bookworm
  3.8 3.8-slim 3.9 3.9-slim 3.10 3.10-slim 3.12 3.12-slim 3.13 3.13-slim)
alpine_tags=(alpine 3-alpine 3.7-alpine 3.7.0-alpine3.8 3.8-alpine 3.9-alpine 3.10-alpine 3.11-alpine 3.12-alpine 3.13-alpine)
config='.config.Env |= ["PATH=/usr/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","LANG=C.UTF-8","PYTHON_VERSION=3.11.2"] | .config.Cmd=["python3"]'

layer_libraries() {
  install_packages ca-certificates netbase tzdata media-types libbz2-1.0 libdb5.3 libexpat1 libffi8 liblzma5 \
    libncursesw6 libnsl2 libreadline8 libsqlite3-0 libssl3 libtirpc3 libuuid1 zlib1g
}

layer_interpreter() {
  local debs=$root/tmp/debs x=$root/tmp/x lib=$root/usr/local/lib/python3.11
  mkdir -p "$debs" "$x"
  in_root apt-get -qq update
  in_root sh -c 'cd /tmp/debs && apt-get -qq -o APT::Sandbox::User=root download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libpython3.11-dev python3.11-venv python3-pip-whl python3-setuptools-whl'
  local d
  for d in "$debs"/*.deb; do dpkg-deb -x "$d" "$x"; done
  cp -a "$x/usr/bin/python3.11" "$root/usr/local/bin/"
  cp -a "$x/usr/lib/python3.11" "$root/usr/local/lib/"
  mkdir -p "$root/usr/local/include"
  cp -a "$x/usr/include/python3.11" "$root/usr/local/include/"
  cp -a "$x"/usr/include/*-linux-gnu/python3.11/pyconfig.h "$root/usr/local/include/python3.11/"
  rm -rf "$lib"/config-3.11-*/*.a "$lib"/lib2to3 "$lib/sitecustomize.py" "$lib/EXTERNALLY-MANAGED"
  mkdir -p "$lib/site-packages"
  ln -s python3.11 "$root/usr/local/bin/python3"
  ln -s python3.11 "$root/usr/local/bin/python"
  mkdir -p "$root/usr/share" && cp -a "$x/usr/share/python-wheels" "$root/usr/share/"
  python_paths "$lib"
  printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\nroot-user-action = ignore\ndisable-pip-version-check = true\n' >"$root/etc/pip.conf"
  ln -sf /etc/ssl/certs/ca-certificates.crt "$root/usr/lib/ssl/cert.pem"
  # shellcheck disable=SC2016
  in_root sh -ec 'whl=$(ls /tmp/x/usr/share/python-wheels/pip-*.whl) && python3 -B "$whl/pip" install -q --no-index --no-cache-dir "$whl" /tmp/x/usr/share/python-wheels/setuptools-*.whl'
  find "$root/usr/local/lib" -name __pycache__ -prune -exec rm -rf {} +
}

# Debian's own places for packages (dist-packages) give way to the official one.
# `site` is frozen into the interpreter: there, too, by a name of equal length.
python_paths() {
  sed -i "/^def _get_preferred_schemes/,/^def get_/ s/'posix_local'/'posix_prefix'/" "$1/sysconfig.py"
  sed -i 's/dist-packages/site-packages/' "$1/site.py" "$root/usr/local/bin/python3.11"
}

# Compiled, as pip leaves them; with the parts of the library that they use.
layer_modules() {
  in_root pip install -q --no-cache-dir --retries 5 --timeout 60 flask redis psycopg2-binary gunicorn
  in_root python3 -c 'import flask.cli, redis, psycopg2, gunicorn.app.wsgiapp, werkzeug.serving, pip._internal.cli.main'
}
