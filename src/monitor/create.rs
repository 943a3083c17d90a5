//! The `create` child: one thread, one task. It builds and starts the container
//! with libcontainer, says how that went, and ends; whatever libcontainer leaves
//! behind in a process ends with it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use umiak_base::state;
use umiak_runtime::config::Namespace;
use umiak_runtime::create::{Created, Paths, create};

use crate::engine::Roots;
use crate::engine::container::Config;
use crate::failure::Coded;
use crate::ipc;

/// What to create. With it come the container's three streams, unless it has a terminal.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// Where state lies.
    pub roots: Roots,
    /// The container.
    pub id: String,
    /// The monitor's pid: without it, nobody wants the container.
    pub monitor: u32,
    /// Namespaces of other containers to join: kind and namespace file.
    pub namespaces: Vec<(String, PathBuf)>,
}

/// How it went.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The program runs. With a terminal, its master side comes along.
    Created {
        /// In the host's pid namespace.
        pid: u32,
    },
    /// Nothing runs, and nothing was left.
    Failed {
        /// The error and its causes, outermost first.
        chain: Vec<String>,
        /// As `docker run` exits.
        exit_code: i32,
    },
}

/// Runs a `create` child; its orders come over descriptor 0.
pub fn main() -> ExitCode {
    let Ok(socket) = super::take_stdin() else { return ExitCode::FAILURE };
    let answered = match run(&socket) {
        Ok(created) => {
            let console: Vec<BorrowedFd<'_>> = created.console.iter().map(AsFd::as_fd).collect();
            ipc::send(&socket, &Answer::Created { pid: created.pid }, &console)
        }
        Err(error) => {
            let exit_code = error.downcast_ref::<Coded>().map_or(125, |coded| coded.code);
            let chain = error.chain().map(ToString::to_string).collect();
            ipc::send(&socket, &Answer::Failed { chain, exit_code }, &[])
        }
    };
    if answered.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The monitor reads its signals from a descriptor; the container must not inherit that.
pub fn clean_signal_mask() -> Result<()> {
    nix::sys::signal::SigSet::empty().thread_set_mask().context("clear the signal mask")
}

/// Makes three descriptors the standard streams.
pub fn take_streams(streams: &[OwnedFd]) -> Result<()> {
    let [stdin, stdout, stderr] = streams else { bail!("{} streams came along instead of 3", streams.len()) };
    rustix::stdio::dup2_stdin(stdin).context("take over stdin")?;
    rustix::stdio::dup2_stdout(stdout).context("take over stdout")?;
    rustix::stdio::dup2_stderr(stderr).context("take over stderr")
}

fn run(socket: &OwnedFd) -> Result<Created> {
    clean_signal_mask()?;
    // A start whose monitor is killed is undone by others, who wait for this process to end.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("end with the monitor")?;
    let (order, streams) = ipc::receive::<Order>(socket)?.context("the monitor has gone")?;
    if rustix::process::getppid().is_none_or(|parent| parent.as_raw_pid().cast_unsigned() != order.monitor) {
        bail!("the monitor has gone");
    }
    let dir = order.roots.container(&order.id);
    let mut config: Config = state::read(&dir.join("config.json"))?.context("the container has no config.json")?;
    for (kind, path) in order.namespaces {
        let namespace = Namespace::Path(path);
        match kind.as_str() {
            "pid" => config.runtime.pid_ns = namespace,
            "ipc" => config.runtime.ipc_ns = namespace,
            "uts" => config.runtime.uts_ns = namespace,
            "cgroup" => config.runtime.cgroup_ns = namespace,
            _ => bail!("a namespace of kind {kind} cannot be joined"),
        }
    }
    if !config.runtime.tty {
        take_streams(&streams)?;
    }
    drop(streams);
    let paths = Paths { bundle: dir.join("bundle"), state: order.roots.runtime_state() };
    create(&config.runtime, &paths).map_err(|error| {
        let code = error.exit_code();
        let chain = anyhow::Error::new(error);
        Coded { text: crate::failure::one_line(&chain), code }.into()
    })
}
