# shellcheck shell=bash disable=SC2034,SC2154
# A large image for the pull benchmark: about 95 MB of gzip in three layers, 210
# MB and 7,000 files unpacked; programs, many small modules, and data that does
# not compress.
from=debian
repository=umiak/bench-large
layers=(packages data)
tags=(latest)
config='.config.Cmd=["bash"]'

layer_packages() { install_packages perl python3; }

# The same bytes each time: the key stream of a cipher.
layer_data() {
  mkdir -p "$root/srv/data"
  local i
  for i in $(seq 36); do
    head -c 1048576 /dev/zero | openssl enc -aes-128-ctr -nosalt -K "$(printf %032x "$i")" -iv "$(printf %032x 0)" >"$root/srv/data/$i.bin"
  done
}
