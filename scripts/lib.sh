# shellcheck shell=bash disable=SC2034
# Shared by the scripts in this directory; sourced, never run.
#
#   need_root "$@"      go on through sudo when not root
#   apt_install PKG...  install what is missing (one `apt-get update` at most)
#   as_owner CMD...     run CMD as the owner of this checkout
#   need_rust           cargo >= the workspace's MSRV, as the owner of the checkout
#   build_release       build the release binary; prints its path
#   leftovers           print what umiak has left on this host

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
arch=$(dpkg --print-architecture)

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Settings and proxies that must survive sudo.
kept_env=PEERS,RUNS,MANY,SYSTEMS,PORT,VM_MEMORY,VM_CPUS,VM_TIMEOUT,UMIAK_CACHE,UMIAK_REGISTRY,UMIAK_BIN,UMIAK_ROOT,UMIAK_RUN_ROOT,UMIAK_MUST_RUN,UMIAK_REGISTRIES,DEBIAN_MIRROR
kept_env+=,CARGO_HOME,RUSTUP_HOME,CARGO_TARGET_DIR,http_proxy,https_proxy,no_proxy,HTTP_PROXY,HTTPS_PROXY,NO_PROXY

need_root() {
  [ "$(id -u)" -eq 0 ] && return
  command -v sudo >/dev/null || die "must run as root (sudo is not installed: use \`su -c '$0 $*'\`)"
  exec sudo --preserve-env="$kept_env" -- "$0" "$@"
}

# Services of packages installed here must not start: the scripts start what
# they need themselves, and stop it again.
apt_install() {
  local missing=() p
  for p; do
    dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
  done
  [ ${#missing[@]} -eq 0 ] && return
  say "apt-get install ${missing[*]}"
  apt_update
  local policy=/usr/sbin/policy-rc.d made=0 status=0
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    made=1
  fi
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" \
    </dev/null >"${TMPDIR:-/tmp}/umiak-apt.log" 2>&1 || status=$?
  [ "$made" -eq 0 ] || rm -f "$policy"
  [ "$status" -eq 0 ] || { tail -20 "${TMPDIR:-/tmp}/umiak-apt.log" >&2; die "apt-get install ${missing[*]} failed"; }
  rm -f "${TMPDIR:-/tmp}/umiak-apt.log"
}

# One fresh list is enough for an hour.
apt_update() {
  local stamp=/var/cache/apt/pkgcache.bin
  if [ -n "$(ls -A /var/lib/apt/lists 2>/dev/null)" ] && [ -n "$(find "$stamp" -mmin -60 2>/dev/null)" ]; then
    return
  fi
  apt-get -qq update >/dev/null || die "apt-get update failed"
}

# The Debian mirror that this machine's apt uses.
debian_mirror() {
  local m=${DEBIAN_MIRROR:-}
  # shellcheck disable=SC2016
  [ -n "$m" ] || m=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | sed -n '\|/debian/$|{p;q}')
  echo "${m:-http://deb.debian.org/debian/}"
}

msrv() { sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$repo/Cargo.toml"; }

# The checkout and the toolchain are those of the person who cloned it: builds
# run as that user, so that no file in them ever belongs to root.
owner=$(stat -c %U "$repo")
owner_home=$(getent passwd "$owner" | cut -d: -f6)
[ "$owner" = "$(id -un)" ] && owner_home=$HOME
export CARGO_HOME=${CARGO_HOME:-$owner_home/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$owner_home/.rustup}
case ":$PATH:" in *":$CARGO_HOME/bin:"*) ;; *) PATH=$CARGO_HOME/bin:$PATH ;; esac

as_owner() {
  if [ "$owner" = "$(id -un)" ]; then "$@"; else runuser -u "$owner" -- env HOME="$owner_home" PATH="$PATH" "$@"; fi
}

rust_is_new_enough() {
  local have
  have=$(cd "$repo" && as_owner cargo --version 2>/dev/null | awk '{print $2}') || return 1
  [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$(msrv)" "${have%%-*}" | sort -V | head -1)" = "$(msrv)" ]
}

need_rust() {
  apt_install curl ca-certificates gcc libc6-dev musl-tools
  rust_is_new_enough && return
  if as_owner rustup --version >/dev/null 2>&1; then
    say "the Rust toolchain is older than $(msrv): installing the stable one"
    as_owner rustup -q toolchain install stable --profile minimal -c rustfmt -c clippy >&2 || die "rustup could not install the stable toolchain"
    export RUSTUP_TOOLCHAIN=stable
  else
    say "installing Rust through rustup"
    local init
    init=$(as_owner mktemp -d)
    # the script's own address, or else the program that it would fetch
    { curl -fsSL -o "$init/rustup-init" https://sh.rustup.rs \
      || curl -fsSL -o "$init/rustup-init" "https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu/rustup-init"; } \
      || die "rustup cannot be fetched from https://sh.rustup.rs: install cargo $(msrv) or newer by other means"
    chmod 755 "$init/rustup-init"
    as_owner "$init/rustup-init" -q -y --profile minimal -c rustfmt -c clippy --no-modify-path >&2 || die "rustup could not install Rust"
    rm -rf "$init"
  fi
  rust_is_new_enough || die "cargo $(msrv) or newer is needed, found: $(as_owner cargo --version 2>&1)"
}

# musl where the target can be had, else a static glibc build: both run on any
# host without libraries, the first is smaller.
release_target() {
  local musl gnu
  musl=$(uname -m)-unknown-linux-musl gnu=$(uname -m)-unknown-linux-gnu
  if [ -d "$(as_owner rustc --print sysroot)/lib/rustlib/$musl/lib" ] || as_owner rustup -q target add "$musl" >/dev/null 2>&1; then
    echo "$musl"
  else
    echo "$gnu"
  fi
}

build_release() {
  need_rust
  local target dir flags=()
  target=$(release_target)
  dir=${CARGO_TARGET_DIR:-$repo/target}
  say "building the release binary for $target"
  case $target in
    *-gnu) flags=(RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static") ;;
    *) flags=("CC_${target//-/_}=musl-gcc") ;;
  esac
  (cd "$repo" && as_owner env "${flags[@]}" cargo build -q --release --locked --bin umiak --target "$target") >&2 \
    || die "the release build failed"
  echo "$dir/$target/release/umiak"
}

# What must not be there once everything is down. Nothing is changed.
leftovers() {
  grep -n ' /[^ ]*umiak' /proc/self/mountinfo | grep -v "$repo" | sed 's/^/mount: /' || true
  ip -o -d link 2>/dev/null | grep -i 'alias umiak' | sed 's/^/link: /' || true
  nft list tables 2>/dev/null | grep -w 'umiak[_a-z]*' | sed 's/^/nft: /' || true
  find /sys/fs/cgroup -maxdepth 3 -type d -name umiak 2>/dev/null | sed 's/^/cgroup: /' || true
  local p
  for p in /proc/[0-9]*; do
    [[ "$(cat "$p/comm" 2>/dev/null)" == umiak* ]] || continue
    # A zombie has ended; it waits for the init process to take note.
    ! grep -q '^State:.Z' "$p/status" 2>/dev/null || continue
    echo "process: ${p#/proc/} $(tr '\0' ' ' <"$p/cmdline" 2>/dev/null)"
  done
}

# The port of the registry is the one that the documentation names.
# UMIAK_REGISTRY is for a second one beside it.
registry=${UMIAK_REGISTRY:-127.0.0.1:5000}
cache=${UMIAK_CACHE:-/var/cache/umiak-images}
