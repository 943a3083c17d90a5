//! `config`: what the Compose files mean, as text. Touches nothing, so it needs no root.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use serde_json::{Map, Value, json};

use super::Context;
use crate::failure::WithHint as _;
use crate::out;
use crate::project::{hash, load, service};
use crate::ui::table::Table;
use umiak_compose::output::{self, Format};
use umiak_compose::{Project, RawProject, Skip, support};

/// Parse, resolve and render the Compose files in canonical format.
#[derive(Debug, Args)]
pub struct Config {
    /// Only validate the configuration, don't print anything
    #[arg(short, long)]
    quiet: bool,
    /// Print the service names, one per line
    #[arg(long)]
    services: bool,
    /// Print the volume names, one per line
    #[arg(long)]
    volumes: bool,
    /// Print the network names, one per line
    #[arg(long)]
    networks: bool,
    /// Print the model names, one per line
    #[arg(long)]
    models: bool,
    /// Print the profile names, one per line
    #[arg(long)]
    profiles: bool,
    /// Print the image names, one per line
    #[arg(long)]
    images: bool,
    /// Print the environment used for interpolation
    #[arg(long)]
    environment: bool,
    /// Print the variables of the files and their default values
    #[arg(long)]
    variables: bool,
    /// Print the hash of each service's configuration, one per line: `*` or names with commas between them
    #[arg(long, value_name = "SERVICES", hide_default_value = true)]
    hash: Option<String>,
    /// Print each key of a Compose file and what umiak does with it
    #[arg(long)]
    support: bool,
    /// Format of the output: yaml or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Save to a file instead of printing
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Don't interpolate environment variables
    #[arg(long)]
    no_interpolate: bool,
    /// Don't normalize the model
    #[arg(long)]
    no_normalize: bool,
    /// Don't resolve file paths
    #[arg(long)]
    no_path_resolution: bool,
    /// Don't read the services' environment files
    #[arg(long)]
    no_env_resolution: bool,
    /// Don't check the model's consistency: what is printed may not be a valid project
    #[arg(long)]
    no_consistency: bool,
    /// Pin the tags of images to digests
    #[arg(long)]
    resolve_image_digests: bool,
    /// Print an override file that pins the images to digests
    #[arg(long)]
    lock_image_digests: bool,
    /// Services, with what they depend on; all if none
    #[arg(value_name = "SERVICE")]
    selected: Vec<String>,
}

impl Config {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        if self.support {
            return self.print_support();
        }
        let list = match () {
            () if self.services && self.no_interpolate => tree_names(&self.tree(context)?, "services"),
            () if self.services => in_order(&self.project(context, &[])?),
            () if self.volumes => self.project(context, &[])?.volumes.into_keys().collect(),
            () if self.networks => self.project(context, &[])?.networks.into_keys().collect(),
            () if self.models => self.project(context, &[])?.models.into_keys().collect(),
            () if self.hash.as_ref().is_some_and(|names| !names.is_empty()) => self.hashes(context)?,
            () if self.profiles => profiles(&self.project(context, &self.selected)?),
            () if self.images => images(&self.project(context, &self.selected)?),
            () if self.variables => return self.print_variables(context),
            () if self.environment => environment(&self.project(context, &self.selected)?),
            () => return self.render(context),
        };
        if !self.quiet {
            list.iter().for_each(|line| out!("{line}"));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn skip(&self) -> Skip {
        Skip {
            paths: self.no_path_resolution,
            normalization: self.no_normalize,
            env_files: self.no_env_resolution,
            consistency: self.no_consistency,
        }
    }

    /// The model, of the named services and what they depend on; lists are sorted.
    fn project(&self, context: &Context, services: &[String]) -> Result<Project> {
        let mut options = load::options(&context.global, services, false)?;
        options.skip = self.skip();
        let mut project = umiak_compose::load(&options)?;
        for warning in &project.warnings {
            crate::note!("{}", warning.render());
        }
        project.restrict(services)?;
        if !context.global.all_resources {
            project.drop_unused();
        }
        project.volumes.sort_keys();
        project.networks.sort_keys();
        project.models.sort_keys();
        Ok(project)
    }

    fn tree(&self, context: &Context) -> Result<RawProject> {
        let mut options = load::options(&context.global, &[], false)?;
        options.skip = self.skip();
        let project = umiak_compose::load_tree(&options)?;
        for warning in &project.warnings {
            crate::note!("{}", warning.render());
        }
        Ok(project)
    }

    fn render(&self, context: &Context) -> Result<ExitCode> {
        let text = match self.no_interpolate {
            true => self.tree_text(context)?,
            false => self.project_text(context)?,
        };
        match &self.output {
            _ if self.quiet => {}
            Some(file) => {
                std::fs::write(file, &text).with_context(|| format!("write {}", file.display()))?;
            }
            None => crate::ui::write_raw(text.as_bytes()),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn form(&self) -> Result<Format> {
        match self.format.as_deref() {
            None | Some("" | "yaml") => Ok(Format::Yaml),
            Some("json") => Ok(Format::Json),
            Some(other) => Err(anyhow!("unsupported format {other:?}")).hint(|| "use yaml or json".to_owned()),
        }
    }

    fn project_text(&self, context: &Context) -> Result<String> {
        let mut project = self.project(context, &self.selected)?;
        if self.resolve_image_digests || self.lock_image_digests {
            for service in project.services.values_mut() {
                if let Some(image) = &service.image {
                    service.image = Some(context.engine.pinned(image)?);
                }
            }
        }
        let form = self.form()?;
        if self.lock_image_digests {
            let images = project.services.iter().filter_map(|(name, service)| Some((name, service.image.as_deref()?)));
            return Ok(lock_text(images, form));
        }
        output::project(&project, form).context("encode the project")
    }

    fn tree_text(&self, context: &Context) -> Result<String> {
        let mut tree = self.tree(context)?.tree;
        if self.resolve_image_digests || self.lock_image_digests {
            let services = tree.get_mut("services").and_then(Value::as_object_mut);
            for image in services.into_iter().flat_map(|map| map.values_mut()).filter_map(|s| s.get_mut("image")) {
                if let Some(name) = image.as_str() {
                    *image = context.engine.pinned(name)?.into();
                }
            }
        }
        let form = self.form()?;
        if self.lock_image_digests {
            let services = tree.get("services").and_then(Value::as_object);
            let images = services.into_iter().flatten().filter_map(|(name, s)| Some((name, s.get("image")?.as_str()?)));
            return Ok(lock_text(images, form));
        }
        Ok(output::text(&output::sorted(tree, form), form))
    }

    /// `--hash`: what tells whether a service's containers are up to date.
    fn hashes(&self, context: &Context) -> Result<Vec<String>> {
        let project = self.project(context, &[])?;
        let mut names: Vec<&str> = match self.hash.as_deref() {
            None | Some("*") => project.services.keys().map(String::as_str).collect(),
            Some(names) => names.split(',').collect(),
        };
        names.sort_unstable();
        let line = |name: &str| {
            let Some(service) = project.services.get(name) else {
                let state = if project.knows(name) { "disabled" } else { "not found" };
                return Err(anyhow!("no such service: {name}: {state}"));
            };
            Ok(format!("{name} {}", hash::service(&project, service)?.hash()))
        };
        names.into_iter().map(line).collect()
    }

    fn print_variables(&self, context: &Context) -> Result<ExitCode> {
        let variables = self.tree(context)?.variables();
        match self.format.as_deref() {
            Some("json") => {
                let value = serde_json::to_value(&variables).context("encode the variables")?;
                out!("{}\n", output::json_wide(&value));
            }
            Some("yaml") => {
                let entry = |(name, variable): (&String, &umiak_compose::Variable)| {
                    let value = json!({
                        "name": name,
                        "defaultvalue": variable.default_value,
                        "presencevalue": variable.presence_value,
                        "required": variable.required,
                    });
                    (name.clone(), value)
                };
                let text = output::yaml_wide(variables.iter().map(entry).collect());
                crate::ui::write_raw(text.as_bytes());
            }
            None | Some("" | "table") => {
                // columns of 20, as Docker Compose has them
                out!("{:<20}{:<20}{:<20}{}", "NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE");
                for variable in variables.values() {
                    let (default, alternate) = (&variable.default_value, &variable.presence_value);
                    out!("{:<20}{:<20}{default:<20}{alternate}", variable.name, variable.required);
                }
            }
            Some(other) => return Err(anyhow!("unsupported format {other:?}")),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// `--support`: the table of keys that the loader itself goes by.
    fn print_support(&self) -> Result<ExitCode> {
        let rows = support::rows();
        match self.format.as_deref() {
            Some("json") => out!("{}", serde_json::to_string_pretty(&rows).context("encode the table")?),
            None | Some("" | "table") => {
                let mut table = Table::new(&["KEY", "SUPPORT", "DETAILS"]);
                for row in &rows {
                    table.row(vec![row.key.to_owned(), row.support.to_owned(), row.details()]);
                }
                out!("{}", table.render());
            }
            Some(other) => return Err(anyhow!("unsupported format {other:?}")),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Names below a key of the top level.
fn tree_names(project: &RawProject, section: &str) -> Vec<String> {
    let section = project.tree.get(section).and_then(Value::as_object);
    let mut names: Vec<String> = section.into_iter().flat_map(Map::keys).cloned().collect();
    names.sort_unstable();
    names
}

/// The services, each after those it depends on; by name where that leaves a choice.
fn in_order(project: &Project) -> Vec<String> {
    let mut all: Vec<_> = project.services.values().collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    match project.levels(&all) {
        Ok(levels) => levels.into_iter().flatten().map(|service| service.name.clone()).collect(),
        // only where --no-consistency lets a cycle pass
        Err(_) => all.into_iter().map(|service| service.name.clone()).collect(),
    }
}

fn profiles(project: &Project) -> Vec<String> {
    let services = project.services.values().chain(project.disabled_services.values());
    let names: BTreeSet<&String> = services.flat_map(|service| &service.profiles).collect();
    names.into_iter().cloned().collect()
}

fn images(project: &Project) -> Vec<String> {
    let mut services: Vec<_> = project.services.values().collect();
    services.retain(|service| service.provider.is_none());
    services.sort_by(|a, b| a.name.cmp(&b.name));
    services.into_iter().map(|chosen| service::image(project, chosen)).collect()
}

fn environment(project: &Project) -> Vec<String> {
    project.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// An override file with nothing but the services' images.
fn lock_text<'a>(images: impl Iterator<Item = (&'a String, &'a str)>, form: Format) -> String {
    let services: Map<String, Value> = images.map(|(name, image)| (name.clone(), json!({"image": image}))).collect();
    output::text(&output::sorted(json!({"services": services}), form), form)
}
