//! Container names: each is a symbolic link below `containers/.names/` whose
//! text is the owner's id and who made it. A link is made as a whole or not at
//! all, so two commands can never give one name twice, and none is half written.

use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use umiak_base::ProcessRef;

use super::Roots;
use super::roots::make_dir;

fn path(roots: &Roots, name: &str) -> PathBuf {
    roots.containers().join(".names").join(name)
}

/// Docker's rule: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, at most 255 bytes (a file name).
pub fn check(name: &str) -> Result<()> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !first || name.len() < 2 || name.len() > 255 || !name.bytes().all(legal) {
        bail!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    }
    Ok(())
}

/// The id of the container that has `name`.
pub fn owner(roots: &Roots, name: &str) -> Result<Option<String>> {
    if check(name).is_err() {
        return Ok(None);
    }
    let path = path(roots, name);
    match std::fs::read_link(&path) {
        Ok(text) => Ok(text.to_string_lossy().split_ascii_whitespace().next().map(str::to_owned)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Whether the command that took a name is still at work on its container.
fn being_made(roots: &Roots, name: &str) -> bool {
    let text = std::fs::read_link(path(roots, name)).unwrap_or_default();
    let text = text.to_string_lossy();
    let mut fields = text.split_ascii_whitespace().skip(1);
    let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok());
    match (number().and_then(|pid| u32::try_from(pid).ok()), number()) {
        (Some(pid), Some(start_time)) => ProcessRef { pid, start_time }.alive(),
        _ => false,
    }
}

/// Takes `name` for container `id`. A name whose container no longer exists is taken over.
pub fn take(roots: &Roots, name: &str, id: &str) -> Result<()> {
    check(name)?;
    let path = path(roots, name);
    make_dir(&roots.containers().join(".names"))?;
    let start = ProcessRef::of(std::process::id()).map_or(0, |me| me.start_time);
    for _ in 0..2 {
        match symlink(format!("{id} {} {start}", std::process::id()), &path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let owner = owner(roots, name)?.unwrap_or_default();
                let complete = owner.len() == 64 && roots.container(&owner).join("config.json").exists();
                if owner != id && (complete || being_made(roots, name)) {
                    bail!(
                        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". \
                         You have to remove (or rename) that container to be able to reuse that name."
                    );
                }
                // An owner without a config was never finished (its command was killed).
                release(roots, name, &owner)?;
            }
            Err(error) => return Err(error).with_context(|| format!("make {}", path.display())),
        }
    }
    bail!("the name {name} is being taken by another command")
}

/// Gives a name back, if it is still the one of container `id`.
pub fn release(roots: &Roots, name: &str, id: &str) -> Result<()> {
    if owner(roots, name)?.is_none_or(|owner| owner != id) {
        return Ok(());
    }
    let path = path(roots, name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Gives back the names that killed commands took for containers which they never finished.
pub fn sweep(roots: &Roots) -> Result<()> {
    let dir = roots.containers().join(".names");
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("list {}", dir.display())),
    };
    let mut seen: std::collections::HashMap<String, String> = std::collections::HashMap::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(id) = owner(roots, &name)? else { continue };
        // A container with two names: a command was killed while it renamed it.
        if let Some(other) = seen.insert(id.clone(), name.clone())
            && let Some(container) = super::Container::load(roots, &id)?
        {
            for name in [other, name.clone()].into_iter().filter(|name| *name != container.config.name) {
                release_being_unused(roots, &name, &id)?;
            }
        }
        if !being_made(roots, &name) && !roots.container(&id).join("config.json").exists() {
            release(roots, &name, &id)?;
        }
    }
    Ok(())
}

fn release_being_unused(roots: &Roots, name: &str, id: &str) -> Result<()> {
    if being_made(roots, name) { Ok(()) } else { release(roots, name, id) }
}

/// A name nobody has, as Docker makes them up: an adjective and a word.
pub fn invent(roots: &Roots) -> Result<String> {
    const FIRST: &[&str] = &[
        "amber", "brave", "brisk", "calm", "clear", "cold", "deep", "early", "fair", "fast", "firm", "fresh", "grand",
        "grey", "keen", "kind", "late", "light", "long", "lucky", "mild", "neat", "new", "north", "quick", "quiet",
        "sharp", "silver", "small", "smooth", "snowy", "steady", "still", "sunny", "swift", "warm", "white", "wide",
    ];
    const SECOND: &[&str] = &[
        "auk", "bay", "bear", "berg", "cape", "cargo", "coast", "cove", "current", "drift", "eider", "fjord", "floe",
        "fox", "gull", "harbour", "hull", "ice", "inlet", "island", "keel", "kelp", "lagoon", "moon", "oar", "orca",
        "paddle", "petrel", "reef", "sail", "seal", "shore", "skerry", "sound", "star", "strait", "tern", "tide",
        "walrus", "wave", "whale", "wind",
    ];
    for attempt in 0..50 {
        let random = umiak_base::id::random_hex(4).context("random bytes")?;
        let number = usize::from_str_radix(&random, 16).unwrap_or(attempt);
        let mut name = format!("{}_{}", FIRST[number % FIRST.len()], SECOND[number / FIRST.len() % SECOND.len()]);
        if attempt > 5 {
            name.push_str(&random[..4]);
        }
        if owner(roots, &name)?.is_none() {
            return Ok(name);
        }
    }
    bail!("no free container name was found; give one with --name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["web-1", "a_b.c", "0a"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", ".names", "a/b", "a b", "a\n"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_has_one_owner_until_its_container_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots { data: dir.path().join("data"), run: dir.path().join("run") };
        roots.prepare().unwrap();
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        take(&roots, "web", &a).unwrap();
        assert!(take(&roots, "web", &b).is_err(), "its maker is alive");
        std::fs::create_dir(roots.container(&a)).unwrap();
        std::fs::write(roots.container(&a).join("config.json"), "{}").unwrap();
        assert!(take(&roots, "web", &b).unwrap_err().to_string().contains("already in use"));
        std::fs::remove_dir_all(roots.container(&a)).unwrap();
        std::fs::remove_file(path(&roots, "web")).unwrap();
        symlink(format!("{a} 0 0"), path(&roots, "web")).unwrap();
        take(&roots, "web", &b).unwrap();
        assert_eq!(owner(&roots, "web").unwrap(), Some(b));
    }
}
