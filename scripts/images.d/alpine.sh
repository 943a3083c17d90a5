# shellcheck shell=bash disable=SC2034,SC2154
# alpine: busybox behind symlinks at Alpine's places. There is no apk in it.
# shellcheck source=scripts/images.d/busybox.sh
. "$recipes/busybox.sh"
layers=(rootfs)
tags=(latest 3 3.8 3.16 3.17 3.18 3.19 3.20 3.21 3.22)
config='.config.Cmd=["/bin/sh"]'

layer_rootfs() {
  local path
  mkdir -p "$root"/{bin,dev,etc,home,lib,media,mnt,opt,proc,root,run,sbin,srv,sys,tmp,usr/bin,usr/sbin,usr/lib,usr/local/bin,var/cache,var/lib,var/log,var/spool/mail,var/tmp}
  chmod 1777 "$root/tmp" "$root/var/tmp" && chmod 700 "$root/root"
  install -m 755 "$(busybox_static)" "$root/bin/busybox"
  busybox_static_links | while read -r path; do
    mkdir -p "$root/$(dirname "$path")"
    [ -e "$root/$path" ] || [ -L "$root/$path" ] || ln -s /bin/busybox "$root/$path"
  done
  accounts "$root"
  sed -i '/^mail:/d' "$root/etc/passwd"
  echo 3.20.0 >"$root/etc/alpine-release"
  cat >"$root/etc/os-release" <<'EOT'
NAME="Alpine Linux"
ID=alpine
VERSION_ID=3.20.0
PRETTY_NAME="Alpine Linux v3.20"
HOME_URL="https://alpinelinux.org/"
EOT
  # shellcheck disable=SC2016
  printf 'export PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"\nexport PAGER=less\nPS1='"'"'\\h:\\w\\$ '"'"'\n' >"$root/etc/profile"
  mkdir -p "$root/etc/ssl/certs"
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  ln -s certs/ca-certificates.crt "$root/etc/ssl/cert.pem"
}
