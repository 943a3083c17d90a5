//! `logs`.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use umiak_runtime::logs::{Query, Time, parse_time};

use super::Context;
use crate::engine::logs;
use crate::personality::Personality;
use crate::project::follow::{Announce, Follow, Newcomers, Options};
use crate::project::{load, names, observe};
use crate::ui::logs::Prefixes;

/// Which lines, for `logs` and `container logs` alike.
#[derive(Debug, Args)]
pub struct Selection {
    /// Follow log output
    #[arg(short, long)]
    pub follow: bool,
    /// Number of lines to show from the end of the logs for each container, or all
    #[arg(short = 'n', long, default_value = "all", value_name = "N", allow_hyphen_values = true)]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs since timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Show logs before a timestamp or relative
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
}

impl Selection {
    /// As options for following.
    pub fn options(&self) -> Result<Options> {
        // As Docker: empty is unsaid, and no log has an end in 1970.
        let said = |text: &&str| !text.is_empty() && *text != "0";
        let time =
            |text: &Option<String>| text.as_deref().filter(said).map(|text| parse_time(text, Time::now())).transpose();
        let tail = match self.tail.as_str() {
            "all" => None,
            // As Docker: a negative number means all.
            text if text.starts_with('-') => None,
            // … and so does what is no number, to its daemon.
            text if Personality::current() == Personality::Docker && text.parse::<u64>().is_err() => None,
            text => Some(text.parse().with_context(|| format!("invalid value for --tail: {text}"))?),
        };
        let (since, until) = (time(&self.since)?, time(&self.until)?);
        let query = Query { tail, since, until, follow: self.follow, ..Query::default() };
        Ok(Options { query, timestamps: self.timestamps, ..Options::default() })
    }
}

/// View output from containers.
#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    which: Selection,
    /// Produce monochrome output
    #[arg(long)]
    no_color: bool,
    /// Don't print prefix in logs
    #[arg(long)]
    no_log_prefix: bool,
    /// Index of the container if the service has multiple replicas
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// Services; all if none
    services: Vec<String>,
}

impl Logs {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &self.services)?;
        // Before looking at what is there: nothing that starts then is missed.
        let chosen = |service: &str| self.services.is_empty() || self.services.iter().any(|name| name == service);
        let newcomers = match self.which.follow && self.index.is_none() {
            true => Some(Newcomers::new(&context.engine, &project.name, chosen)?),
            false => None,
        };
        let members = observe::members(&context.engine, &project.name)?;
        let mut members = observe::select(members, &self.services, &|name| project.knows(name))?;
        if let Some(index) = self.index {
            let [service] = self.services.as_slice() else { bail!("--index requires one service to be selected") };
            members.retain(|member| member.number == index);
            if members.is_empty() {
                bail!("service \"{service}\" is not running container #{index}");
            }
        }
        let mut readable = Vec::new();
        for member in members {
            if logs::unreadable(&member.container.config)? {
                crate::note!("warning: no logs of {}: {}", member.container.config.name, logs::UNREADABLE);
            } else {
                readable.push(member);
            }
        }
        let members = readable;
        let name = |member: &observe::Member| names::in_logs(&project.name, &member.container.config.name).to_owned();
        let all_names: Vec<String> = members.iter().map(name).collect();
        let colour = !self.no_color && context.global.ansi.stdout();
        let prefixes = Prefixes::new(all_names.iter().map(String::as_str), colour, !self.no_log_prefix);
        let options = Options { announce: Announce::WhatComes, ..self.which.options()? };
        let mut follow = Follow::new(&context.engine, options, prefixes)?;
        newcomers.into_iter().for_each(|newcomers| follow.accompany(newcomers));
        for (member, name) in members.iter().zip(all_names) {
            follow.add(&member.container, name)?;
        }
        follow.run(self.which.follow)?;
        Ok(ExitCode::SUCCESS)
    }
}
