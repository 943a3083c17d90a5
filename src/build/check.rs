//! `build --check`: what of a Dockerfile is better written otherwise, without
//! building anything.

use anyhow::Result;
use umiak_dockerfile::ignore::Patterns;
use umiak_dockerfile::{CheckContext, Dockerfile, Warning};
use umiak_images::platform::Platform;

use super::options::{Options, Source};
use super::plan::{Base, Plan, Wanted};
use super::{Loaded, context, failed, host_platform, remote};
use crate::engine::Engine;
use crate::ui::build::Display;

/// Lines shown around the one that is meant.
const AROUND: usize = 2;

/// What a check has found.
#[derive(Debug)]
pub struct Checked {
    /// As `docker build --check` prints it.
    pub text: String,
    /// How many warnings there are.
    pub warnings: usize,
}

/// Checks the Dockerfile of a build.
pub fn check(engine: &Engine, options: &Options, display: &Display) -> Result<Checked> {
    let building = engine.store()?.building()?;
    let local = remote::context(options, &building, display)?;
    let options = &local.options;
    let loaded = context::dockerfile(options, display)?;
    let file = umiak_dockerfile::parse(&loaded.text).map_err(|error| {
        let text = format!("failed to solve: {}", error.render(&loaded.name, &loaded.text));
        crate::failure::Coded { text, code: 1 }
    })?;
    let warnings = warnings(engine, options, &loaded, &file)?;
    Ok(Checked { text: report(&loaded, &warnings), warnings: warnings.len() })
}

fn warnings(engine: &Engine, options: &Options, loaded: &Loaded, file: &Dockerfile) -> Result<Vec<Warning>> {
    let host = host_platform();
    let platform = options.platforms.first().unwrap_or(&host);
    let contexts = |name: &str| options.contexts.contains_key(name);
    let wanted =
        Wanted { args: &options.args, target: options.target.as_deref(), platform, host: &host, contexts: &contexts };
    let plan = Plan::new(file, wanted)?;
    // Of images that are not here nothing is known.
    let environment = |index: usize| {
        let Base::Image(name) = &plan.stages.get(index)?.base else { return Some(Vec::new()) };
        let image = engine.store().ok()?.resolve(name).ok()?;
        let pair = |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(image.config.config.env.iter().filter_map(pair).collect())
    };
    let own = || match &options.context {
        Source::Directory(dir) => std::fs::read_to_string(dir.join(".dockerignore")).ok(),
        _ => None,
    };
    let ignore = loaded.ignore.clone().or_else(own).and_then(|text| Patterns::of_file(&text).ok());
    let context = CheckContext {
        build_arg: &|name| options.args.get(name).cloned(),
        predefined: &[predefined("BUILD", &host), predefined("TARGET", platform)].concat(),
        environment: &environment,
        ignore: ignore.as_ref(),
    };
    Ok(umiak_dockerfile::check(file, &context))
}

/// The arguments that name a platform.
fn predefined(which: &str, platform: &Platform) -> Vec<(String, String)> {
    let all = [
        ("PLATFORM", platform.to_string()),
        ("OS", platform.os.clone()),
        ("ARCH", platform.architecture.clone()),
        ("VARIANT", platform.variant.clone().unwrap_or_default()),
    ];
    all.into_iter().map(|(name, value)| (format!("{which}{name}"), value)).collect()
}

fn report(loaded: &Loaded, warnings: &[Warning]) -> String {
    let mut text = match warnings.len() {
        0 => "Check complete, no warnings found.".to_owned(),
        1 => "Check complete, 1 warning has been found!".to_owned(),
        count => format!("Check complete, {count} warnings have been found!"),
    };
    for warning in warnings {
        let excerpt = failed::excerpt_of(&loaded.name, &loaded.text, warning.place, AROUND);
        let (rule, url) = (warning.rule.name(), warning.rule.url());
        text += &format!("\n\nWARNING: {rule} - {url}\n{}\n{excerpt}", warning.text);
    }
    text
}
