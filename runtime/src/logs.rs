//! What a container wrote, kept in Docker's json-file format: one JSON object
//! a line, `{"log":"…\n","stream":"stdout","time":"…"}`, in `<id>-json.log`,
//! rotated to `<id>-json.log.1`, `.2` …, which may be compressed (`.1.gz`).
//! [`Writer`] is the monitor's, [`Reader`] everybody else's; the files are all
//! they share. What goes to a syslog or to the journal is kept in files, too,
//! so that it can be read.
//!
//! A line longer than 16 KiB is several records, of which only the last ends in
//! a newline, as Docker does it. So is a line that its program leaves
//! unfinished for [`PARTIAL_IDLE`]: a prompt is seen while it waits for its
//! answer, and whoever joins records up to a newline gets the line as written.

mod compress;
mod escape;
mod file;
mod files;
mod journald;
mod options;
mod read;
mod remote;
mod syslog;
mod time;
mod tls;
mod write;

use std::io;
use std::path::{Path, PathBuf};

pub use compress::{LOW_PRIORITY, compress};
pub use file::Compressor;
pub use options::{Attributes, Driver, Options, OptionsError};
pub use read::{Query, Reader, Status};
pub use syslog::{Address, Format, Settings};
pub use time::{Time, TimeError, parse_time};
pub use tls::TlsOptions;
pub use write::{PARTIAL_IDLE, Writer};

/// Records hold at most this many bytes of output.
pub const MAX_RECORD: usize = 16 << 10;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and everything of a container with a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Its name in the log file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One record of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it came from.
    pub stream: Stream,
    /// When the monitor read it.
    pub time: Time,
    /// The output; without a newline at its end where the line goes on in the stream's next record.
    pub text: String,
    /// `name=value,…`, quoted as in an address; empty unless asked for.
    pub details: String,
}

/// Whose output a log has.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The container's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its image, as it was named.
    pub image: String,
    /// The tag, with nothing left to fill in.
    pub tag: String,
    /// Labels and variables that were asked for.
    pub attributes: Vec<(String, String)>,
}

/// Why a log could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A log file or its directory could not be opened.
    #[error("open the log {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Records could not be written; they are counted, and the count is logged when writing works again.
    #[error("write the log {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A full file could not be moved aside.
    #[error("rotate the log {path}")]
    Rotate {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The receiver of the log driver cannot be reached.
    #[error("connect to the log's receiver {receiver}")]
    Connect {
        /// Its address or socket.
        receiver: String,
        /// The kernel's or the resolver's answer.
        #[source]
        source: io::Error,
    },
    /// A certificate or a key for the receiver could not be read.
    #[error("read the certificate or key {path}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// TLS with the receiver cannot be set up.
    #[error("set up TLS with the log's receiver {receiver}")]
    TlsSetup {
        /// Its address.
        receiver: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// A log file could not be read.
    #[error("read the log {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The directory could not be watched.
    #[error("watch the log {path}")]
    Watch {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// The current log file of container `id` in its log directory.
#[must_use]
pub fn path(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}-json.log"))
}

/// The `number`th rotated file; 0 is the current one.
fn rotated(current: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return current.to_owned();
    }
    let mut name = current.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The same file when it has been compressed.
fn compressed(current: &Path, number: u32) -> PathBuf {
    let mut name = rotated(current, number).into_os_string();
    name.push(".gz");
    name.into()
}
