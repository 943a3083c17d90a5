# shellcheck shell=bash disable=SC2034,SC2154
# A large image for the pull benchmark: compilers and interpreters of Debian.
from=debian
repository=umiak/bench-large
layers=(packages)
tags=(latest)
config='.config.Cmd=["bash"]'

layer_packages() {
  install_packages gcc g++ perl python3 git
}
