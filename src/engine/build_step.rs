//! Containers that run one step of a build: they belong to the command that
//! builds, are nobody else's business, and end with it.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use umiak_base::ProcessRef;
use umiak_images::store::Image;

use super::container::{Container, EXIT_UNKNOWN};
use super::request::Request;
use super::{Engine, attach};
use crate::monitor::protocol::{Attach, Kind, take_frame};

/// A step that runs.
#[derive(Debug)]
pub struct BuildStep {
    /// Its container.
    pub container: Container,
    socket: OwnedFd,
}

impl BuildStep {
    /// Where its streams come from.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }
}

impl Engine {
    /// Makes a container for a step.
    pub fn create_build_step(&self, mut request: Request, image: &Image) -> Result<Container> {
        let random = umiak_base::id::random_hex(6).context("random bytes")?;
        request.name = Some(format!("build-{random}"));
        request.owner = Some(ProcessRef::current().context("look at this process")?);
        request.log.driver = "none".to_owned();
        self.create(request, image)
    }

    /// Starts it.
    pub fn start_build_step(&self, container: Container) -> Result<BuildStep> {
        self.start_build_step_with(container, Attach { stdin: false, stdout: true, stderr: true, close_stdin: false })
    }

    /// Starts it, attached in this way.
    pub fn start_build_step_with(&self, container: Container, wanted: Attach) -> Result<BuildStep> {
        let (ours, theirs) = attach::pair()?;
        self.start_attached(&container, Some((wanted, theirs)))?;
        Ok(BuildStep { container, socket: ours })
    }

    /// Hands on what it says until it ends; its exit code.
    pub fn follow_build_step(&self, step: &BuildStep, output: &mut dyn FnMut(&[u8])) -> Result<i32> {
        let (mut incoming, mut buffer) = (Vec::new(), vec![0_u8; 64 * 1024]);
        loop {
            match rustix::io::read(&step.socket, &mut buffer) {
                Ok(0) | Err(rustix::io::Errno::CONNRESET) => {
                    return Ok(self.wait(&step.container.config.id, None)?.unwrap_or(EXIT_UNKNOWN));
                }
                Ok(count) => incoming.extend_from_slice(&buffer[..count]),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("read from the step"),
            }
            while let Some((kind, payload)) = take_frame(&mut incoming)? {
                match kind {
                    Kind::Stdout | Kind::Stderr => output(&payload),
                    Kind::Exit => return Ok(String::from_utf8_lossy(&payload).parse().unwrap_or(EXIT_UNKNOWN)),
                    _ => {}
                }
            }
        }
    }

    /// Kills what a step runs.
    pub fn end_build_step(&self, id: &str) -> Result<()> {
        match Container::load(&self.roots, id)? {
            Some(container) => self.kill(&container, Signal::KILL),
            None => Ok(()),
        }
    }

    /// Removes the steps of builds whose command has gone.
    pub fn sweep_builds(&self) -> Result<()> {
        for id in super::container::ids(&self.roots)? {
            let Ok(Some(container)) = Container::load(&self.roots, &id) else { continue };
            if container.config.owner.is_some_and(|owner| !owner.alive()) {
                self.remove(&container, true, true)?;
            }
        }
        Ok(())
    }
}
