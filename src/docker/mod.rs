//! The command line of `docker`: the same commands as umiak's groups, under
//! Docker's names, with Docker's words for a command line that is wrong.

mod buildx;
mod context;
pub mod daemon;
pub mod usage;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::commands::{self, Context, Global, container, image, inspect, login, network, system, volume};
use crate::out;
use crate::personality::DOCKER_VERSION;

/// Containers, images, networks and volumes in Docker's language, without a daemon.
#[derive(Debug, Parser)]
#[command(
    name = "docker",
    max_term_width = 120,
    subcommand_required = true,
    arg_required_else_help = true,
    args_override_self = true,
    disable_version_flag = true
)]
struct Cli {
    #[command(flatten)]
    global: daemon::Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create and run a new container from an image
    Run(Box<container::run::Run>),
    /// Execute a command in a running container
    Exec(container::exec::Exec),
    /// List containers
    Ps(container::ls::Ls),
    /// Build an image from a Dockerfile
    Build(Box<image::build::Build>),
    /// Download an image from a registry
    Pull(image::Pull),
    /// Upload an image to a registry
    Push(image::push::Push),
    /// List images
    Images(image::ls::Ls),
    /// Authenticate to a registry
    Login(login::Login),
    /// Log out from a registry
    Logout(login::Logout),
    /// Show the Docker version information
    Version(version::Version),
    /// Display system-wide information
    Info(system::info::Info),
    /// Define and run multi-container applications
    #[command(disable_help_flag = true)]
    Compose(Rest),
    /// Manage builds
    #[command(subcommand)]
    Builder(buildx::Buildx),
    /// Docker Buildx
    #[command(subcommand)]
    Buildx(buildx::Buildx),
    /// Manage containers
    #[command(subcommand)]
    Container(container::Container),
    /// Manage contexts
    #[command(subcommand)]
    Context(context::Command),
    /// Manage images
    #[command(subcommand)]
    Image(image::Image),
    /// Manage networks
    #[command(subcommand)]
    Network(network::Network),
    /// Manage the system
    #[command(subcommand)]
    System(system::System),
    /// Manage volumes
    #[command(subcommand)]
    Volume(volume::Volume),
    /// Attach local standard input, output, and error streams to a running container
    Attach(container::attach::Attach),
    /// Create a new image from a container's changes
    Commit(container::files::Commit),
    /// Copy files/folders between a container and the local filesystem
    Cp(container::cp::Cp),
    /// Inspect changes to files or directories on a container's filesystem
    Diff(container::files::Diff),
    /// Export a container's filesystem as a tar archive
    Export(container::files::Export),
    /// Rename a container
    Rename(container::files::Rename),
    /// Create a new container
    Create(Box<container::create::Create>),
    /// Get real time events
    Events(system::events::Events),
    /// Show the history of an image
    History(image::history::History),
    /// Import the contents from a tarball to create a filesystem image
    Import(image::import::Import),
    /// Return low-level information on objects
    Inspect(inspect::Inspect),
    /// Kill one or more running containers
    Kill(container::lifecycle::Kill),
    /// Load an image from a tar archive or STDIN
    Load(image::archive::Load),
    /// Fetch the logs of a container
    Logs(container::logs::Logs),
    /// Pause all processes within one or more containers
    Pause(container::lifecycle::Pause),
    /// List port mappings or a specific mapping for the container
    Port(container::port::Port),
    /// Restart one or more containers
    Restart(container::restart::Restart),
    /// Remove one or more containers
    Rm(container::lifecycle::Rm),
    /// Remove one or more images
    Rmi(image::Rm),
    /// Save one or more images to a tar archive
    Save(image::archive::Save),
    /// Start one or more stopped containers
    Start(container::start::Start),
    /// Display a live stream of container(s) resource usage statistics
    Stats(container::stats::Stats),
    /// Stop one or more running containers
    Stop(container::lifecycle::Stop),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(image::Tag),
    /// Display the running processes of a container
    Top(container::top::Top),
    /// Update configuration of one or more containers
    Update(container::update::Update),
    /// Unpause all processes within one or more containers
    Unpause(container::lifecycle::Unpause),
    /// Block until one or more containers stop, then print their exit codes
    Wait(container::lifecycle::Wait),
}

/// What another command line takes.
#[derive(Debug, Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// The settings that umiak has flags for come from the environment here.
#[derive(Debug, Parser)]
struct Settings {
    #[command(flatten)]
    global: Global,
}

/// Parses the command line and runs the command.
pub fn run() -> Result<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let wants_version = matches!(arguments.first().and_then(|word| word.to_str()), Some("-v" | "--version"));
    if wants_version {
        out!("Docker version {DOCKER_VERSION}, build umiak-{}", env!("CARGO_PKG_VERSION"));
        return Ok(ExitCode::SUCCESS);
    }
    let command = with_any_values(Cli::command());
    let arguments = commands::operands::separated(&command, arguments);
    let all = std::iter::once(OsString::from("docker")).chain(arguments.iter().cloned());
    let matches = match commands::booleans::with_values(command, &arguments).try_get_matches_from(all) {
        Ok(matches) => matches,
        Err(error) => return usage::explain(&error, &arguments),
    };
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let starts = matches!(cli.command, Command::Run(_) | Command::Container(container::Container::Run(_)));
    cli.global.settle(starts)?;
    match cli.command {
        Command::Version(command) => return command.run(),
        Command::Context(command) => return command.run(),
        Command::Compose(rest) => {
            crate::personality::Personality::settle_compose();
            return commands::run("docker compose", rest.arguments);
        }
        _ => {}
    }
    let settings = Settings::try_parse_from(["docker"]).unwrap_or_else(|error| error.exit());
    // Whose credentials they are is whose home directory it is, not only root's.
    let command = match cli.command {
        Command::Login(command) => return command.run(&settings.global.registries),
        Command::Logout(command) => return command.run(),
        command => command,
    };
    dispatch(command, &Context::new(settings.global)?)
}

/// The word behind a flag that has a value is its value, whatever it looks like: `--hostname -x`.
fn with_any_values(command: clap::Command) -> clap::Command {
    let any = |arg: clap::Arg| {
        let valued = arg.get_action().takes_values() && !arg.is_positional() && !arg.is_require_equals_set();
        if valued { arg.allow_hyphen_values(true) } else { arg }
    };
    command.mut_args(any).mut_subcommands(with_any_values)
}

/// For `docker-compose`, whose environment may name a host, too.
pub fn this_host() -> Result<()> {
    match std::env::var("DOCKER_HOST").ok().and_then(|host| daemon::elsewhere(&host)) {
        Some(text) => Err(crate::failure::Plain(text).into()),
        None => Ok(()),
    }
}

fn dispatch(command: Command, context: &Context) -> Result<ExitCode> {
    match command {
        Command::Run(command) => command.run(context),
        Command::Exec(command) => command.run(context),
        Command::Ps(command) => command.run(context),
        Command::Build(command) => command.run(context),
        Command::Pull(command) => command.run(context),
        Command::Push(command) => command.run(context),
        Command::Images(command) => command.run(context),
        Command::Info(command) => command.run(context),
        Command::Builder(command) | Command::Buildx(command) => command.run(context),
        Command::Container(command) => command.run(context),
        Command::Image(command) => command.run(context),
        Command::Network(command) => command.run(context),
        Command::System(command) => command.run(context),
        Command::Volume(command) => command.run(context),
        Command::Attach(command) => command.run(context),
        Command::Pause(command) => command.run(context),
        Command::Unpause(command) => command.run(context),
        Command::Commit(command) => command.run(context),
        Command::Cp(command) => command.run(context),
        Command::Diff(command) => command.run(context),
        Command::Export(command) => command.run(context),
        Command::Rename(command) => command.run(context),
        Command::Update(command) => command.run(context),
        Command::Create(command) => command.run(context),
        Command::Events(command) => command.run(context),
        Command::History(command) => command.run(context),
        Command::Import(command) => command.run(context),
        Command::Inspect(command) => command.run(context),
        Command::Kill(command) => command.run(context),
        Command::Load(command) => command.run(context),
        Command::Logs(command) => command.run(context),
        Command::Port(command) => command.run(context),
        Command::Restart(command) => command.run(context),
        Command::Rm(command) => command.run(context),
        Command::Rmi(command) => command.run(context),
        Command::Save(command) => command.run(context),
        Command::Start(command) => command.run(context),
        Command::Stats(command) => command.run(context),
        Command::Stop(command) => command.run(context),
        Command::Tag(command) => command.run(context),
        Command::Top(command) => command.run(context),
        Command::Wait(command) => command.run(context),
        // Run before anything is opened.
        Command::Version(_) | Command::Context(_) | Command::Compose(_) | Command::Login(_) | Command::Logout(_) => {
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The whole command line, for tests and usage texts.
pub fn tree() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}
