//! Where everything lies on disk: the data root and the run root, and the
//! names of the things below them.
//!
//! ```text
//! data root  /var/lib/umiak, 0700
//!   images/  layers/                      the image store
//!   base-layer/                           the lowest layer of every container
//!   containers/<id>/                      config.json want.json state.json bundle/ upper/ work/ log/
//!   networks/<name>.json  networks/<name>.leases/<address>
//!   volumes/<name>/
//! run root   /run/umiak, 0700
//!   boot-id                               the boot that all of it speaks of
//!   containers/<id>/ctl.sock  state/<id>  the second one is libcontainer's
//!   netns/<id>  dns/<network id>/  locks/
//! ```

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// The two directories below which all state lies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Roots {
    /// What outlives a reboot.
    pub data: PathBuf,
    /// What means nothing after a reboot.
    pub run: PathBuf,
}

impl Roots {
    /// Makes both directories, mode 0700 (CVE-2021-41091: setuid files of images must not be reachable by users).
    pub fn prepare(&self) -> Result<()> {
        for dir in [&self.data, &self.run] {
            if !dir.is_absolute() {
                bail!("the root directory must be an absolute path, not {}", dir.display());
            }
            make_dir(dir)?;
            let mode = std::fs::metadata(dir).map(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()));
            if mode.is_ok_and(|mode| mode & 0o077 != 0) {
                use std::os::unix::fs::PermissionsExt as _;
                std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
                    .with_context(|| format!("close {} to other users", dir.display()))?;
            }
        }
        for dir in [self.containers(), self.networks(), self.volumes()] {
            make_dir(&dir)?;
        }
        make_dir(&self.base_layer())?;
        make_marker(&self.base_layer().join(".dockerenv"))?;
        for dir in [self.run.join("containers"), self.run.join("netns"), self.run.join("dns"), self.run.join("locks")] {
            make_dir(&dir)?;
        }
        super::reboot::forget_last_boot(self)
    }

    /// All containers.
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// One container's directory.
    pub fn container(&self, id: &str) -> PathBuf {
        self.data.join("containers").join(id)
    }

    /// One container's volatile directory.
    pub fn container_run(&self, id: &str) -> PathBuf {
        self.run.join("containers").join(id)
    }

    /// Where libcontainer keeps what it must know to join containers again.
    pub fn runtime_state(&self) -> PathBuf {
        self.run.join("state")
    }

    /// Removes what a run has left below the run root; what cannot be removed is found again by the next run.
    pub fn forget_run(&self, id: &str) {
        let _ = std::fs::remove_dir_all(self.container_run(id));
        let _ = std::fs::remove_dir_all(self.runtime_state().join(id));
    }

    /// The control socket of a container's monitor.
    pub fn control_socket(&self, id: &str) -> PathBuf {
        self.container_run(id).join("ctl.sock")
    }

    /// The pin of a container's network namespace.
    pub fn netns(&self, id: &str) -> PathBuf {
        self.run.join("netns").join(id)
    }

    /// What lies below the layers of every container but a build's: the file by which programs know, since Docker, that
    /// they are in a container.
    pub fn base_layer(&self) -> PathBuf {
        self.data.join("base-layer")
    }

    /// All networks.
    pub fn networks(&self) -> PathBuf {
        self.data.join("networks")
    }

    /// All volumes.
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    /// A lock file by what it guards.
    pub fn lock(&self, what: &str) -> PathBuf {
        self.run.join("locks").join(what)
    }
}

/// An empty file, as Docker makes it.
fn make_marker(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if path.exists() {
        return Ok(());
    }
    let made = File::options().write(true).create(true).truncate(false).open(path);
    made.and_then(|file| file.set_permissions(std::fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("make {}", path.display()))
}

/// Binds or connects a socket by a path that fits into an address: the kernel takes 107 bytes (unix(7)), and a run root
/// may be longer than that.
pub fn with_short_path<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return act(path) };
    let dir = File::open(dir)?;
    act(&Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))
}

/// `mkdir -p` with mode 0700.
pub fn make_dir(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make the directory {}", path.display()))
}
