//! `publish`: the project's Compose files, for others to run from a registry.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;
use umiak_compose::output::{self, Format};
use umiak_compose::{Project, Skip};
use umiak_images::reference::Reference;
use umiak_images::registry::artifact::Form;

use super::{Context, push};
use crate::engine::push::reference;
use crate::failure::WithHint as _;
use crate::personality::Personality;
use crate::project::publish::{Files, checks};
use crate::project::remote::ask;
use crate::project::remote::published::KIND;
use crate::project::{load, provider};
use crate::ui::progress::Progress;

/// Publish the project: its Compose files go to a registry, from where `-f oci://REPOSITORY[:TAG]` runs them.
#[derive(Debug, Args)]
pub struct Publish {
    /// Pin image tags to digests
    #[arg(long)]
    resolve_image_digests: bool,
    /// OCI image/artifact specification version, 1.0 or 1.1 (automatically determined by default)
    #[arg(long, value_name = "VERSION")]
    oci_version: Option<String>,
    /// Include environment variables in the published OCI artifact
    #[arg(long)]
    with_env: bool,
    /// Assume "yes" as answer to all prompts
    #[arg(short, long)]
    yes: bool,
    /// Where to
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: String,
}

impl Publish {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let form = match self.oci_version.as_deref() {
            None | Some("") => Form::Any,
            Some("1.0") => Form::V1_0,
            Some("1.1") => Form::V1_1,
            Some(other) => bail!("unsupported OCI version: {other}"),
        };
        let name = reference(&self.repository)?;
        if name.digest().is_some() {
            bail!("cannot publish to a digest: {}", self.repository);
        }
        let project = whole(context, Skip::default())?;
        for warning in &project.warnings {
            crate::note!("{}", warning.render());
        }
        let files = Files::of(&project)?;
        checks::refuse_only_built(&project)?;
        if !self.yes && !self.agreed(context, &project, &files)? {
            crate::note!("not published");
            return Ok(ExitCode::SUCCESS);
        }
        if !self.with_env {
            for file in files.env_files() {
                let file = file.display();
                crate::note!("warning: {file} is not published: without --with-env services that name it do not start");
            }
        }
        let progress = context.progress();
        push_images(context, &project, &progress)?;
        let what = self.repository.as_str();
        progress.working(what, "publishing");
        match self.put(context, &project, &files, &name, form) {
            Ok(()) => progress.done(what, "published"),
            Err(error) => {
                progress.failed(what, "publishing");
                progress.finish();
                return Err(error.context(format!("publish {what}")));
            }
        }
        progress.finish();
        Ok(ExitCode::SUCCESS)
    }

    /// Asks what there is to ask.
    fn agreed(&self, context: &Context, project: &Project, files: &Files) -> Result<bool> {
        let unread = whole(context, Skip { env_files: true, ..Skip::default() })?;
        for question in checks::questions(project, &unread, files, self.with_env)? {
            match ask::ask(&format!("{question} [y/N]: "), false)? {
                Some(true) => {}
                None if Personality::current() == Personality::Own => {
                    return Err(anyhow::anyhow!("nobody is there to answer")).hint(|| "use --yes".to_owned());
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    fn put(&self, context: &Context, project: &Project, files: &Files, name: &Reference, form: Form) -> Result<()> {
        let pins = if self.resolve_image_digests { Some(pins(context, project)?) } else { None };
        let parts = files.parts(self.with_env, pins)?;
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let annotations = BTreeMap::from([("org.opencontainers.image.created".to_owned(), now)]);
        context.act(|| context.engine.put_artifact(name, &KIND, &parts, &annotations, form).map(drop))
    }
}

/// The project with the services of all profiles.
fn whole(context: &Context, skip: Skip) -> Result<Project> {
    let mut options = load::options(&context.global, &[], false)?;
    options.profiles = vec!["*".to_owned()];
    options.skip = skip;
    Ok(umiak_compose::load(&options)?)
}

/// Pushes the images that are built here; one that cannot be is said, and does not hold up the rest.
fn push_images(context: &Context, project: &Project, progress: &Progress) -> Result<()> {
    let services: Vec<_> = provider::split(project.services.values().collect()).0;
    let images = push::wanted(&services, progress);
    for (service, error) in push::each(context, &images, progress)? {
        progress.note(&format!("Pushing {service}: {}", crate::failure::one_line(&error)));
    }
    Ok(())
}

/// An override file that pins the images of the services.
fn pins(context: &Context, project: &Project) -> Result<String> {
    let mut services = serde_json::Map::new();
    for service in project.services.values() {
        if let Some(image) = &service.image {
            let pinned = context.engine.pinned(image).with_context(|| format!("service {}", service.name))?;
            services.insert(service.name.clone(), json!({ "image": pinned }));
        }
    }
    Ok(output::text(&output::sorted(json!({ "services": services }), Format::Yaml), Format::Yaml))
}
