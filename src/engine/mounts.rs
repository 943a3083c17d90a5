//! The short forms of mounts, shared by flags and Compose files. Pure.

use std::path::Path;

use anyhow::{Result, bail};
use umiak_runtime::config::{Bind, Mount, MountKind, Propagation, Recursive, Tmpfs, Volume};

/// `[SOURCE:]TARGET[:OPTIONS]`, already split.
pub fn short(source: Option<&str>, target: &str, options: &[&str]) -> Result<Mount> {
    if !target.starts_with('/') {
        bail!("invalid volume specification: the mount path '{target}' must be absolute");
    }
    let (mut read_only, mut nocopy, mut selinux, mut spread) = (false, false, None, Propagation::default());
    for option in options {
        match *option {
            "ro" => read_only = true,
            "rw" | "" | "cached" | "delegated" | "consistent" => read_only = false,
            "nocopy" => nocopy = true,
            "z" | "Z" => selinux = option.chars().next(),
            other => spread = propagation(other)?,
        }
    }
    let kind = match source {
        Some(path) if path.starts_with(['/', '.', '~']) => {
            let expanded = match (path.strip_prefix('~'), std::env::var_os("HOME")) {
                (Some(rest), Some(home)) => format!("{}{rest}", home.to_string_lossy()),
                _ => path.to_owned(),
            };
            let source = std::path::absolute(expanded)?;
            MountKind::Bind(Bind { source, create_missing: true, propagation: spread, selinux, ..Bind::default() })
        }
        name => {
            let name = name.unwrap_or_default();
            if !name.is_empty() {
                super::volume::check_name(name)?;
            }
            MountKind::Volume(Volume { name: name.to_owned(), nocopy, ..Volume::default() })
        }
    };
    Ok(Mount { target: target.to_owned(), kind, read_only })
}

/// `PATH[:OPTIONS]` of a tmpfs.
pub fn tmpfs(text: &str) -> Result<Mount> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    if !target.starts_with('/') {
        bail!("invalid tmpfs '{text}': the mount path must be absolute");
    }
    let (mut tmpfs, mut read_only) = (Tmpfs::default(), false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let wrong = || anyhow::anyhow!("invalid tmpfs option '{option}' in '{text}'");
        match key {
            "size" => tmpfs.size = crate::ui::human::parse_size(value).ok_or_else(wrong)?,
            "mode" => tmpfs.mode = Some(u32::from_str_radix(value, 8).map_err(|_| wrong())?),
            "uid" => tmpfs.uid = Some(value.parse().map_err(|_| wrong())?),
            "gid" => tmpfs.gid = Some(value.parse().map_err(|_| wrong())?),
            "ro" => read_only = true,
            "rw" => read_only = false,
            "exec" | "noexec" | "suid" | "nosuid" | "dev" | "nodev" | "nr_inodes" | "nr_blocks" | "noatime"
            | "huge" => {
                tmpfs.options.push(option.to_owned());
            }
            _ => return Err(wrong()),
        }
    }
    Ok(Mount { target: target.to_owned(), kind: MountKind::Tmpfs(tmpfs), read_only })
}

/// A propagation by name.
pub fn propagation(text: &str) -> Result<Propagation> {
    Ok(match text {
        "private" => Propagation::Private,
        "rprivate" => Propagation::Rprivate,
        "shared" => Propagation::Shared,
        "rshared" => Propagation::Rshared,
        "slave" => Propagation::Slave,
        "rslave" => Propagation::Rslave,
        _ => bail!("invalid mount mode: {text}"),
    })
}

/// `bind.recursive` by name.
pub fn recursive(text: &str) -> Result<Recursive> {
    Ok(match text {
        "enabled" => Recursive::Enabled,
        "disabled" => Recursive::Disabled,
        "writable" => Recursive::Writable,
        "readonly" => Recursive::Readonly,
        _ => bail!("invalid value for bind.recursive: {text}"),
    })
}

/// Where Docker's daemon listens.
pub fn is_docker_socket(path: &Path) -> bool {
    ["/var/run/docker.sock", "/run/docker.sock"].iter().any(|socket| path == Path::new(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_path_a_name_or_nothing() {
        let kind = |source| short(source, "/t", &["ro"]).unwrap();
        assert!(matches!(kind(Some("/srv")).kind, MountKind::Bind(bind) if bind.create_missing));
        assert!(matches!(kind(Some("data")).kind, MountKind::Volume(volume) if volume.name == "data"));
        assert!(matches!(kind(None).kind, MountKind::Volume(volume) if volume.name.is_empty()));
        assert!(kind(None).read_only);
        assert!(short(Some("data"), "t", &[]).is_err());
        assert!(short(Some("data"), "/t", &["nonsense"]).is_err());
        assert!(short(Some("a b"), "/t", &[]).is_err());
    }

    #[test]
    fn tmpfs_options_are_all_understood_or_refused() {
        let mount = tmpfs("/run:size=64m,mode=1770,uid=5,noexec,ro").unwrap();
        let MountKind::Tmpfs(tmpfs_) = mount.kind else { panic!("not a tmpfs") };
        assert_eq!((tmpfs_.size, tmpfs_.mode, tmpfs_.uid), (64 << 20, Some(0o1770), Some(5)));
        assert!(mount.read_only);
        assert!(tmpfs("/run:colour=red").is_err());
        assert!(tmpfs("run").is_err());
    }
}
