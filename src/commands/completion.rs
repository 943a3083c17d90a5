//! `completion` and `man`: what shells and `man` know about the command line, made from the command line itself. The
//! script that a shell sources asks this program at each Tab, so that it also offers what is there: services, profiles,
//! containers.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{Bash, EnvCompleter, Fish, Powershell, Zsh};
use umiak_compose::Skip;

use super::{Context, Global};
use crate::engine::{network, volume};
use crate::personality::Personality;
use crate::project::{load, observe};

/// Names the shell that asks for candidates.
const ASKED_BY: &str = "_UMIAK_COMPLETE";

/// Shells that can be completed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum For {
    Bash,
    Fish,
    Powershell,
    Zsh,
}

impl For {
    fn completer(self) -> &'static dyn EnvCompleter {
        match self {
            Self::Bash => &Bash,
            Self::Fish => &Fish,
            Self::Powershell => &Powershell,
            Self::Zsh => &Zsh,
        }
    }
}

/// Generate the autocompletion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
bash        source <(umiak completion bash), or save it as /etc/bash_completion.d/umiak
zsh         save it as _umiak in a directory of $fpath
fish        umiak completion fish > ~/.config/fish/completions/umiak.fish
powershell  umiak completion powershell | Out-String | Invoke-Expression

It completes the name that this program is called by, also docker and docker-compose.")]
pub struct Completion {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: For,
}

impl Completion {
    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode> {
        let called = std::env::args_os().next().unwrap_or_default();
        let name = Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or("umiak").to_owned();
        let mut script = Vec::new();
        self.shell
            .completer()
            .write_registration(ASKED_BY, &name, &name, &name, &mut script)
            .context("make the script")?;
        crate::ui::write_raw(&script);
        Ok(ExitCode::SUCCESS)
    }
}

/// Where a shell asks, prints what may stand where the cursor is: `PROGRAM -- WORDS…`.
pub fn answer(personality: Personality) -> Option<ExitCode> {
    let shell = std::env::var(ASKED_BY).ok()?;
    let completer = For::from_str(&shell, false).ok()?.completer();
    let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let tree = match personality {
        Personality::Docker => {
            let command = crate::docker::tree();
            // Its command line is that of the other tree.
            let compose = of_engine(of_project(super::tree(), &words)).name("compose");
            of_engine(command.mut_subcommand("compose", |_| compose))
        }
        _ => of_engine(of_project(super::tree(), &words)),
    };
    let here = std::env::current_dir().ok();
    let mut out = Vec::new();
    // There is nobody to tell: a line that leads nowhere has no candidates.
    let _ = completer.write_complete(&mut tree.bin_name("umiak"), words, here.as_deref(), &mut out);
    crate::ui::write_raw(&out);
    Some(ExitCode::SUCCESS)
}

/// The flags that say which project is meant.
#[derive(Debug, Parser)]
#[command(ignore_errors = true, disable_help_flag = true)]
struct Settings {
    #[command(flatten)]
    global: Global,
}

/// What the words before the command say.
fn global(words: &[OsString]) -> Option<Global> {
    // Under the name `docker`, they stand behind `compose`.
    let first = words.iter().position(|word| word == "compose").unwrap_or(0);
    let matches = Settings::command().try_get_matches_from(words.get(first..).unwrap_or_default()).ok()?;
    let mut global = Settings::from_arg_matches(&matches).ok()?.global;
    global.settle_older_names();
    Some(global)
}

fn candidates(names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn is_named(arg: &clap::Arg, names: &[&str]) -> bool {
    match arg.get_value_names() {
        Some(value) => value.iter().any(|value| names.contains(&value.as_str())),
        None => names.contains(&arg.get_id().as_str().to_ascii_uppercase().as_str()),
    }
}

/// With services and profiles where they are meant.
fn of_project(tree: clap::Command, words: &[OsString]) -> clap::Command {
    let words = words.to_vec();
    let services = {
        let words = words.clone();
        ArgValueCandidates::new(move || candidates(services(&words).unwrap_or_default()))
    };
    let profiles = ArgValueCandidates::new(move || candidates(profiles(&words).unwrap_or_default()));
    let with = |arg: clap::Arg| if is_named(&arg, &["SERVICE", "SERVICES"]) { arg.add(services.clone()) } else { arg };
    tree.mut_subcommands(|command| command.mut_args(with)).mut_arg("profiles", |arg| arg.add(profiles))
}

fn model(words: &[OsString]) -> Option<(Context, Option<umiak_compose::Project>)> {
    let context = Context::unprepared(global(words)?).ok()?;
    let mut options = load::options(&context.global, &[], false).ok()?;
    options.skip = Skip { env_files: true, consistency: true, ..Skip::default() };
    let model = umiak_compose::load(&options).ok();
    Some((context, model))
}

/// All services of the files, also those whose profiles are not active; without files, those that have containers.
fn services(words: &[OsString]) -> Option<Vec<String>> {
    let (context, model) = model(words)?;
    if let Some(model) = model {
        return Some(model.services.keys().chain(model.disabled_services.keys()).cloned().collect());
    }
    let name = context.global.project_name.as_deref()?;
    let mut names: Vec<String> =
        observe::members(&context.engine, name).ok()?.into_iter().map(|member| member.service).collect();
    names.dedup();
    Some(names)
}

fn profiles(words: &[OsString]) -> Option<Vec<String>> {
    let model = model(words)?.1?;
    let all = model.services.values().chain(model.disabled_services.values());
    let names: std::collections::BTreeSet<String> = all.flat_map(|service| service.profiles.clone()).collect();
    Some(names.into_iter().collect())
}

/// With containers, images, networks and volumes where they are meant.
fn of_engine(tree: clap::Command) -> clap::Command {
    type Found = fn(&Context) -> Option<Vec<String>>;
    const KINDS: [(&[&str], Found); 4] = [
        (&["CONTAINER", "CONTAINERS"], |context| {
            Some(context.engine.containers().ok()?.into_iter().map(|container| container.config.name).collect())
        }),
        (&["IMAGE", "IMAGES"], |context| {
            let found = context.engine.store().ok()?.list().ok()?;
            let names = found.images.into_iter().flat_map(|image| image.names);
            let familiar = |name: String| name.parse::<umiak_images::reference::Reference>().ok().map(|r| r.familiar());
            Some(names.filter_map(familiar).collect())
        }),
        (&["NETWORK", "NETWORKS"], |context| {
            Some(network::list(&context.engine.roots).ok()?.into_iter().map(|network| network.name).collect())
        }),
        (&["VOLUME", "VOLUMES"], |context| {
            Some(volume::list(&context.engine.roots).ok()?.into_iter().map(|volume| volume.name).collect())
        }),
    ];
    let with = |arg: clap::Arg| match KINDS.iter().find(|(names, _)| arg.is_positional() && is_named(&arg, names)) {
        Some((_, found)) => arg.add(ArgValueCandidates::new(move || {
            // The roots come from the environment here.
            let context = global(&[OsString::new()]).and_then(|global| Context::unprepared(global).ok());
            candidates(context.as_ref().and_then(found).unwrap_or_default())
        })),
        None => arg,
    };
    tree.mut_args(with).mut_subcommands(of_engine)
}

/// Write the manual pages, one for each command.
#[derive(Debug, Args)]
pub struct Man {
    /// The directory, made when it is missing: `/usr/local/share/man/man1`
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Man {
    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode> {
        let directory = &self.directory;
        std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        clap_mangen::generate_to(super::tree(), directory)
            .with_context(|| format!("write manual pages to {}", directory.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
