//! `ls`: the projects that are there.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use super::{Context, Format};
use crate::out;
use crate::project::labels;
use crate::ui::table::Table;

/// List running compose projects.
#[derive(Debug, Args)]
pub struct Ls {
    /// Show all stopped Compose projects
    #[arg(short, long)]
    all: bool,
    /// Only display project names
    #[arg(short, long)]
    quiet: bool,
    /// Filter output: name=TEXT
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// table or json
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Default)]
struct Project {
    counts: BTreeMap<&'static str, usize>,
    files: String,
}

impl Ls {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let names = names(&self.filter)?;
        let wanted = |name: &str| names.is_empty() || names.iter().any(|text| name.contains(text));
        let mut projects: BTreeMap<String, Project> = BTreeMap::new();
        for container in context.engine.containers()? {
            let status = container.state.status;
            let Some(name) =
                container.label(labels::PROJECT).filter(|name| (self.all || status.is_up()) && wanted(name))
            else {
                continue;
            };
            let project = projects.entry(name.to_owned()).or_default();
            *project.counts.entry(status.as_str()).or_default() += 1;
            project.files = container.label(labels::CONFIG_FILES).unwrap_or_default().to_owned();
        }
        let status = |project: &Project| -> String {
            let counts: Vec<String> = project.counts.iter().map(|(word, count)| format!("{word}({count})")).collect();
            counts.join(", ")
        };
        if self.quiet {
            projects.keys().for_each(|name| out!("{name}"));
            return Ok(ExitCode::SUCCESS);
        }
        if self.format == Format::Json {
            let object = |(name, project): (&String, &Project)| serde_json::json!({ "Name": name, "Status": status(project), "ConfigFiles": project.files });
            out!("{}", serde_json::to_string(&projects.iter().map(object).collect::<Vec<_>>())?);
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::wide(&["NAME", "STATUS", "CONFIG FILES"]);
        for (name, project) in &projects {
            table.row(vec![name.clone(), status(project), project.files.clone()]);
        }
        out!("{}", table.render());
        Ok(ExitCode::SUCCESS)
    }
}

/// The texts of `name=` filters; a project is listed whose name has one of them in it.
fn names(filters: &[String]) -> Result<Vec<&str>> {
    let mut names = Vec::new();
    for filter in filters {
        match filter.split_once('=') {
            Some(("name", text)) => names.push(text),
            Some((key, _)) => bail!("invalid filter '{key}'"),
            None => bail!("invalid filter '{filter}': it is of the form name=TEXT"),
        }
    }
    Ok(names)
}
