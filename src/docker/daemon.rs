//! The flags that say which daemon is meant, and how the client behaves. There is none: what means this host is taken,
//! what means another is an error.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::context;
use crate::engine::docker_config;
use crate::failure::{Coded, Plain};

/// Flags before the command.
#[derive(Debug, Args)]
pub struct Flags {
    /// Location of client config files
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// The context to use: default
    #[arg(short, long, value_name = "NAME")]
    context: Option<String>,
    /// Taken for scripts: there is no daemon to debug
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    /// The host to run on: this one, which the socket of its daemon stands for
    #[arg(short = 'H', long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Taken for scripts: there is no daemon to hear from
    #[arg(short, long, value_name = "LEVEL", hide = true)]
    log_level: Option<String>,
    /// Taken for scripts, as are the next ones: nothing goes over a network
    #[arg(long, hide = true)]
    tls: bool,
    #[arg(long, value_name = "FILE", hide = true)]
    tlscacert: Option<PathBuf>,
    #[arg(long, value_name = "FILE", hide = true)]
    tlscert: Option<PathBuf>,
    #[arg(long, value_name = "FILE", hide = true)]
    tlskey: Option<PathBuf>,
    #[arg(long, hide = true)]
    tlsverify: bool,
    /// Print version information and quit
    #[arg(short, long)]
    version: bool,
}

/// The words for how much is told.
const LEVELS: [&str; 7] = ["debug", "info", "warn", "warning", "error", "fatal", "panic"];

/// Where a daemon of this host would be.
const HERE: [&str; 4] = ["", "unix://", "unix:///var/run/docker.sock", "unix:///run/docker.sock"];

impl Flags {
    /// Refuses other hosts and contexts, and settles where settings are read. `starts` says that the command runs
    /// a container, which has an exit code of its own for that.
    pub fn settle(&self, starts: bool) -> Result<()> {
        if let Some(directory) = &self.config {
            docker_config::use_directory(directory.clone());
        }
        let coded = |text: String| Err(Coded { text, code: if starts { 125 } else { 1 } }.into());
        if let Some(level) = self.log_level.as_deref().filter(|level| !LEVELS.contains(level)) {
            return Err(Plain(format!("Unable to parse logging level: {level}")).into());
        }
        if self.hosts.len() > 1 {
            return coded("specify only one -H".to_owned());
        }
        if self.context.is_some() && !self.hosts.is_empty() {
            return coded("conflicting options: cannot specify both --host and --context".to_owned());
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = self.hosts.first().cloned().or_else(|| variable("DOCKER_HOST"));
        if let Some(text) = host.and_then(|host| elsewhere(&host)) {
            return coded(if starts { format!("docker: {text}") } else { text });
        }
        let context = self.context.clone().or_else(|| variable("DOCKER_CONTEXT").filter(|_| self.hosts.is_empty()));
        match context.filter(|name| name != "default") {
            Some(name) => Err(context::unknown(&name)),
            None => Ok(()),
        }
    }
}

/// What is said of a host that is not this one.
pub fn elsewhere(host: &str) -> Option<String> {
    let there = format!(
        "Cannot connect to the Docker daemon at {host}. Is the docker daemon running?\n\
         hint: umiak runs containers on this host, without a daemon; leave out the host, or log in there"
    );
    (!HERE.contains(&host.trim())).then_some(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_can_be_meant() {
        for host in ["", "unix:///var/run/docker.sock", "unix://"] {
            assert_eq!(elsewhere(host), None, "{host}");
        }
        for host in ["tcp://127.0.0.1:2375", "ssh://root@there", "unix:///run/user/1000/docker.sock"] {
            assert!(elsewhere(host).is_some_and(|text| text.contains(host)), "{host}");
        }
    }
}
