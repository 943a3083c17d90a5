//! Where files are read from: the machine's disk, or files that the caller holds in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::yaml::MAX_FILE_SIZE;

/// Where the loader finds the files that it reads.
#[derive(Debug, Clone, Default)]
pub enum Disk {
    /// The machine's files and standard input.
    #[default]
    Machine,
    /// These as well, and what this brings from elsewhere.
    Fetching(Fetch),
    /// These files by absolute path, and no others; `-` is standard input.
    Memory(BTreeMap<PathBuf, String>),
}

/// Brings the Compose file of a name that is no path, a repository's for example, and says where it lies; `None` for a
/// path. The error is a whole message.
#[derive(Clone)]
pub struct Fetch(Arc<dyn Ask + Send + Sync>);

/// What a [`Fetch`] asks.
trait Ask: Fn(&str) -> Option<Result<PathBuf, String>> {}

impl<T: Fn(&str) -> Option<Result<PathBuf, String>>> Ask for T {}

impl Fetch {
    /// Asks this for every name.
    pub fn new(fetch: impl Fn(&str) -> Option<Result<PathBuf, String>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(fetch))
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").finish_non_exhaustive()
    }
}

impl Disk {
    /// Where the Compose file of a name lies that is no path. `None` for a path.
    pub(crate) fn fetch(&self, name: &str) -> Option<Result<PathBuf, String>> {
        match self {
            Self::Fetching(Fetch(fetch)) => fetch(name),
            Self::Machine | Self::Memory(_) => None,
        }
    }

    /// Whether there is something of this name.
    pub(crate) fn exists(&self, path: &Path) -> bool {
        match self {
            Self::Machine | Self::Fetching(_) => path.exists(),
            Self::Memory(files) => files.contains_key(path),
        }
    }

    /// Whether there is a file of this name that is no directory and no device.
    pub(crate) fn is_file(&self, path: &Path) -> bool {
        match self {
            Self::Machine | Self::Fetching(_) => path.is_file(),
            Self::Memory(files) => files.contains_key(path),
        }
    }

    /// Reads a text file of reasonable size; `-` is standard input.
    pub(crate) fn read(&self, path: &Path) -> Result<String, String> {
        match self {
            Self::Memory(files) => files.get(path).cloned().ok_or_else(|| NOT_FOUND.to_owned()),
            Self::Machine | Self::Fetching(_) if path.as_os_str() == "-" => text(std::io::stdin().lock()),
            Self::Machine | Self::Fetching(_) => text(std::fs::File::open(path).map_err(|error| describe(&error))?),
        }
    }
}

const NOT_FOUND: &str = "no such file or directory";

fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => NOT_FOUND.to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

fn text(reader: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_SIZE).unwrap_or(u64::MAX);
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(|error| describe(&error))?;
    if bytes.len() > MAX_FILE_SIZE {
        return Err(format!("larger than {} MiB", MAX_FILE_SIZE >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())
}
