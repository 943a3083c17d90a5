//! Takes out of a layer what a start has made in it for its own mounts, and
//! nobody has put anything in (CVE-2024-23652: only by descriptor, and only
//! what is still as it was made).

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::tree::{beneath, clean, is};

/// What is found of a name in the layers below.
enum Below {
    /// Nothing.
    Nothing,
    /// This.
    There(Stat),
    /// It cannot be told without following symlinks: nothing is touched then.
    Unknown,
}

/// Removes mount points at `targets` (absolute) and their parents from `upper`, where `layers` (topmost first) do not
/// have them; and parents that were only touched for them.
pub fn mount_points(upper: &std::path::Path, layers: &[PathBuf], targets: &[String]) -> Result<()> {
    let open = |path: &std::path::Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("open {}", path.display()))
    };
    let upper = match open(upper) {
        Ok(upper) => upper,
        // Nothing was started.
        Err(_) if !upper.exists() => return Ok(()),
        Err(error) => return Err(error),
    };
    let layers: Vec<OwnedFd> = layers.iter().map(|path| open(path)).collect::<Result<_>>()?;
    let mut names: Vec<Vec<String>> = Vec::new();
    for target in targets {
        let parts = clean(target);
        for length in 1..=parts.len() {
            names.push(parts[..length].to_vec());
        }
    }
    // The deepest first.
    names.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    names.dedup();
    for name in &names {
        remove(&upper, &layers, name)?;
    }
    Ok(())
}

fn remove(upper: &OwnedFd, layers: &[OwnedFd], name: &[String]) -> Result<()> {
    let Some((last, parents)) = name.split_last() else { return Ok(()) };
    let parent = if parents.is_empty() { ".".to_owned() } else { parents.join("/") };
    let Ok(parent) = beneath(upper, parent.as_bytes(), OFlags::PATH | OFlags::DIRECTORY) else { return Ok(()) };
    let Ok(stat) = rustix::fs::statat(&parent, last.as_str(), AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
    let below = below(layers, name);
    let flags = match (FileType::from_raw_mode(stat.st_mode), below) {
        (FileType::Directory, Below::Nothing) => AtFlags::REMOVEDIR,
        // Copied up for a mount point that is gone: what is below shows again.
        (FileType::Directory, Below::There(below)) if same(&stat, &below) && !is_opaque(upper, name) => {
            AtFlags::REMOVEDIR
        }
        (FileType::RegularFile, Below::Nothing) if stat.st_size == 0 && stat.st_nlink == 1 => AtFlags::empty(),
        _ => return Ok(()),
    };
    match rustix::fs::unlinkat(&parent, last.as_str(), flags) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("remove the mount point /{}", name.join("/"))),
    }
}

fn same(a: &Stat, b: &Stat) -> bool {
    (a.st_mode, a.st_uid, a.st_gid) == (b.st_mode, b.st_uid, b.st_gid)
}

fn is_opaque(root: &OwnedFd, name: &[String]) -> bool {
    let fd = beneath(root, name.join("/").as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY);
    fd.is_ok_and(|fd| rustix::fs::fgetxattr(fd, "trusted.overlay.opaque", &mut [0_u8; 8]).is_ok())
}

fn below(layers: &[OwnedFd], name: &[String]) -> Below {
    for layer in layers {
        for length in 1..=name.len() {
            let path = name[..length].join("/");
            let place = match beneath(layer, path.as_bytes(), OFlags::PATH | OFlags::NOFOLLOW) {
                Ok(place) => place,
                Err(Errno::NOENT) if length > 1 && is_opaque(layer, &name[..length - 1]) => return Below::Nothing,
                Err(Errno::NOENT) => break,
                Err(_) => return Below::Unknown,
            };
            let Ok(stat) = rustix::fs::fstat(&place) else { return Below::Unknown };
            if is(&stat, FileType::CharacterDevice) && stat.st_rdev == 0 {
                return Below::Nothing;
            }
            if length == name.len() {
                return Below::There(stat);
            }
            if !is(&stat, FileType::Directory) {
                return Below::Unknown;
            }
        }
    }
    Below::Nothing
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_what_was_made_and_is_empty_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        fs::create_dir_all(lower.join("etc/there")).unwrap();
        for made in ["dev/pts", "proc", "etc/there", "cache/full", "cache/empty"] {
            fs::create_dir_all(upper.join(made)).unwrap();
        }
        fs::write(upper.join("cache/full/x"), "1").unwrap();
        fs::write(upper.join("etc/hosts"), "").unwrap();
        fs::write(upper.join("etc/hostname"), "kept").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", upper.join("link")).unwrap();
        let targets = ["/dev/pts", "/proc", "/cache/full", "/cache/empty", "/etc/hosts", "/etc/hostname", "/link"];
        mount_points(&upper, &[lower], &targets.map(str::to_owned)).unwrap();
        let there = |path: &str| upper.join(path).symlink_metadata().is_ok();
        assert!(!there("dev") && !there("proc") && !there("cache/empty") && !there("etc/hosts"));
        assert!(there("cache/full/x") && there("etc/hostname") && there("link") && there("etc/there"));
    }
}
