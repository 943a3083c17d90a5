//! The command line: one file per verb. Docker Compose's verbs stand at the
//! top, the engine's objects are groups.

mod attach;
pub mod booleans;
mod build;
pub mod builder;
mod commit;
pub mod completion;
mod config;
pub mod container;
mod cp;
mod create;
mod dotenv;
mod down;
mod events;
mod exec;
mod explain;
mod export;
pub mod filters;
mod graph;
pub mod image;
mod images;
pub mod inspect;
mod kill;
mod later;
mod lock;
pub mod login;
pub mod logs;
mod ls;
pub mod network;
pub mod operands;
mod pause;
mod plan;
mod plan_flags;
mod port;
mod ps;
mod publish;
mod pull;
mod push;
mod restart;
mod rm;
mod run;
mod scale;
mod start;
mod stats;
mod stop;
pub mod system;
mod top;
mod up;
pub mod version;
pub mod volume;
mod volumes;
mod wait;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::engine::{Engine, Roots};
use crate::failure::Coded;
pub use crate::outfile::{archive_output, piped, refuse_terminal};
use crate::ui::Ansi;
use crate::ui::progress::{Mode, Progress};

/// Runs Docker Compose stacks on Linux, without a daemon.
#[derive(Debug, Parser)]
#[command(
    name = "umiak",
    version,
    max_term_width = 120,
    subcommand_required = true,
    arg_required_else_help = true,
    args_override_self = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What holds for every command.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Global {
    /// Compose configuration files
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Project name
    #[arg(short = 'p', long, value_name = "NAME")]
    pub project_name: Option<String>,
    /// Alternate working directory (default: the directory of the first Compose file)
    #[arg(long, value_name = "DIR")]
    pub project_directory: Option<PathBuf>,
    /// Profiles to enable
    #[arg(long = "profile", value_name = "PROFILE")]
    pub profiles: Vec<String>,
    /// Environment files instead of .env
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
    /// Include all networks, volumes, configs and secrets, even those that no service uses
    #[arg(long)]
    pub all_resources: bool,
    /// Names with _ instead of -, as the first Docker Compose made them
    #[arg(long, env = "COMPOSE_COMPATIBILITY", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub compatibility: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto", env = "COMPOSE_PROGRESS", hide_env = true)]
    pub progress: Mode,
    /// The older name of `--ansi never`
    #[arg(long, hide = true)]
    pub no_ansi: bool,
    /// The older name of `--project-directory`
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "project_directory")]
    pub workdir: Option<PathBuf>,
    /// Docker Compose takes it; everything is said without it, too
    #[arg(long, hide = true)]
    pub verbose: bool,
    /// When colours and cursor movements are used
    #[arg(long, value_enum, default_value = "auto", env = "COMPOSE_ANSI", hide_env = true)]
    pub ansi: Ansi,
    /// Control max parallelism, -1 for unlimited
    #[arg(long, value_name = "N", env = "COMPOSE_PARALLEL_LIMIT", hide_env = true, allow_negative_numbers = true)]
    pub parallel: Option<i64>,
    /// Show what would be done, and do nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Where images, volumes and containers are kept
    #[arg(long, value_name = "DIR", env = "UMIAK_ROOT", default_value = "/var/lib/umiak")]
    pub root: PathBuf,
    /// Where sockets, locks and namespaces of running containers are kept
    #[arg(long, value_name = "DIR", env = "UMIAK_RUN_ROOT", default_value = "/run/umiak")]
    pub run_root: PathBuf,
    /// Registries: mirrors, plain http, CA files
    #[arg(long, value_name = "FILE", env = "UMIAK_REGISTRIES", default_value = "/etc/umiak/registries.toml")]
    pub registries: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create and start containers
    Up(up::Up),
    /// Create containers for a service
    Create(create::Create),
    /// Build or rebuild services
    Build(build::Build),
    /// Stop and remove containers and networks
    Down(down::Down),
    /// Show what `up` would do, and why
    Plan(plan::PlanCommand),
    /// Scale services
    Scale(scale::Scale),
    /// List containers of the project
    Ps(ps::Ps),
    /// View output from containers
    Logs(logs::Logs),
    /// Receive real time events from containers
    Events(events::Events),
    /// Say why services are as they are, and what to try
    Explain(explain::Explain),
    /// Execute a command in a running container
    Exec(exec::Exec),
    /// Run a one-off command on a service
    Run(Box<run::Run>),
    /// Attach local standard input, output, and error streams to a service's running container
    Attach(attach::Attach),
    /// Draw services, what they depend on, their networks and their health
    Graph(graph::Graph),
    /// Block until containers of all (or specified) services stop
    Wait(wait::Wait),
    /// Watch build context for service and rebuild/refresh containers when files are updated
    Watch(watch::Watch),
    /// Stop services
    Stop(stop::Stop),
    /// Start services
    Start(start::Start),
    /// Restart services
    Restart(restart::Restart),
    /// Create a new image from a service container's changes
    Commit(commit::Commit),
    /// Copy files/folders between a service container and the local filesystem
    Cp(cp::Cp),
    /// Export a service container's filesystem as a tar archive
    Export(export::Export),
    /// Force stop service containers
    Kill(kill::Kill),
    /// Remove stopped service containers
    Rm(rm::Rm),
    /// Pull service images
    Pull(pull::Pull),
    /// Push service images
    Push(push::Push),
    /// Publish the project to a registry, for others to run it from there
    Publish(publish::Publish),
    /// List images used by the created containers
    Images(images::Images),
    /// Pause services
    Pause(pause::Pause),
    /// Unpause services
    Unpause(pause::Unpause),
    /// List volumes
    Volumes(volumes::Volumes),
    /// Print the public port for a port binding
    Port(port::Port),
    /// Display a live stream of container(s) resource usage statistics
    Stats(stats::Stats),
    /// Display the running processes
    Top(top::Top),
    /// Write down which images the names of the project stand for
    Lock(lock::LockCommand),
    /// Authenticate to a registry
    Login(login::Login),
    /// Log out from a registry
    Logout(login::Logout),
    /// List running projects
    Ls(ls::Ls),
    /// Show the version
    Version(version::Version),
    /// Generate the autocompletion script for a shell
    Completion(completion::Completion),
    /// Write the manual pages, one for each command
    #[command(hide = true)]
    Man(completion::Man),
    /// Parse, resolve and render the Compose files in canonical format
    #[command(visible_alias = "convert")]
    Config(config::Config),
    /// Manage the build cache
    #[command(subcommand)]
    Builder(builder::Builder),
    /// Manage single containers
    #[command(subcommand)]
    Container(container::Container),
    /// Manage images
    #[command(subcommand)]
    Image(image::Image),
    /// Manage networks
    #[command(subcommand)]
    Network(network::Network),
    /// Manage umiak as a whole
    #[command(subcommand)]
    System(system::System),
    /// Manage volumes
    #[command(subcommand)]
    Volume(volume::Volume),
}

/// The form of what is listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For scripts: one object per line, or one array.
    Json,
}

/// What a command works with.
#[derive(Debug)]
pub struct Context {
    /// The global flags.
    pub global: Global,
    /// Containers, images, networks, volumes.
    pub engine: Engine,
}

impl Global {
    /// What the flags mean that have other names now.
    fn settle_older_names(&mut self) {
        if self.no_ansi {
            self.ansi = Ansi::Never;
        }
        if let Some(directory) = self.workdir.take() {
            self.project_directory = Some(directory);
        }
    }
}

impl Context {
    /// Opens what lies below the roots.
    pub fn new(global: Global) -> Result<Self> {
        require_root()?;
        let context = Self::unprepared(global)?;
        if !context.global.dry_run {
            context.engine.roots.prepare()?;
        }
        Ok(context)
    }

    /// For commands that need nothing below the roots.
    fn unprepared(global: Global) -> Result<Self> {
        if global.compatibility {
            crate::project::names::use_underscores();
        }
        let roots = Roots { data: absolute(&global.root)?, run: absolute(&global.run_root)? };
        crate::failure::set_data_root(&roots.data);
        let engine = Engine::new(roots, global.registries.clone());
        Ok(Self { global, engine })
    }

    /// Progress as the global flags ask for it.
    pub fn progress(&self) -> Progress {
        let progress = Progress::new(self.global.progress, self.global.ansi);
        if self.global.dry_run { progress.of_dry_run() } else { progress }
    }

    /// Does something, unless it is only to be shown.
    pub fn act(&self, act: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.global.dry_run { Ok(()) } else { act() }
    }

    /// Holds off other commands that change a project; a dry run changes nothing and holds off nobody.
    pub fn lock_project(&self, name: &str) -> Result<Option<umiak_base::FileLock>> {
        if self.global.dry_run { Ok(None) } else { self.engine.lock_project(name).map(Some) }
    }

    /// How many things are done at a time.
    pub fn workers(&self) -> usize {
        match self.global.parallel {
            None | Some(0) => crate::project::apply::WORKERS,
            Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        }
    }
}

/// All commands and their flags.
pub fn tree() -> clap::Command {
    let dry_run = || clap::Arg::new("dry_run").long("dry-run").action(clap::ArgAction::SetTrue).hide(true);
    let mut command = Cli::command();
    // It is a flag of what is done with a project, and is refused with others: there it is not in the way.
    for group in ["container", "image", "network", "volume"] {
        command = command.mut_subcommand(group, |group| group.arg(dry_run()));
    }
    for alone in ["attach", "completion", "man", "watch"] {
        command = command.mut_subcommand(alone, |alone| alone.arg(dry_run()));
    }
    command.mut_subcommand("system", |system| {
        system.mut_subcommands(|inner| if inner.get_name() == "boot" { inner } else { inner.arg(dry_run()) })
    })
}

/// Parses the command line and runs the command. `name` is what the program is called, like `docker compose`.
pub fn run(name: &'static str, arguments: Vec<OsString>) -> Result<ExitCode> {
    let mut command = tree().name(name).bin_name(name);
    if name != "umiak" {
        // Objects of the engine are Docker's own commands.
        for group in ["container", "image", "login", "logout", "network", "system", "volume"] {
            command = command.mut_subcommand(group, |group| group.hide(true));
        }
    }
    let first = arguments.first().and_then(|word| word.to_str());
    if name != "umiak" && matches!(first, Some("-v" | "--version")) {
        crate::out!("{}", version::of_compose());
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = operands::separated(&command, arguments);
    let arguments: Vec<OsString> = std::iter::once(OsString::from(name)).chain(arguments).collect();
    let known = command.clone();
    let matches = match booleans::with_values(command, &arguments).try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => match later::explain(&error) {
            Some(explained) => return Err(explained),
            None if name != "umiak" || error.kind() == clap::error::ErrorKind::MissingSubcommand => {
                return crate::docker::usage::of_compose(&error, &known, arguments.get(1..).unwrap_or_default());
            }
            None => error.exit(),
        },
    };
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    cli.global.settle_older_names();
    dotenv::complete(&mut cli.global, &matches);
    match &cli.command {
        Command::Version(command) => return command.run(),
        Command::Completion(command) => return command.run(),
        Command::Man(command) => return command.run(),
        // Whose credentials they are is whose home directory it is, not only root's.
        Command::Login(_) | Command::Logout(_) if cli.global.dry_run => refuse_dry_run(&cli.command)?,
        Command::Logout(_) | Command::Login(_) => return log_in_or_out(cli.command, &cli.global.registries),
        _ => {}
    }
    if cli.global.dry_run {
        refuse_dry_run(&cli.command)?;
    }
    // They need nothing below the roots.
    match &cli.command {
        Command::System(system::System::InstallAliases(command)) => return command.run(),
        Command::System(system::System::Enable(command)) => return command.run(&cli.global),
        Command::System(system::System::Disable(command)) => return command.run(),
        _ => {}
    }
    // A model is shown to everybody, and changes nothing.
    let context = match &cli.command {
        Command::Config(_) => Context::unprepared(cli.global)?,
        _ => Context::new(cli.global)?,
    };
    dispatch(cli.command, &context)
}

fn dispatch(command: Command, context: &Context) -> Result<ExitCode> {
    match command {
        Command::Up(command) => command.run(context),
        Command::Create(command) => command.run(context),
        Command::Build(command) => command.run(context),
        Command::Down(command) => command.run(context),
        Command::Plan(command) => command.run(context),
        Command::Scale(command) => command.run(context),
        Command::Ps(command) => command.run(context),
        Command::Logs(command) => command.run(context),
        Command::Events(command) => command.run(context),
        Command::Exec(command) => command.run(context),
        Command::Explain(command) => command.run(context),
        Command::Run(command) => command.run(context),
        Command::Attach(command) => command.run(context),
        Command::Wait(command) => command.run(context),
        Command::Watch(command) => command.run(context),
        Command::Stop(command) => command.run(context),
        Command::Start(command) => command.run(context),
        Command::Restart(command) => command.run(context),
        Command::Commit(command) => command.run(context),
        Command::Cp(command) => command.run(context),
        Command::Export(command) => command.run(context),
        Command::Kill(command) => command.run(context),
        Command::Rm(command) => command.run(context),
        Command::Pull(command) => command.run(context),
        Command::Push(command) => command.run(context),
        Command::Publish(command) => command.run(context),
        Command::Graph(command) => command.run(context),
        Command::Images(command) => command.run(context),
        Command::Pause(command) => command.run(context),
        Command::Unpause(command) => command.run(context),
        Command::Volumes(command) => command.run(context),
        Command::Port(command) => command.run(context),
        Command::Stats(command) => command.run(context),
        Command::Top(command) => command.run(context),
        Command::Lock(command) => command.run(context),
        Command::Login(command) => command.run(&context.global.registries),
        Command::Logout(command) => command.run(),
        Command::Ls(command) => command.run(context),
        Command::Version(command) => command.run(),
        Command::Completion(command) => command.run(),
        Command::Man(command) => command.run(),
        Command::Config(command) => command.run(context),
        Command::Builder(command) => command.run(context),
        Command::Container(command) => command.run(context),
        Command::Image(command) => command.run(context),
        Command::Network(command) => command.run(context),
        Command::System(command) => command.run(context),
        Command::Volume(command) => command.run(context),
    }
}

fn log_in_or_out(command: Command, registries: &std::path::Path) -> Result<ExitCode> {
    match command {
        Command::Login(command) => command.run(registries),
        Command::Logout(command) => command.run(),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The moment of `--filter until=…`: a date, or a span before now.
fn until(filters: &filters::Filters) -> Result<Option<jiff::Timestamp>> {
    use umiak_runtime::logs::{Time, parse_time};
    let Some(text) = filters.values("until").last() else { return Ok(None) };
    let nanoseconds = parse_time(text, Time::now())?.nanoseconds();
    Ok(Some(jiff::Timestamp::from_nanosecond(i128::from(nanoseconds))?))
}

/// A dry run is only of commands that know of it, or change nothing anyway.
fn refuse_dry_run(command: &Command) -> Result<()> {
    match command {
        Command::Up(_)
        | Command::Build(_)
        | Command::Commit(_)
        | Command::Config(_)
        | Command::Cp(_)
        | Command::Create(_)
        | Command::Down(_)
        | Command::Events(_)
        | Command::Exec(_)
        | Command::Explain(_)
        | Command::Export(_)
        | Command::Graph(_)
        | Command::Images(_)
        | Command::Kill(_)
        | Command::Lock(_)
        | Command::Logs(_)
        | Command::Ls(_)
        | Command::Pause(_)
        | Command::Plan(_)
        | Command::Port(_)
        | Command::Ps(_)
        | Command::Pull(_)
        | Command::Publish(_)
        | Command::Push(_)
        | Command::Restart(_)
        | Command::Rm(_)
        | Command::Run(_)
        | Command::Scale(_)
        | Command::Start(_)
        | Command::Stop(_)
        | Command::Stats(_)
        | Command::Top(_)
        | Command::Unpause(_)
        | Command::Version(_)
        | Command::Volumes(_)
        | Command::Wait(_)
        | Command::System(system::System::Boot(_)) => Ok(()),
        _ => anyhow::bail!("this command cannot be shown without being run: --dry-run is for commands of projects"),
    }
}

/// Asks before something is lost; the answer may come through a pipe. At its end nobody can answer: as in Docker that
/// is a no under its names, and an error under ours. Docker's scripts find the question on stdout.
pub fn confirm(what: &str) -> Result<bool> {
    use crate::personality::Personality;
    use std::io::Write as _;
    let question = format!("WARNING! {what}\nAre you sure you want to continue? [y/N] ");
    let personality = Personality::current();
    let _ = match personality {
        Personality::Docker => write!(std::io::stdout(), "{question}").and_then(|()| std::io::stdout().flush()),
        Personality::Own | Personality::Compose => write!(std::io::stderr(), "{question}"),
    };
    let mut answer = String::new();
    if std::io::stdin().read_line(&mut answer)? == 0 && personality == Personality::Own {
        anyhow::bail!("nobody is there to confirm it: use --force");
    }
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn absolute(path: &std::path::Path) -> Result<PathBuf> {
    use anyhow::Context as _;
    std::path::absolute(path).with_context(|| format!("make {} absolute", path.display()))
}

/// Namespaces, cgroups and the firewall need root; said before anything is tried.
fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = "umiak needs root: it makes namespaces, control groups and firewall rules".to_owned();
    Err(anyhow::Error::new(Coded { text, code: 1 })
        .context(crate::failure::Hint(format!("sudo umiak {}", arguments.join(" ")))))
}
