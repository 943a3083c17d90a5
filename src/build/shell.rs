//! `--debug-shell`: a shell in the state before the RUN that failed.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use umiak_images::store::Image;

use super::Build;
use crate::engine::attach::How;
use crate::engine::request::Request;
use crate::monitor::protocol::Attach;

/// There is one terminal: of several builds that fail at once, one after the other has it.
static TERMINAL: Mutex<()> = Mutex::new(());

/// Whether a shell is of any use.
pub fn is_wanted(build: &Build<'_>) -> bool {
    build.options.debug_shell && std::io::stdin().is_terminal()
}

/// Opens it; returns when it has ended. `request` is that of the command that failed, with all its mounts.
pub fn open(build: &Build<'_>, mut request: Request, image: &Image, shell: &[String]) -> Result<()> {
    let _terminal = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
    let _suspended = build.display.suspend();
    let shell = shell.first().cloned().unwrap_or_else(|| "/bin/sh".to_owned());
    crate::note!("Opening {shell} in the state before this step (the build ends when it does)");
    request.command = Some(vec![shell]);
    request.runtime.tty = true;
    if !request.env.iter().any(|(name, _)| name == "TERM") {
        request.env.push(("TERM".to_owned(), Some("xterm".to_owned())));
    }
    let engine = build.engine;
    let container = engine.create_build_step(request, image)?;
    let id = container.config.id.clone();
    build.begun(&id);
    let wanted = Attach { stdin: true, stdout: true, stderr: true, close_stdin: true };
    let how = How { pass_signals: false, ..How::default() };
    let result = engine.start_build_step_with(container.clone(), wanted).and_then(|step| {
        let left = engine.converse(&step.container, step.socket(), wanted, how);
        left.map(drop).context("attach to the shell")
    });
    build.ended(&id);
    engine.remove(&container, true, true)?;
    result
}
