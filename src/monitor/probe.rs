//! The `probe` child: runs one health check in the container, ends it with
//! everything it started, answers with the result, and ends.
//!
//! Between it and the check stands a process inside the container that collects
//! what the check leaves behind, so that zombies do not pile up under a first
//! process that never waits for any.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::PipeFlags;
use rustix::process::{Signal, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use umiak_base::{ProcessRef, state};
use umiak_runtime::cgroup::Cgroup;
use umiak_runtime::create::Paths;
use umiak_runtime::exec::{Exec, exec_collected, wait};

use super::create::{clean_signal_mask, take_streams};
use crate::engine::Roots;
use crate::engine::container::Config;
use crate::engine::events::Event;
use crate::engine::health::{Checked, Reach};
use crate::engine::pause;
use crate::engine::wait::{pidfd, readable, timespec};
use crate::ipc;

/// How much of a check's output is kept, as in Docker.
const OUTPUT: usize = 4096;
/// For processes that have been killed to be gone.
const DYING: Duration = Duration::from_secs(5);

/// The exit code of a process that was killed.
const KILLED: i32 = 137;

/// What to check.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Where state lies.
    pub roots: Roots,
    /// The container.
    pub id: String,
    /// Its first process.
    pub init: ProcessRef,
    /// The command line.
    pub args: Vec<String>,
    /// Instead of a command.
    pub reach: Option<Reach>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Runs a `probe` child; its orders come over descriptor 0.
pub fn main() -> ExitCode {
    let Ok(socket) = super::take_stdin() else { return ExitCode::FAILURE };
    let start = Timestamp::now();
    let found = run(&socket).unwrap_or_else(|error| Some((-1, crate::failure::one_line(&error))));
    let result = found.map(|(exit_code, output)| Checked { start, end: Timestamp::now(), exit_code, output });
    if ipc::send(&socket, &result, &[]).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Exit code and output; nothing where the container stands still, so that the check says nothing about it.
fn run(socket: &OwnedFd) -> Result<Option<(i32, String)>> {
    clean_signal_mask()?;
    let (order, _) = ipc::receive::<Order>(socket)?.context("the monitor has gone")?;
    let dir = order.roots.container(&order.id);
    let config: Config = state::read(&dir.join("config.json"))?.context("the container has no config.json")?;
    if let Some(reach) = &order.reach {
        return Ok(Some(super::reach::check(reach, &config.runtime.netns, &dir.join("hosts"), order.timeout)));
    }
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context("make a pipe");
    let ((output, its_output), (status, its_status)) = (pipe()?, pipe()?);
    let null = || std::fs::File::open("/dev/null").map(OwnedFd::from).context("open /dev/null");
    let copy = its_output.try_clone().context("duplicate a pipe")?;
    take_streams(&[null()?, its_output, copy])?;
    let paths = Paths { bundle: dir.join("bundle"), state: order.roots.runtime_state() };
    let told = Told::begin(&order, &config);
    let spec = Exec { args: order.args.clone(), ..Exec::default() };
    let executed = exec_collected(&config.runtime, &paths, order.init, &spec, its_status.as_fd());
    take_streams(&[null()?, null()?, null()?])?;
    drop(its_status);
    let pid = executed?.pid;
    let mut kept = Kept::new(output);
    let code = kept.until_ended(&status, Instant::now() + order.timeout)?;
    kept.rest();
    told.end(if let Ended::With(code) = code { code } else { KILLED });
    let cgroup = &config.runtime.cgroup_path;
    if matches!(code, Ended::TooLate) && pause::is_paused(&order.roots, &order.id, cgroup) {
        // Nothing of it ends before the container goes on: then at once, and the monitor reaps it.
        strike(pid, cgroup)?;
        return Ok(None);
    }
    end(pid, cgroup)?;
    let said = kept.text();
    Ok(Some(match code {
        Ended::With(code) => (code, said),
        Ended::Unseen => (-1, format!("the health check was killed{}", after_colon(&said))),
        Ended::TooLate => (-1, too_late(order.timeout, &said)),
    }))
}

/// In Docker's words.
pub(super) fn too_late(timeout: Duration, said: &str) -> String {
    let timeout = umiak_compose::units::format_duration(timeout);
    format!("Health check exceeded timeout ({timeout}){}", after_colon(said))
}

fn after_colon(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// The events of one check: for Docker it is an `exec` like any other.
struct Told<'a> {
    roots: &'a Roots,
    config: &'a Config,
    exec_id: String,
}

impl<'a> Told<'a> {
    fn begin(order: &'a Order, config: &'a Config) -> Self {
        // Without random bytes the events lack a name, and that is all.
        let told = Self { roots: &order.roots, config, exec_id: umiak_base::id::new_id().unwrap_or_default() };
        for action in ["exec_create", "exec_start"] {
            told.event(&format!("{action}: {}", order.args.join(" "))).emit(told.roots);
        }
        told
    }

    fn end(&self, code: i32) {
        self.event("exec_die").with("exitCode", code.to_string()).emit(self.roots);
    }

    fn event(&self, action: &str) -> Event {
        Event::of_container(self.config, action).with("execID", &self.exec_id)
    }
}

/// How a check ended.
enum Ended {
    With(i32),
    Unseen,
    TooLate,
}

/// The beginning of what a check prints.
struct Kept {
    pipe: Option<OwnedFd>,
    bytes: Vec<u8>,
    truncated: bool,
}

impl Kept {
    fn new(pipe: OwnedFd) -> Self {
        let _ = rustix::io::ioctl_fionbio(&pipe, true);
        Self { pipe: Some(pipe), bytes: Vec::new(), truncated: false }
    }

    /// Keeps what comes until `status` tells the exit code.
    fn until_ended(&mut self, status: &OwnedFd, deadline: Instant) -> Result<Ended> {
        loop {
            let (ended, said) = {
                let mut fds = vec![PollFd::from_borrowed_fd(status.as_fd(), PollFlags::IN)];
                fds.extend(self.pipe.iter().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
                let left = deadline.saturating_duration_since(Instant::now());
                match poll(&mut fds, Some(&timespec(left))) {
                    Ok(0) => return Ok(Ended::TooLate),
                    Ok(_) => {}
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => return Err(error).context("poll"),
                }
                let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
                (ready(0), ready(1))
            };
            if ended {
                let mut code = [0_u8; 4];
                return Ok(match rustix::io::read(status, &mut code) {
                    Ok(4) => Ended::With(i32::from_le_bytes(code)),
                    _ => Ended::Unseen,
                });
            }
            if said {
                self.read();
            }
            if Instant::now() >= deadline {
                // One that never stops talking leaves no quiet moment.
                return Ok(Ended::TooLate);
            }
        }
    }

    /// What is there now.
    fn rest(&mut self) {
        while self.bytes.len() < OUTPUT && self.read() {}
    }

    fn read(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut chunk = [0_u8; OUTPUT];
        match rustix::io::read(pipe, &mut chunk) {
            Ok(count) if count > 0 => {
                let room = (OUTPUT - self.bytes.len()).min(count);
                self.bytes.extend_from_slice(chunk.get(..room).unwrap_or_default());
                self.truncated |= room < count;
                true
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            _ => {
                self.pipe = None;
                false
            }
        }
    }

    fn text(&self) -> String {
        let more = if self.truncated { "..." } else { "" };
        format!("{}{more}", String::from_utf8_lossy(&self.bytes))
    }
}

/// Kills what a check has left, until the process that collects it has nothing to wait for and ends.
fn end(pid: u32, cgroup: &str) -> Result<()> {
    let collector = ProcessRef::of(pid);
    if let Some(watched) = collector.and_then(pidfd) {
        let deadline = Instant::now() + DYING;
        // Without anything left it ends at once.
        let mut patience = Duration::from_millis(2);
        while !readable(&[watched.as_fd()], Some(Instant::now() + patience))? {
            if Instant::now() >= deadline {
                let _ = pidfd_send_signal(&watched, Signal::KILL);
                break;
            }
            kill(descendants(pid, cgroup)?);
            patience = Duration::from_millis(20);
        }
    }
    wait(pid).map(drop).context("wait for the health check")
}

/// Kills all of a check, and the process that collects it, without waiting for them.
fn strike(pid: u32, cgroup: &str) -> Result<()> {
    let collector = ProcessRef::of(pid);
    kill(descendants(pid, cgroup)?.into_iter().chain(collector));
    Ok(())
}

fn kill(processes: impl IntoIterator<Item = ProcessRef>) {
    for process in processes {
        // Told from a later process with the same pid.
        if let Some(target) = pidfd(process) {
            let _ = pidfd_send_signal(&target, Signal::KILL);
        }
    }
}

/// All processes below `root` in the container's cgroup.
fn descendants(root: u32, cgroup: &str) -> Result<Vec<ProcessRef>> {
    let parent = |pid: u32| -> Option<u32> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        text.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    let pids = Cgroup::new(cgroup)?.processes()?.into_iter().filter_map(|pid| u32::try_from(pid).ok());
    let all: Vec<(ProcessRef, u32)> = pids.filter_map(|pid| Some((ProcessRef::of(pid)?, parent(pid)?))).collect();
    let mut found: Vec<ProcessRef> = Vec::new();
    loop {
        let below = |of: u32| of == root || found.iter().any(|process| process.pid == of);
        let more: Vec<ProcessRef> = all
            .iter()
            .filter(|(process, parent)| below(*parent) && !found.contains(process))
            .map(|(process, _)| *process)
            .collect();
        if more.is_empty() {
            return Ok(found);
        }
        found.extend(more);
    }
}
