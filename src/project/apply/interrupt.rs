//! Ctrl-C while a plan is carried out: no new step begins, what runs comes to its
//! end, and what was made is taken back as after any failure. A second one ends
//! the program where it stands.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

use crate::engine::attach;
use crate::engine::wait::readable;
use crate::failure::Coded;

const SIGNALS: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];

const INTERRUPTED: &str = "interrupted";

/// Whether an error is [`Interrupt::check`]'s.
pub fn is_told_by(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Coded>().is_some_and(|coded| coded.text == INTERRUPTED)
}

/// While it is there, these signals do not end the program. To be made before the threads that it is for.
#[derive(Debug)]
pub struct Interrupt {
    /// What the thread has blocked without it.
    before: SigSet,
    signals: SignalFd,
    told: PipeReader,
    teller: Mutex<Option<PipeWriter>>,
}

impl Interrupt {
    /// From now on.
    pub fn new() -> Result<Self> {
        let (told, teller) = std::io::pipe().context("make a pipe")?;
        let before = SigSet::thread_get_mask().context("read the signal mask")?;
        Ok(Self { before, signals: attach::signals(&SIGNALS)?, told, teller: Mutex::new(Some(teller)) })
    }

    /// Signals stay as they are for whoever reads them next, without a moment in which one would end the program.
    pub fn leave_to_others(mut self) -> Result<()> {
        self.before = SigSet::thread_get_mask().context("read the signal mask")?;
        Ok(())
    }

    /// Becomes readable when a signal has come that nobody has taken.
    pub fn signals(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// Takes a signal, if one has come: an error then, with the exit code of a program that it ended.
    pub fn check(&self) -> Result<()> {
        let Some(info) = self.signals.read_signal().context("read the signalfd")? else { return Ok(()) };
        // The next one takes its default course, in this thread.
        let _ = SIGNALS.iter().copied().collect::<SigSet>().thread_unblock();
        crate::note!("Interrupted: what runs comes to its end (press Ctrl+C again to end at once)");
        super::lock(&self.teller).take();
        let code = 128 + i32::try_from(info.ssi_signo).unwrap_or(0);
        Err(Coded { text: INTERRUPTED.to_owned(), code }.into())
    }

    /// Becomes readable for good when a signal was taken.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }

    /// Whether a signal was taken.
    pub fn has_come(&self) -> bool {
        readable(&[self.fd()], Some(std::time::Instant::now())).unwrap_or(false)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}
