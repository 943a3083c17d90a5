//! Starting a container from the command's side: its namespace and files are
//! made, the host's ports are taken, then a monitor is given all of it.

use std::fs::OpenOptions;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use umiak_base::{FileLock, state};

use super::container::{Config, Container, NetworkMode, Status, Want};
use super::roots::make_dir;
use super::{Engine, Roots, cgroup, hosts, network, ports};
use crate::failure::Coded;
use crate::ipc;
use crate::monitor::protocol::{Attach, Outcome, Start};

impl Engine {
    /// Starts a container.
    pub fn start(&self, container: &Container) -> Result<()> {
        self.start_attached(container, None).map_err(crate::failure::without_code)
    }

    /// Starts a container; an `attach`ed socket is a client from the first byte on. An error may carry the exit code
    /// that `run` ends with.
    pub fn start_attached(&self, container: &Container, attach: Option<(Attach, OwnedFd)>) -> Result<()> {
        let id = &container.config.id;
        if container.lost {
            self.recover(container)?;
        }
        let lock = self.lock(id)?;
        let Some(container) = Container::load(&self.roots, id)? else { bail!("No such container: {id}") };
        if container.state.status == Status::Paused {
            bail!("cannot start a paused container, try unpause instead: {}", container.config.name);
        }
        if container.state.status.is_up() {
            return self.adopt_locked(&container);
        }
        let attached = attach.as_ref().map(|(attach, _)| *attach);
        let (order, held) = match self.prepare(&container, attached) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.record_failure(&container, &error);
                return Err(error);
            }
        };
        let mut fds: Vec<BorrowedFd<'_>> = held.iter().map(|fd| fd.as_fd()).collect();
        fds.extend(attach.as_ref().map(|(_, socket)| socket.as_fd()));
        // The monitor holds the lock as well: when this command is killed, others still wait for the start to end.
        fds.push(lock.as_fd());
        self.spawn_monitor(&order, &fds).map(drop)
    }

    /// What a start needs before there is a monitor: its order, and the sockets that hold the host's ports.
    fn prepare(&self, container: &Container, attach: Option<Attach>) -> Result<(Start, Vec<OwnedFd>)> {
        // Of a start whose command, monitor and keeper were all killed.
        cgroup::clear(&container.config.runtime.cgroup_path)?;
        self.want(container, Want::UP)?;
        if umiak_base::process::boot_id().is_ok_and(|boot| boot != container.state.boot_id) {
            // It names a process of its last run, and another boot may have one with the same numbers.
            let _ = std::fs::remove_file(super::health::Health::path(&self.roots, &container.config.id));
        }
        let config = &container.config;
        if config.runtime.apparmor.is_none() && !config.runtime.privileged {
            // Where that fails it runs without, as `info` says.
            let _ = umiak_runtime::apparmor::load();
        }
        // The writable layer is made with the mode of the image's root, by whoever mounts it.
        make_dir(&config.runtime.rootfs.merged)?;
        let namespaces = shared_namespaces(&self.roots, config)?;
        self.network(container).context("set up the network")?;
        hosts::write(&self.roots, config)?;
        let reserved = ports::reserve(&self.roots, &network::with_host_binding(&self.roots, config)?)?;
        let (published, held) = ports::split(reserved);
        let order = Start {
            roots: self.roots.clone(),
            id: config.id.clone(),
            held: held.len(),
            ports: published,
            namespaces,
            attach,
            adopt: false,
        };
        Ok((order, held))
    }

    /// Why there was no start, where no monitor was there to write it down.
    fn record_failure(&self, container: &Container, error: &anyhow::Error) {
        let path = self.roots.container(&container.config.id).join("state.json");
        let mut seen = container.state.clone();
        seen.failed_to_start(crate::failure::one_line(error), crate::monitor::exit_code(error));
        // On a full disk the error is told all the same.
        let _ = state::write(&path, &seen);
    }

    /// Starts a monitor (behind its keeper) and waits until it has done what is ordered.
    pub(super) fn spawn_monitor(&self, order: &Start, fds: &[BorrowedFd<'_>]) -> Result<Outcome> {
        let (ours, theirs) = ipc::pair()?;
        let path = self.roots.container(&order.id).join("monitor.log");
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let log = log.with_context(|| format!("open {}", path.display()))?;
        let mut monitor = Command::new("/proc/self/exe");
        monitor
            .arg("__monitor")
            .arg(umiak_base::id::short(&order.id))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log));
        crate::failpoint::pass_on(&mut monitor);
        monitor.spawn().context("start the monitor")?;
        // It holds the other end of the socket pair until it is dropped: nobody would see the monitor end.
        drop(monitor);
        crate::failpoint::reach("start: before the monitor has its orders");
        ipc::send(&ours, order, fds)?;
        crate::failpoint::reach("start: the monitor has its orders");
        match ipc::receive::<Outcome>(&ours)? {
            Some((outcome @ (Outcome::Started { .. } | Outcome::Adopted { .. }), _)) => Ok(outcome),
            Some((Outcome::Failed { chain, exit_code }, _)) => {
                Err(Coded { text: chain.join(": "), code: exit_code }.into())
            }
            None => self.without_a_word(order, &path),
        }
    }

    /// The monitor was killed, and its keeper with it. Where it had not got to the point from which the start counts,
    /// the start is undone here.
    fn without_a_word(&self, order: &Start, log: &std::path::Path) -> Result<Outcome> {
        if let Some(container) = Container::load(&self.roots, &order.id)? {
            if let Some(init) = container.state.init.filter(|_| container.state.status.is_up()) {
                return Ok(Outcome::Started { pid: init.pid });
            }
            let config = &container.config;
            let _ = cgroup::clear(&config.runtime.cgroup_path);
            let _ = ports::withdraw(config, &order.ports);
            let _ = crate::monitor::withdraw_names(&self.roots, config);
            self.roots.forget_run(&config.id);
            let error = anyhow::anyhow!("the monitor ended without a word; see {}", log.display());
            self.record_failure(&container, &error);
            return Err(error);
        }
        bail!("the container was removed while it was started")
    }

    fn network(&self, container: &Container) -> Result<()> {
        let config = &container.config;
        match &config.network {
            NetworkMode::Host => Ok(()),
            NetworkMode::None | NetworkMode::Networks(_) => network::attach(&self.roots, config),
            NetworkMode::Container(owner) => {
                let owner = Container::load(&self.roots, owner)?;
                match owner {
                    Some(owner) if owner.state.status.is_up() => Ok(()),
                    Some(owner) => bail!("cannot join network of a non running container: {}", owner.config.name),
                    None => bail!("the container whose network namespace is joined is gone; recreate {}", config.name),
                }
            }
        }
    }

    /// Holds off other commands that change this container.
    pub fn lock(&self, id: &str) -> Result<FileLock> {
        Ok(FileLock::exclusive(&self.roots.lock(&format!("container-{id}")))?)
    }

    /// Holds off other commands that change this project; says so when it has to wait.
    pub fn lock_project(&self, name: &str) -> Result<FileLock> {
        self.sweep()?;
        let path = self.roots.lock(&format!("project-{name}"));
        if let Some(lock) = FileLock::try_exclusive(&path)? {
            return Ok(lock);
        }
        let holder =
            FileLock::holder(&path).map(|pid| format!(" (pid {pid}: {})", command_line(pid))).unwrap_or_default();
        crate::note!("Another command{holder} is changing project {name}: waiting for it to end");
        Ok(FileLock::exclusive(&path)?)
    }

    /// Waits until a container that removes itself has gone.
    pub fn gone(&self, id: &str) -> Result<()> {
        if let Some(container) = Container::load(&self.roots, id)? {
            return self.remove_ended(&container);
        }
        // Without its config it is gone for all others, but whoever removes it may not be through yet.
        let path = self.roots.lock(&format!("container-{id}"));
        drop(FileLock::exclusive(&path)?);
        let _ = std::fs::remove_file(&path);
        Ok(())
    }
}

/// The namespace files of the containers whose namespaces are joined.
pub fn shared_namespaces(roots: &Roots, config: &Config) -> Result<Vec<(String, PathBuf)>> {
    let mut all = Vec::new();
    for (kind, id) in &config.join {
        let owner = Container::load(roots, id)?.with_context(|| {
            format!("the container {} whose {kind} namespace is joined is gone", umiak_base::id::short(id))
        })?;
        let Some(init) = owner.state.init.filter(|_| owner.state.status.is_up()) else {
            bail!("cannot join the {kind} namespace of container {}: it is not running", owner.config.name);
        };
        all.push((kind.clone(), PathBuf::from(format!("/proc/{}/ns/{kind}", init.pid))));
    }
    Ok(all)
}

/// What a process was called with, for people.
fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    if words.is_empty() { "a command that has ended".to_owned() } else { words.join(" ") }
}
