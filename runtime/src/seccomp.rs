//! The system-call filter of a container: which profile, compiled to the
//! kernel's classic BPF before any process is cloned, loaded by the executor
//! just before the program starts (`seccomp(2)`, Documentation/userspace-api/seccomp_filter.rst).

mod default;
mod filter;
mod profile;
mod table;

use std::io;
use std::path::{Path, PathBuf};

pub use filter::Instruction;
pub use profile::{Action, Comparison, Condition, Profile, Rule};
pub use table::Abi;

use crate::capabilities::CapSet;
use crate::config::{Config, Seccomp};

/// Largest profile file that is read, in bytes.
const MAX_PROFILE: u64 = 4 << 20;

/// Why no filter could be built.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The profile file could not be read.
    #[error("read the seccomp profile {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// It is not a profile in Docker's JSON format.
    #[error("the seccomp profile {path} does not parse")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
    /// The file is larger than any sensible profile.
    #[error("the seccomp profile {path} is too large: {size} bytes, at most {MAX_PROFILE} are read")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// An action or comparison that a filter of ours cannot express.
    #[error("the seccomp profile uses {what}, which is not supported")]
    Unsupported {
        /// The action, operator or field.
        what: String,
    },
    /// More instructions than the kernel takes (`BPF_MAXINSNS`).
    #[error("the seccomp profile is too large: {instructions} instructions, the kernel takes 4096")]
    TooLong {
        /// How many it compiles to.
        instructions: usize,
    },
}

/// The compiled filter for a container whose processes may hold `caps`; `None` where the container runs unfiltered.
///
/// # Errors
/// When a custom profile cannot be read, parsed or compiled.
pub fn compile(config: &Config, caps: CapSet) -> Result<Option<Vec<Instruction>>, SeccompError> {
    let profile = match &config.seccomp {
        Seccomp::Unconfined => return Ok(None),
        // As Docker: `privileged` drops the default profile, but not one that was asked for.
        Seccomp::Default if config.privileged => return Ok(None),
        Seccomp::Default => default::profile(),
        Seccomp::Profile(path) => load(path)?,
    };
    let context = profile::Context { caps, kernel: kernel_version() };
    filter::compile(&profile, &context).map(Some)
}

fn load(path: &Path) -> Result<Profile, SeccompError> {
    let read = |source| SeccompError::Read { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(read)?.len();
    if size > MAX_PROFILE {
        return Err(SeccompError::TooLarge { path: path.to_owned(), size });
    }
    let text = std::fs::read(path).map_err(read)?;
    Profile::from_json(&text).map_err(|source| SeccompError::Parse { path: path.to_owned(), source })
}

/// Major and minor version of the running kernel.
fn kernel_version() -> (u32, u32) {
    let name = rustix::system::uname();
    let mut parts = name.release().to_str().unwrap_or("").split(|c: char| !c.is_ascii_digit());
    let mut next = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    (next(), next())
}
