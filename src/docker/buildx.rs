//! `docker builder` and `docker buildx`, which Docker made one. There is one builder; what scripts make with `create`
//! are names of it.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::commands::{Context, builder, confirm, image};
use crate::engine::{builders, names};
use crate::failure::Plain;
use crate::out;
use crate::ui::listing::{Listing, Row};

/// The version of Docker's plugin whose language is spoken.
const VERSION: &str = "v0.29.1";

/// The builder's commands.
#[derive(Debug, Subcommand)]
pub enum Buildx {
    /// Start a build
    #[command(visible_alias = "b")]
    Build(Box<image::build::Build>),
    /// Give the builder one more name
    Create(Create),
    /// Disk usage
    Du(builder::du::Du),
    /// Inspect the builder
    Inspect(Inspect),
    /// List the builder's names
    Ls(Ls),
    /// Remove build cache
    Prune(builder::prune::Prune),
    /// Take names of the builder away
    Rm(Rm),
    /// Stop the builder: it runs only while it builds
    Stop(Named),
    /// Set the name in use
    Use(Use),
    /// Show version information
    Version,
}

/// Give the builder one more name. What is about programs that build elsewhere means nothing here.
#[derive(Debug, Args)]
pub struct Create {
    /// The name; made up if none
    #[arg(long)]
    name: Option<String>,
    /// Use it from now on
    #[arg(long = "use")]
    choose: bool,
    /// Driver: docker-container, docker; nothing runs in a container here
    #[arg(long)]
    driver: Option<String>,
    /// Taken for scripts, as are the next ones
    #[arg(long, hide = true)]
    driver_opt: Vec<String>,
    #[arg(long, hide = true)]
    buildkitd_flags: Option<String>,
    #[arg(long, hide = true, alias = "config")]
    buildkitd_config: Option<String>,
    #[arg(long, hide = true)]
    bootstrap: bool,
    #[arg(long, hide = true)]
    platform: Vec<String>,
    #[arg(long, hide = true)]
    node: Option<String>,
    #[arg(long, hide = true)]
    append: bool,
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    /// The host to build on: this one
    #[arg(hide = true)]
    endpoint: Option<String>,
}

/// One of the builder's names.
#[derive(Debug, Args)]
pub struct Named {
    /// The builder, by a name of it
    #[arg(long, hide = true)]
    builder: Option<String>,
    /// Taken for scripts
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    /// The builder, by a name of it; the one in use if none
    name: Option<String>,
}

/// Inspect the builder.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Taken for scripts: nothing has to be started before a build
    #[arg(long, hide = true)]
    bootstrap: bool,
    #[command(flatten)]
    named: Named,
}

/// List the builder's names.
#[derive(Debug, Args)]
pub struct Ls {
    /// Format output: table, json, or a Go template
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: String,
    /// Taken for scripts: nothing is truncated
    #[arg(long, hide = true)]
    no_trunc: bool,
    /// Taken for scripts
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
}

/// Take names of the builder away.
#[derive(Debug, Args)]
pub struct Rm {
    /// All names but default
    #[arg(long)]
    all_inactive: bool,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Taken for scripts: the cache stays, it is that of all builds
    #[arg(long, hide = true)]
    keep_state: bool,
    /// Taken for scripts
    #[arg(long, hide = true)]
    keep_daemon: bool,
    /// The builder, by a name of it
    #[arg(long, hide = true)]
    builder: Option<String>,
    /// Taken for scripts
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    /// Names; the one in use if none
    names: Vec<String>,
}

/// Set the name in use.
#[derive(Debug, Args)]
pub struct Use {
    /// Taken for scripts: there are no contexts for which it could differ
    #[arg(long, hide = true)]
    default: bool,
    /// Taken for scripts
    #[arg(long, hide = true)]
    global: bool,
    #[command(flatten)]
    named: Named,
}

const LISTING: Listing = Listing {
    type_name: "*commands.lsContext",
    headers: &[
        ("Name", "NAME/NODE"),
        ("DriverEndpoint", "DRIVER/ENDPOINT"),
        ("Status", "STATUS"),
        ("Buildkit", "BUILDKIT"),
        ("Platforms", "PLATFORMS"),
    ],
};

impl Buildx {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        match self {
            Self::Build(command) => return command.run(context),
            Self::Du(command) => return command.run(context),
            Self::Prune(command) => return command.run(context),
            Self::Rm(command) => return command.run(context),
            Self::Create(command) => command.run(context)?,
            Self::Inspect(command) => command.run(context)?,
            Self::Ls(command) => command.run(context)?,
            Self::Use(command) => {
                let name = command.named.settle(context)?;
                builders::change(&context.engine.roots, |all| {
                    all.choose(&name);
                    Ok(())
                })?;
            }
            Self::Stop(command) => drop(command.settle(context)?),
            Self::Version => out!("github.com/docker/buildx {VERSION} umiak-{}", env!("CARGO_PKG_VERSION")),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Named {
    /// The name that is meant, which has to be known.
    fn settle(&self, context: &Context) -> Result<String> {
        let all = builders::read(&context.engine.roots)?;
        let asked = self.name.as_deref().or(self.builder.as_deref()).filter(|name| !name.is_empty());
        let name = asked.unwrap_or(all.current()).to_owned();
        match all.knows(&name) {
            true => Ok(name),
            false => Err(Plain(format!("ERROR: no builder \"{name}\" found")).into()),
        }
    }
}

impl Create {
    fn run(self, context: &Context) -> Result<()> {
        let driver = self.driver.as_deref().unwrap_or("docker-container");
        if !matches!(driver, "docker-container" | "docker") {
            return Err(Plain(format!("ERROR: the driver {driver} builds elsewhere: umiak builds on this host")).into());
        }
        if let Some(text) =
            self.endpoint.as_deref().filter(|host| *host != "default").and_then(super::daemon::elsewhere)
        {
            return Err(Plain(format!("ERROR: {text}")).into());
        }
        let roots = &context.engine.roots;
        let name = self.name.map_or_else(|| names::invent(roots).map(|name| name.replace('-', "_")), Ok)?;
        builders::change(roots, |all| {
            if all.knows(&name) && !self.append {
                let text = format!(
                    "ERROR: existing instance for \"{name}\" but no append mode, specify the node name to make changes for existing instances"
                );
                return Err(Plain(text).into());
            }
            all.add(&name);
            if self.choose {
                all.choose(&name);
            }
            Ok(())
        })?;
        crate::note!(
            "WARNING: {name} is one more name of the builder of this host: options of drivers mean nothing here"
        );
        out!("{name}");
        Ok(())
    }
}

impl Inspect {
    fn run(self, context: &Context) -> Result<()> {
        let name = self.named.settle(context)?;
        let driver = if name == builders::DEFAULT { "docker" } else { "docker-container" };
        out!("Name:   {name}\nDriver: {driver}\n\nNodes:");
        out!("Name:             {}\nEndpoint:         {}", node(&name), endpoint(&name));
        out!("Status:           running\nBuildKit version: umiak-{}", env!("CARGO_PKG_VERSION"));
        out!("Platforms:        {}", platform());
        Ok(())
    }
}

impl Ls {
    fn run(self, context: &Context) -> Result<()> {
        let all = builders::read(&context.engine.roots)?;
        let table = self.format.starts_with("table");
        let mut rows = Vec::new();
        let mut own: Vec<&str> = all.names.iter().map(String::as_str).collect();
        own.push(builders::DEFAULT);
        own.sort_by_key(|name| *name != all.current());
        for name in own {
            let star = if table && name == all.current() { "*" } else { "" };
            let branch = if table { " \\_ " } else { "" };
            let driver = if name == builders::DEFAULT { "docker" } else { "docker-container" };
            let row = |name: String, driver: String, known: [&str; 3]| {
                Row::new([
                    ("Name", json!(name)),
                    ("DriverEndpoint", json!(driver)),
                    ("Status", json!(known[0])),
                    ("Buildkit", json!(known[1])),
                    ("Platforms", json!(known[2])),
                ])
            };
            rows.push(row(format!("{name}{star}"), driver.to_owned(), [""; 3]));
            let version = concat!("umiak-", env!("CARGO_PKG_VERSION"));
            let known = ["running", version, &platform()];
            rows.push(row(format!("{branch}{}", node(name)), format!("{branch}{}", endpoint(name)), known));
        }
        let format = Some(self.format.as_str()).filter(|format| *format != "table");
        LISTING.print(format, &["Name", "DriverEndpoint", "Status", "Buildkit", "Platforms"], &rows)
    }
}

/// What Docker calls the one node of a builder.
fn node(name: &str) -> String {
    if name == builders::DEFAULT { name.to_owned() } else { format!("{name}0") }
}

fn endpoint(name: &str) -> &'static str {
    if name == builders::DEFAULT { "default" } else { "unix:///var/run/docker.sock" }
}

fn platform() -> String {
    format!("linux/{}", super::version::architecture())
}

impl Rm {
    fn run(self, context: &Context) -> Result<ExitCode> {
        let roots = &context.engine.roots;
        let mut wanted = self.names;
        wanted.extend(self.builder);
        let all = builders::read(roots)?;
        if self.all_inactive {
            if !wanted.is_empty() {
                bail!("cannot specify builder name when --all-inactive is set");
            }
            let question = "This will remove all builders that are not in running state.";
            if !self.force && !confirm(question)? {
                return Ok(ExitCode::SUCCESS);
            }
            wanted.clone_from(&all.names);
        } else if wanted.is_empty() {
            wanted.push(all.current().to_owned());
        }
        let mut failed = false;
        for name in &wanted {
            let removed = builders::change(roots, |all| match all.knows(name) {
                _ if name == builders::DEFAULT => bail!("context builder cannot be removed"),
                true => {
                    all.forget(name);
                    Ok(())
                }
                false => bail!("no builder \"{name}\" found"),
            });
            match removed {
                Ok(()) => crate::note!("{name} removed"),
                Err(error) => {
                    failed = true;
                    crate::note!("failed to remove {name}: {}", crate::failure::one_line(&error));
                }
            }
        }
        if failed {
            return Err(Plain("ERROR: failed to remove one or more builders".into()).into());
        }
        Ok(ExitCode::SUCCESS)
    }
}
