//! `up --menu`: keys while the logs are shown.

use std::io::IsTerminal as _;
use std::os::fd::BorrowedFd;
use std::process::Child;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::engine::attach::RawTerminal;
use crate::engine::wait::readable;

/// The keys, and the terminal that gives them one by one.
pub struct Menu {
    _terminal: RawTerminal,
    over: bool,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Leave the containers running.
    Detach,
    /// Begin or end to watch files.
    Watch,
}

impl Menu {
    /// Says what keys there are. `None` where there are no keys: input or output is no terminal.
    pub fn open() -> Result<Option<Self>> {
        if !std::io::stdout().is_terminal() {
            return Ok(None);
        }
        let Some(terminal) = RawTerminal::enter_keys()? else { return Ok(None) };
        crate::note!("Keys: w watches files or ends that, d detaches, Ctrl-C stops");
        Ok(Some(Self { _terminal: terminal, over: false }))
    }

    /// To wait for a key.
    pub fn fd(&self) -> Option<BorrowedFd<'static>> {
        (!self.over).then(rustix::stdio::stdin)
    }

    /// What the keys ask for that have been pressed.
    pub fn wishes(&mut self) -> Result<Vec<Wish>> {
        let mut wishes = Vec::new();
        while let Some(stdin) = self.fd() {
            if !readable(&[stdin], Some(Instant::now()))? {
                break;
            }
            let mut keys = [0; 16];
            let count = rustix::io::read(stdin, &mut keys).context("read a key")?;
            // The terminal has gone.
            self.over = count == 0;
            wishes.extend(keys.iter().take(count).filter_map(|key| wish(*key)));
        }
        Ok(wishes)
    }
}

const fn wish(key: u8) -> Option<Wish> {
    match key {
        b'd' | b'D' => Some(Wish::Detach),
        b'w' | b'W' => Some(Wish::Watch),
        _ => None,
    }
}

/// Ends `watch` and waits until it has.
pub fn end_watch(watching: Option<Child>) -> Result<()> {
    if let Some(mut watch) = watching {
        let _ = nix::sys::signal::kill(Pid::from_raw(i32::try_from(watch.id())?), Signal::SIGINT);
        let _ = watch.wait();
    }
    Ok(())
}
