//! Named and anonymous volumes: directories `<volumes>/<name>` with their
//! description `volume.json` and their content `_data`, the `local` driver's
//! mounts, and the copy of an image's content on first use.

mod copy;
mod driver;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use umiak_base::id::random_hex;
use umiak_base::lock::LockError;
use umiak_base::state::{self, StateError};

use crate::config::{Config, MountKind};

pub use copy::copy_up;

const DESCRIPTION: &str = "volume.json";
const DATA: &str = "_data";
/// Volumes on their way out; no volume's name begins with a dot.
const REMOVED: &str = ".removed-";

/// Why something could not be done with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A name that Docker would refuse, too.
    #[error(
        "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
         allowed. If you intended to pass a host directory, use absolute path"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// There is no such volume.
    #[error("no such volume: {name}")]
    Missing {
        /// Its name.
        name: String,
    },
    /// The volume exists and is another one.
    #[error("volume {name} exists with a different driver or driver options: remove it first")]
    Conflict {
        /// Its name.
        name: String,
    },
    /// Only `local` is there.
    #[error("volume {name}: driver {driver:?} is not supported: use local")]
    Driver {
        /// The volume.
        name: String,
        /// The driver.
        driver: String,
    },
    /// An option that the local driver does not know.
    #[error("volume {name}: invalid option {option:?}: the local driver knows type, o and device")]
    Option {
        /// The volume.
        name: String,
        /// The option.
        option: String,
    },
    /// `type` or `o` without `device`.
    #[error("volume {name}: missing required option: device")]
    NoDevice {
        /// The volume.
        name: String,
    },
    /// The server of a network file system has no address.
    #[error("volume {name}: look up the server {host}")]
    Server {
        /// The volume.
        name: String,
        /// `addr=` as given.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The local driver's mount failed.
    #[error("mount volume {name} from {device}")]
    Mount {
        /// The volume.
        name: String,
        /// The device, share or directory.
        device: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The description could not be read or written.
    #[error("volume {name}")]
    State {
        /// The volume.
        name: String,
        /// Why.
        #[source]
        source: StateError,
    },
    /// The volume's lock could not be taken.
    #[error("volume {name}")]
    Lock {
        /// The volume.
        name: String,
        /// Why.
        #[source]
        source: LockError,
    },
    /// A file operation on the volume failed.
    #[error("{operation} {path}")]
    File {
        /// What was done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// What the image holds at the target could not be copied.
    #[error("copy {path} of the image into volume {name}")]
    Copy {
        /// The volume.
        name: String,
        /// The file inside the image.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::File { operation, path, source }
}

/// A volume's description.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `local`; empty means the same.
    pub driver: String,
    /// The local driver's `type`, `o` and `device`: what to mount over the content.
    pub driver_opts: BTreeMap<String, String>,
    /// Made for a container that asked for a volume without naming one.
    pub anonymous: bool,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// Whether `name` may be a volume's: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 255 bytes.
#[must_use]
pub fn valid_name(name: &str) -> bool {
    name.len() <= 255
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// All volumes below one directory.
#[derive(Debug, Clone)]
pub struct Volumes {
    dir: PathBuf,
}

impl Volumes {
    /// The volumes in `dir` (`<root>/volumes`), which is made with the first of them.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn dir_of(&self, name: &str) -> Result<PathBuf, VolumeError> {
        if valid_name(name) { Ok(self.dir.join(name)) } else { Err(VolumeError::Name { name: name.to_owned() }) }
    }

    /// Where the volume's content is, for [`crate::config::Volume::source`].
    ///
    /// # Errors
    /// A name that is none.
    pub fn data(&self, name: &str) -> Result<PathBuf, VolumeError> {
        Ok(self.dir_of(name)?.join(DATA))
    }

    /// Makes a volume; true if it is new. One that exists with the same driver and options is left as it is.
    ///
    /// # Errors
    /// An invalid name or option, another volume of that name, or a full disk.
    pub fn create(&self, description: &Description) -> Result<bool, VolumeError> {
        let name = &description.name;
        let place = self.dir_of(name)?;
        driver::check(description)?;
        if let Some(existing) = self.get(name)? {
            return Self::same(&existing, description).map(|()| false);
        }
        let make = |path: &Path, mode: u32| {
            fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed("create", path))
        };
        make(&self.dir, 0o700)?;
        // Complete aside, then renamed: nobody meets half a volume.
        let unique = random_hex(6).map_err(failed("make a name in", &self.dir))?;
        let aside = self.dir.join(format!(".new-{name:.200}-{unique}"));
        let built = make(&aside, 0o755).and_then(|()| make(&aside.join(DATA), 0o755)).and_then(|()| {
            state::write(&aside.join(DESCRIPTION), description)
                .map_err(|source| VolumeError::State { name: name.clone(), source })
        });
        let placed = built.and_then(|()| fs::rename(&aside, &place).map_err(failed("create", &place)));
        if let Err(error) = placed {
            let _ = fs::remove_dir_all(&aside);
            // Another command may have been first.
            return match self.get(name) {
                Ok(Some(existing)) => Self::same(&existing, description).map(|()| false),
                _ => Err(error),
            };
        }
        state::sync_dir(&self.dir).map_err(failed("sync", &self.dir))?;
        Ok(true)
    }

    fn same(existing: &Description, wanted: &Description) -> Result<(), VolumeError> {
        let differs = existing.driver_opts != wanted.driver_opts && !wanted.driver_opts.is_empty();
        if differs { Err(VolumeError::Conflict { name: wanted.name.clone() }) } else { Ok(()) }
    }

    /// The volume's description; `None` where there is no such volume.
    ///
    /// # Errors
    /// An invalid name, or a description that cannot be read.
    pub fn get(&self, name: &str) -> Result<Option<Description>, VolumeError> {
        let path = self.dir_of(name)?.join(DESCRIPTION);
        state::read(&path).map_err(|source| VolumeError::State { name: name.to_owned(), source })
    }

    /// All volumes, by name. One whose description is damaged is an error of its own, not of the list.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Result<Description, VolumeError>>, VolumeError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", &self.dir)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("list", &self.dir))?.file_name();
            names.extend(name.into_string().ok().filter(|name| valid_name(name)));
        }
        names.sort();
        Ok(names.iter().filter_map(|name| self.get(name).transpose()).collect())
    }

    /// Removes a volume and its content. Whether a container uses it is for the caller to know.
    ///
    /// # Errors
    /// No such volume, or content that cannot be removed: the volume is then gone by name all the same.
    pub fn remove(&self, name: &str) -> Result<(), VolumeError> {
        let place = self.dir_of(name)?;
        let unique = random_hex(6).map_err(failed("make a name in", &self.dir))?;
        let aside = self.dir.join(format!("{REMOVED}{unique}"));
        match fs::rename(&place, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(VolumeError::Missing { name: name.to_owned() });
            }
            Err(error) => return Err(failed("remove", &place)(error)),
        }
        state::sync_dir(&self.dir).map_err(failed("sync", &self.dir))?;
        self.remove_remains()
    }

    /// Deletes what a killed [`Volumes::remove`] left.
    fn remove_remains(&self) -> Result<(), VolumeError> {
        for entry in fs::read_dir(&self.dir).map_err(failed("list", &self.dir))? {
            let entry = entry.map_err(failed("list", &self.dir))?;
            if entry.file_name().to_string_lossy().starts_with(REMOVED) {
                match fs::remove_dir_all(entry.path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(failed("remove", &entry.path())(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Prepares a container's volumes, in the `create` child's own mount
/// namespace, after the root file system (`root`) is mounted and before the
/// volumes are: mounts what a volume's driver options name, and fills empty
/// volumes from the image.
///
/// # Errors
/// A failing mount or copy.
pub fn populate(config: &Config, root: BorrowedFd<'_>) -> Result<(), VolumeError> {
    for mount in &config.mounts {
        let MountKind::Volume(volume) = &mount.kind else { continue };
        driver::mount_over(volume)?;
        if !volume.nocopy && volume.subpath.is_empty() {
            copy_up(volume, &mount.target, &config.id, root)?;
        }
    }
    Ok(())
}
