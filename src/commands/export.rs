//! `export`: a service container's root file system as a tar archive.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::{Context, archive_output};
use crate::project::{load, observe};

/// Export a service container's filesystem as a tar archive.
#[derive(Debug, Args)]
pub struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Index of the container if service has multiple replicas
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// The service
    service: String,
}

impl Export {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let project = load::named(context, &[])?;
        let member = observe::one(&context.engine, &project.name, &self.service, self.index)?;
        let name = &member.container.config.name;
        let to = self.output.as_deref().map_or_else(|| "-".to_owned(), |path| path.display().to_string());
        let (what, progress) = (format!("{name} export {name} to {to}"), context.progress());
        progress.working(&what, "Exporting");
        let exported = context.act(|| {
            archive_output(self.output.as_deref(), |out| context.engine.export(&member.container, out)).map(drop)
        });
        match &exported {
            Ok(()) => progress.done(&what, "Exported"),
            Err(_) => progress.failed(&what, "Error"),
        }
        progress.finish();
        exported?;
        Ok(ExitCode::SUCCESS)
    }
}
