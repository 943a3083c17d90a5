//! How a container's first process, and the `create` or `exec` child that made
//! it, tell why something failed: lines of JSON on a pipe that the program's
//! `execve` closes, and one message on a socket to whoever waits for the child.

use std::io::{self, IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

/// Why the first process could not become the program. Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Failure {
    /// No such program.
    #[error("exec: {name:?}: {reason}")]
    NotFound {
        /// As given.
        name: String,
        /// What is missing.
        reason: String,
    },
    /// There is one, but it may not be run.
    #[error("exec: {name:?}: {reason}")]
    NotExecutable {
        /// As given.
        name: String,
        /// Why.
        reason: String,
    },
    /// The kernel refused to run it.
    #[error("exec {path}: {reason}")]
    Exec {
        /// Its path.
        path: String,
        /// The kernel's answer.
        reason: String,
    },
    /// The working directory cannot be entered.
    #[error("chdir to the working directory {path:?}: {reason}")]
    Cwd {
        /// As configured.
        path: String,
        /// The kernel's answer.
        reason: String,
    },
    /// Another step.
    #[error("{step}: {reason}")]
    Step {
        /// What was done.
        step: String,
        /// The kernel's answer.
        reason: String,
    },
    /// An error that libcontainer logged on its way.
    #[error("{text}")]
    Logged {
        /// Its text.
        text: String,
    },
}

impl Failure {
    /// Told by our own code, and final; libcontainer also logs what it then lives with.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        !matches!(self, Self::Logged { .. })
    }

    /// Docker's exit code for it.
    #[must_use]
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            Self::Exec { .. } => 255,
            Self::Cwd { .. } | Self::Step { .. } | Self::Logged { .. } => 125,
        }
    }
}

/// The writing end of the pipe; close-on-exec.
#[derive(Debug)]
pub struct Pipe(OwnedFd);

/// The reading end.
#[derive(Debug)]
pub struct Reader(OwnedFd);

/// Makes the pipe.
///
/// # Errors
/// When no descriptor is free.
pub fn pipe() -> io::Result<(Arc<Pipe>, Reader)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((Arc::new(Pipe(write)), Reader(read)))
}

impl Pipe {
    /// Writes one failure; whoever reads is gone where that fails.
    pub fn failure(&self, failure: &Failure) {
        if let Ok(mut line) = serde_json::to_vec(failure) {
            line.push(b'\n');
            let _ = rustix::io::write(&self.0, &line);
        }
    }
}

impl Reader {
    /// Everything written until all writers are gone. `own`, this process's writing end, is closed first.
    pub fn finish(self, own: Arc<Pipe>) -> Vec<Failure> {
        drop(own);
        let mut text = String::new();
        // A first process that never runs its program would keep the pipe open; it is killed before this is called.
        let _ = std::fs::File::from(self.0).read_to_string(&mut text);
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// The failure to show: the executor's own, which is exact, or else what libcontainer logged first, which is closest to the cause.
#[must_use]
pub fn most_telling(failures: Vec<Failure>) -> Option<Failure> {
    let exact = failures.iter().find(|failure| failure.is_exact()).cloned();
    exact.or_else(|| failures.into_iter().next())
}

/// What a `create` or `exec` child tells at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Report {
    /// The program runs.
    Started {
        /// Its pid on the host.
        pid: u32,
    },
    /// It does not.
    Failed {
        /// Docker's exit code for the failure.
        exit_code: i32,
        /// What failed, and below it why.
        chain: Vec<String>,
    },
}

impl Report {
    /// A failure with the chain of its sources.
    #[must_use]
    pub fn failed(error: &dyn std::error::Error, exit_code: i32) -> Self {
        let mut chain = vec![error.to_string()];
        let mut next = error.source();
        while let Some(source) = next {
            let text = source.to_string();
            // libcontainer's wrappers often repeat what they wrap.
            if !chain.last().is_some_and(|last| last.contains(&text)) {
                chain.push(text);
            }
            next = source.source();
        }
        Self::Failed { exit_code, chain }
    }
}

/// Largest report, in bytes; longer chains are cut.
const MAX_REPORT: usize = 32 << 10;

/// Sends `report`, with the terminal's master side if there is one, over a unix socket of type `SEQPACKET`.
///
/// # Errors
/// When the other side is gone.
pub fn send(socket: BorrowedFd<'_>, report: &Report, console: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut text = serde_json::to_vec(report)?;
    if text.len() > MAX_REPORT
        && let Report::Failed { exit_code, chain } = report
    {
        let chain = chain.iter().map(|part| part.chars().take(512).collect()).take(16).collect();
        text = serde_json::to_vec(&Report::Failed { exit_code: *exit_code, chain })?;
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = console.into_iter().collect();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives what [`send`] sent; `None` where the child ended without a word.
///
/// # Errors
/// The kernel's, or a message that is no report.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Report, Option<OwnedFd>)>> {
    let mut text = vec![0; MAX_REPORT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let report = serde_json::from_slice(text.get(..received.bytes).unwrap_or_default())?;
    Ok(Some((report, first_descriptor(&mut control))))
}

pub(crate) fn first_descriptor(control: &mut RecvAncillaryBuffer<'_>) -> Option<OwnedFd> {
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

/// The pair of sockets for [`send`] and [`receive`]: the first stays, the second goes to the child (both close-on-exec).
///
/// # Errors
/// When no descriptor is free.
pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_report_arrives_with_its_descriptor() {
        let (here, there) = socket_pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        send(there.as_fd(), &Report::Started { pid: 7 }, Some(write.as_fd())).unwrap();
        drop((there, write));
        let (report, fd) = receive(here.as_fd()).unwrap().unwrap();
        assert_eq!(report, Report::Started { pid: 7 });
        rustix::io::write(fd.unwrap(), b"x").unwrap();
        assert_eq!(rustix::io::read(read, &mut [0; 4]).unwrap(), 1);
        assert!(receive(here.as_fd()).unwrap().is_none());
    }

    #[test]
    fn a_long_chain_is_cut_not_lost() {
        let (here, there) = socket_pair().unwrap();
        let chain = vec!["x".repeat(100_000); 3];
        send(there.as_fd(), &Report::Failed { exit_code: 125, chain }, None).unwrap();
        let (report, _) = receive(here.as_fd()).unwrap().unwrap();
        assert!(matches!(report, Report::Failed { exit_code: 125, chain } if chain.len() == 3));
    }

    #[test]
    fn the_exact_failure_is_shown_before_a_logged_one() {
        let (pipe, reader) = pipe().unwrap();
        let logged = |text: &str| Failure::Logged { text: text.into() };
        let exact = Failure::NotFound { name: "x".into(), reason: "executable file not found in $PATH".into() };
        for failure in [&logged("first"), &exact, &logged("last")] {
            pipe.failure(failure);
        }
        let failures = reader.finish(pipe);
        assert_eq!(failures.len(), 3);
        assert_eq!(most_telling(failures), Some(exact.clone()));
        assert_eq!(exact.to_string(), "exec: \"x\": executable file not found in $PATH");
        assert_eq!(most_telling(vec![logged("first"), logged("last")]), Some(logged("first")));
    }
}
