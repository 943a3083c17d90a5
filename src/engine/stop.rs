//! Ending a container: the stop signal, the wait, then SIGKILL to everything in
//! its cgroup. Done by the command itself through a pidfd, so it works with a
//! dead monitor too.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, pidfd_send_signal};
use umiak_base::state;

use super::container::{Config, Container, EXIT_UNKNOWN, State, Status, Want};
use super::{Engine, cgroup, events, ports, wait};
use crate::monitor::protocol::Kind;

/// Seconds between the stop signal and SIGKILL where nobody says otherwise.
pub const GRACE: u64 = 10;

/// A signal by its name or number.
pub fn signal(text: &str) -> Result<Signal> {
    let number = umiak_runtime::signals::parse(text).with_context(|| format!("invalid signal: {text}"))?;
    crate::sys::signal(number).with_context(|| format!("invalid signal: {text}"))
}

impl Engine {
    /// Asks a container to end, and kills it when it has not after `timeout` seconds (negative: never).
    pub fn stop(&self, container: &Container, timeout: Option<i64>) -> Result<()> {
        self.end(container, timeout, Want::DOWN)
    }

    /// As [`Engine::stop`], for a host that goes down: the next `system boot` brings it back.
    pub fn halt(&self, container: &Container, timeout: Option<i64>) -> Result<()> {
        self.end(container, timeout, Want::HALTED)
    }

    fn end(&self, container: &Container, timeout: Option<i64>, want: Want) -> Result<()> {
        let Some(container) = &self.stay_down(container, want)? else { return Ok(()) };
        let Some(init) = container.state.init.filter(|_| container.state.status.is_up()) else { return Ok(()) };
        let config = &container.config;
        let asked = signal(config.stop_signal.as_deref().unwrap_or("SIGTERM"))?;
        let configured = i64::try_from(config.stop_timeout.unwrap_or(GRACE)).unwrap_or(i64::MAX);
        let grace = timeout.unwrap_or(configured);
        if let Some(pidfd) = wait::pidfd(init) {
            self.send(&pidfd, asked, container)?;
            let deadline = u64::try_from(grace).ok().map(|seconds| Instant::now() + Duration::from_secs(seconds));
            if !wait::readable(&[pidfd.as_fd()], deadline)? {
                self.send(&pidfd, Signal::KILL, container)?;
                cgroup::kill(&config.runtime.cgroup_path)?;
            }
        }
        self.wait(&config.id, Some(Instant::now() + Duration::from_secs(30)))?
            .with_context(|| format!("container {} does not end, not even when killed", config.name))?;
        events::container(&self.roots, config, "stop");
        Ok(())
    }

    /// From now on it is not started again when it ends; one that waits to be has ended then. What it is now.
    fn stay_down(&self, container: &Container, want: Want) -> Result<Option<Container>> {
        let id = &container.config.id;
        // A full disk must not keep a container running.
        let _ = self.want(container, want);
        self.tell_monitor(id, Kind::StayDown)?;
        let now = Container::load(&self.roots, id)?;
        if now.as_ref().is_some_and(|now| now.state.status == Status::Restarting) {
            self.wait(id, Some(Instant::now() + Duration::from_secs(30)))?;
            return Container::load(&self.roots, id);
        }
        Ok(now)
    }

    /// Sends a container's process a signal; one that is to end it keeps it down, whatever its restart policy.
    pub fn kill(&self, container: &Container, signal: Signal) -> Result<()> {
        let was_up = container.state.status.is_up();
        let now;
        let container = match ends(signal, &container.config)? && was_up {
            true => {
                now = self.stay_down(container, Want::DOWN)?;
                match &now {
                    Some(now) if now.state.status.is_up() => now,
                    _ => return Ok(()),
                }
            }
            false => container,
        };
        self.deliver(container, signal)
    }

    /// Sends a container's process a signal as something that befalls it: its restart policy answers the end. One
    /// that waits to be started again has nothing to befall, and stays down.
    pub fn strike(&self, container: &Container, signal: Signal) -> Result<()> {
        match container.state.status {
            Status::Restarting => self.kill(container, signal),
            _ => self.deliver(container, signal),
        }
    }

    /// Whether somebody has stopped a container that could run.
    pub fn is_stopped_by_hand(&self, container: &Container) -> bool {
        !container.state.status.is_up() && Want::of(&self.roots, &container.config.id) == Some(Want::DOWN)
    }

    fn deliver(&self, container: &Container, signal: Signal) -> Result<()> {
        let name = &container.config.name;
        let Some(init) = container.state.init.filter(|_| container.state.status.is_up()) else {
            bail!("cannot kill container: {name}: container {} is not running", container.config.id);
        };
        let Some(pidfd) = wait::pidfd(init) else { return Ok(()) };
        self.send(&pidfd, signal, container)?;
        if signal == Signal::KILL {
            let deadline = Some(Instant::now() + Duration::from_secs(30));
            self.wait_since(&container.config.id, Some(container.state.restart_count), deadline)?;
        }
        Ok(())
    }

    /// Sends a signal. A paused container runs on to receive it, unless it is not the one that is to end it.
    fn send(&self, pidfd: &std::os::fd::OwnedFd, sent: Signal, container: &Container) -> Result<()> {
        let config = &container.config;
        let number = sent.as_raw().to_string();
        events::Event::of_container(config, "kill").with("signal", number).emit(&self.roots);
        match pidfd_send_signal(pidfd, sent) {
            // It may have ended meanwhile: that is what was wanted.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("signal container {}", config.name)),
        }
        let awaited = match &config.stop_signal {
            Some(own) if sent != Signal::KILL => signal(own)? == sent,
            _ => true,
        };
        if awaited && super::pause::is_paused(&self.roots, &config.id, &config.runtime.cgroup_path) {
            self.thaw(container)?;
        }
        Ok(())
    }

    /// Clears away what a run left whose monitor was killed, and records that its end was not seen.
    pub fn recover(&self, container: &Container) -> Result<()> {
        let config = &container.config;
        let _lock = self.lock(&config.id)?;
        let path = self.roots.container(&config.id).join("state.json");
        let Some(stored) = state::read::<State>(&path)? else { return Ok(()) };
        if Container::load(&self.roots, &config.id)?.is_none_or(|seen| seen.state.status.is_up()) {
            return Ok(());
        }
        let _ = cgroup::clear(&config.runtime.cgroup_path);
        let _ = ports::withdraw(config, &stored.ports);
        let _ = crate::monitor::withdraw_names(&self.roots, config);
        self.roots.forget_run(&config.id);
        if stored.status.is_up() {
            let ended = container.state.finished_at.filter(|end| Some(*end) >= container.state.started_at);
            let seen = State {
                status: Status::Exited,
                exit_code: container.state.exit_code.or(Some(EXIT_UNKNOWN)),
                error: container.state.error.clone(),
                finished_at: ended.or_else(|| Some(jiff::Timestamp::now())),
                monitor: None,
                keeper: None,
                init: None,
                ports: Vec::new(),
                ..stored
            };
            // On a full disk the old state stays, which is corrected whenever it is read.
            let _ = state::write(&path, &seen);
        }
        Ok(())
    }

    /// Records what the user wants of a container.
    pub fn want(&self, container: &Container, want: Want) -> Result<()> {
        use super::restart::Condition::{OnFailure, UnlessStopped};
        let id = &container.config.id;
        let before = Want::of(&self.roots, id);
        if before == Some(want) {
            return Ok(());
        }
        let path = self.roots.container(id).join("want.json");
        // What it says must outlive a power cut where the next boot asks for it. What was never stopped is wanted
        // without being asked.
        let asked = matches!(container.config.restart.condition, UnlessStopped | OnFailure);
        if asked && (before.is_some() || want != Want::UP) {
            return Ok(state::write(&path, &want)?);
        }
        Ok(state::write_volatile(&path, &want)?)
    }
}

/// Whether somebody who sends this signal wants the container to end, rather than to do something.
fn ends(sent: Signal, config: &Config) -> Result<bool> {
    let stops = config.stop_signal.as_deref().map(signal).transpose()?;
    let usual = [Signal::KILL, Signal::TERM, Signal::INT, Signal::QUIT];
    Ok(usual.contains(&sent) || stops == Some(sent))
}
