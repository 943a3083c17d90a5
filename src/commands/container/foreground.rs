//! The flags of the commands that start a container and stay with it.

use anyhow::Result;
use clap::Args;

use crate::engine::attach::How;
use crate::engine::detach;

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
