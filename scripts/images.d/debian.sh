# shellcheck shell=bash disable=SC2034,SC2154
# debian:bookworm-slim, which the images of Debian packages share as their base.
layers=(debootstrap)
tags=(bookworm-slim bookworm 12-slim 12 12.5-slim stable-slim stable latest bullseye-slim bullseye 11-slim)
config='.config.Cmd=["bash"]'

layer_debootstrap() {
  local mirror security
  mirror=$(debian_mirror)
  debootstrap --variant=minbase bookworm "$root" "$mirror"
  # shellcheck disable=SC2016
  security=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | sed -n '\|debian-security|{p;q}')
  cat >"$root/etc/apt/sources.list" <<LIST
deb $mirror bookworm main
deb $mirror bookworm-updates main
deb ${security:-http://deb.debian.org/debian-security/} bookworm-security main
LIST
  # as in the official image: no services, no recommends' documentation
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
  cat >"$root/etc/dpkg/dpkg.cfg.d/docker" <<'CFG'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/groff/*
path-exclude /usr/share/info/*
path-exclude /usr/share/linda/*
path-exclude /usr/share/lintian/*
path-exclude /usr/share/locale/*
path-include /usr/share/locale/locale.alias
path-exclude /usr/share/man/*
force-unsafe-io
CFG
  cat >"$root/etc/apt/apt.conf.d/docker-clean" <<'CFG'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
CFG
  find "$root/usr/share/doc" -mindepth 1 ! -type d ! -name copyright -delete
  find "$root/usr/share/doc" -mindepth 1 -type d -empty -delete
  rm -rf "$root"/usr/share/man/* "$root"/usr/share/info/* "$root"/usr/share/groff/* "$root"/usr/share/lintian/*
  find "$root/usr/share/locale" -mindepth 1 ! -name locale.alias -delete
  rm -rf "${root:?}"/dev/* "$root"/var/log/bootstrap.log
  : >"$root/etc/resolv.conf"
  echo localhost >"$root/etc/hostname"
  # Behind a company's proxy its authority has to be known inside as well, also
  # after update-ca-certificates.
  mkdir -p "$root/etc/ssl/certs" "$root/usr/local/share/ca-certificates"
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  find /usr/local/share/ca-certificates -name '*.crt' -exec cp -L {} "$root/usr/local/share/ca-certificates/" \; 2>/dev/null || true
}
