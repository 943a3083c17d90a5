//! The flags of the commands that start a container and stay with it.

use std::io::IsTerminal as _;

use anyhow::Result;
use clap::Args;

use crate::engine::attach::How;
use crate::engine::detach;
use crate::failure::Plain;

/// How a container in the foreground is left, and what signals do.
#[derive(Debug, Args)]
pub struct Foreground {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Proxy all received signals to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
}

impl Foreground {
    /// The same for the engine.
    pub fn how(&self) -> Result<How> {
        Ok(How { detach_keys: detach::keys(&self.detach_keys)?, pass_signals: self.sig_proxy })
    }
}

/// Refuses to give a program with a terminal the input of something that is none, as Docker does.
///
/// # Errors
/// When both are asked for and stdin is no terminal.
pub fn check_terminal(stdin: bool, tty: bool) -> Result<()> {
    match stdin && tty && !std::io::stdin().is_terminal() {
        true => Err(Plain("the input device is not a TTY".into()).into()),
        false => Ok(()),
    }
}
