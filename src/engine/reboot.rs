//! What a reboot leaves of the run root where that is on a disk: pins of
//! namespaces that are gone, sockets without a listener, names of containers
//! that do not run. The first command of a boot clears it away; on a tmpfs there
//! is nothing to clear.

use std::path::Path;

use anyhow::{Context as _, Result};
use umiak_base::{FileLock, state};
use umiak_netns::namespace;

use super::Roots;
use super::container::{self, State};

/// The boot that the run root speaks of.
const MARKER: &str = "boot-id";
/// What speaks of things that run. Locks are the kernel's, and events are history.
const VOLATILE: [&str; 3] = ["containers", "dns", "state"];
/// How settings of the host were in that boot.
const SETTINGS: &str = "sysctls.json";

/// Clears away what is of another boot, unless a command of this one has done so.
pub fn forget_last_boot(roots: &Roots) -> Result<()> {
    let boot = umiak_base::process::boot_id().context("read the boot id")?;
    let marker = roots.run.join(MARKER);
    if marked(&marker).as_deref() == Some(&boot) {
        return Ok(());
    }
    let _lock = FileLock::exclusive(&roots.lock("boot"))?;
    let seen = marked(&marker);
    if seen.as_deref() == Some(&boot) {
        return Ok(());
    }
    // Without a marker it may be of this boot, and of a version that wrote none.
    if seen.is_some() || !something_is_up(roots, &boot)? {
        clear(roots)?;
    }
    state::write_bytes(&marker, boot.as_bytes(), 0o600).with_context(|| format!("write {}", marker.display()))
}

fn marked(marker: &Path) -> Option<String> {
    std::fs::read_to_string(marker).ok().filter(|text| !text.is_empty())
}

fn something_is_up(roots: &Roots, boot: &str) -> Result<bool> {
    let is_up = |id: &String| {
        let state: Option<State> = state::read(&roots.container(id).join("state.json")).ok().flatten();
        state.is_some_and(|state| state.boot_id == boot && state.status.is_up())
    };
    Ok(container::ids(roots)?.iter().any(is_up))
}

fn clear(roots: &Roots) -> Result<()> {
    for pin in entries(&roots.run.join("netns"))? {
        namespace::remove(&pin)?;
    }
    for dir in VOLATILE {
        for entry in entries(&roots.run.join(dir))? {
            let removed = if entry.is_dir() { std::fs::remove_dir_all(&entry) } else { std::fs::remove_file(&entry) };
            removed.with_context(|| format!("remove {}", entry.display()))?;
        }
    }
    match std::fs::remove_file(roots.run.join(SETTINGS)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", roots.run.join(SETTINGS).display()))
        }
        _ => Ok(()),
    }
}

fn entries(dir: &Path) -> Result<Vec<std::path::PathBuf>> {
    let listed = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.with_context(|| format!("list {}", dir.display()))?,
    };
    listed.map(|entry| Ok(entry.with_context(|| format!("list {}", dir.display()))?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::Status;

    fn roots(dir: &Path) -> Roots {
        let roots = Roots { data: dir.join("data"), run: dir.join("run") };
        roots.prepare().unwrap();
        for name in ["containers/x", "dns/x", "state/x"] {
            std::fs::create_dir_all(roots.run.join(name)).unwrap();
        }
        for name in ["netns/x", "containers/x/ctl.sock", "dns/x/y.json", "sysctls.json", "events", "locks/project-x"] {
            std::fs::write(roots.run.join(name), "").unwrap();
        }
        roots
    }

    fn left(roots: &Roots) -> Vec<bool> {
        let there = |name: &str| roots.run.join(name).exists();
        ["netns/x", "containers/x", "dns/x", "state/x", "sysctls.json", "events", "locks/project-x"].map(there).to_vec()
    }

    #[test]
    fn what_is_of_another_boot_goes_and_what_is_of_this_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let roots = roots(dir.path());
        forget_last_boot(&roots).unwrap();
        assert!(left(&roots).iter().all(|there| *there), "it is of this boot");
        std::fs::write(roots.run.join(MARKER), "another").unwrap();
        forget_last_boot(&roots).unwrap();
        assert_eq!(left(&roots), [false, false, false, false, false, true, true]);
        assert_eq!(marked(&roots.run.join(MARKER)), umiak_base::process::boot_id().ok());
    }

    #[test]
    fn without_a_marker_what_runs_decides() {
        let dir = tempfile::tempdir().unwrap();
        let roots = roots(dir.path());
        let marker = roots.run.join(MARKER);
        let id = "0".repeat(64);
        std::fs::create_dir_all(roots.container(&id)).unwrap();
        let boot_id = umiak_base::process::boot_id().unwrap();
        let running = State { status: Status::Running, boot_id, ..State::default() };
        state::write(&roots.container(&id).join("state.json"), &running).unwrap();
        std::fs::remove_file(&marker).unwrap();
        forget_last_boot(&roots).unwrap();
        assert!(left(&roots).iter().all(|there| *there));
        let before = State { boot_id: "another".into(), ..running };
        state::write(&roots.container(&id).join("state.json"), &before).unwrap();
        std::fs::remove_file(&marker).unwrap();
        forget_last_boot(&roots).unwrap();
        assert_eq!(left(&roots), [false, false, false, false, false, true, true]);
    }
}
