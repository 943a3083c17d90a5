# shellcheck shell=bash disable=SC2034,SC2154
# busybox: every applet a hard link in /bin, as the official image has it.
layers=(rootfs)
tags=(latest 1 1.35 1.36 1.36.1 1.37 stable musl glibc uclibc)
config='.config.Cmd=["sh"]'

layer_rootfs() {
  local path
  mkdir -p "$root"/{bin,dev,etc,home,lib,root,sys,proc,tmp,usr/bin,usr/sbin,var/spool/mail,var/www}
  chmod 1777 "$root/tmp" && chmod 700 "$root/root"
  install -m 755 "$(busybox_static)" "$root/bin/busybox"
  busybox_static_links | while read -r path; do
    [ "${path##*/}" = busybox ] || ln -f "$root/bin/busybox" "$root/bin/${path##*/}"
  done
  ln -s ../../bin/env "$root/usr/bin/env"
  accounts "$root"
}

# accounts ROOT: the users and groups that busybox and alpine images know.
accounts() {
  cat >"$1/etc/passwd" <<'EOT'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
EOT
  cat >"$1/etc/group" <<'EOT'
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
lp:x:7:
mail:x:8:
wheel:x:10:root
utmp:x:43:
www-data:x:33:
staff:x:50:
users:x:100:
nogroup:x:65534:
EOT
  sed 's/^\([^:]*\):.*/\1:*:19000:0:99999:7:::/' "$1/etc/passwd" >"$1/etc/shadow"
  chmod 640 "$1/etc/shadow"
  echo 'hosts: files dns' >"$1/etc/nsswitch.conf"
}
