//! `completion` and `man`: what shells and `man` know about the command line, made from the command line itself.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use clap_complete::Shell;

/// Shells that can be completed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum For {
    Bash,
    Fish,
    Powershell,
    Zsh,
}

/// Generate the autocompletion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
bash        source <(umiak completion bash), or save it as /etc/bash_completion.d/umiak
zsh         save it as _umiak in a directory of $fpath
fish        umiak completion fish > ~/.config/fish/completions/umiak.fish
powershell  umiak completion powershell | Out-String | Invoke-Expression")]
pub struct Completion {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: For,
}

impl Completion {
    /// Runs the command.
    pub fn run(&self) -> ExitCode {
        let shell = match self.shell {
            For::Bash => Shell::Bash,
            For::Fish => Shell::Fish,
            For::Powershell => Shell::PowerShell,
            For::Zsh => Shell::Zsh,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut super::tree(), "umiak", &mut script);
        crate::ui::write_raw(&script);
        ExitCode::SUCCESS
    }
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
