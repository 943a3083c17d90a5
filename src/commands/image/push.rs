//! `image push`, which is `docker push`.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use umiak_images::digest::Digest;
use umiak_images::push::{Event, Pushed, Watch};
use umiak_images::reference::Reference;

use crate::commands::Context;
use crate::engine::push::reference;
use crate::failure::{Plain, one_line};
use crate::{failure, out};

/// Upload an image to a registry.
#[derive(Debug, Args)]
pub struct Push {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Skip image signing: there is none of that kind
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_content_trust: Option<bool>,
    /// Push only the image for this platform, not the index that it came in: os[/arch[/variant]]
    #[arg(long)]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// The image: NAME[:TAG]
    #[arg(value_name = "NAME[:TAG]")]
    image: String,
}

/// What Docker says of `--platform`.
const ONE_PLATFORM: &str = "
 Info -> Using --platform pushes only the specified platform manifest of a multi-platform image index.
         Other components, like attestations, will not be included.
         To push the complete multi-platform image, remove the --platform flag.
";

impl Push {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let name = reference(&self.image)?;
        let tagged = self.image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        if self.all_tags && tagged {
            return Err(Plain("tag can't be used with --all-tags/-a".into()).into());
        }
        if name.digest().is_some() {
            return Err(Plain("cannot push a digest reference".into()).into());
        }
        if self.platform.is_some() && !self.quiet {
            out!("{ONE_PLATFORM}");
        }
        if !self.all_tags && !tagged && !self.quiet {
            out!("Using default tag: latest");
        }
        if !self.quiet {
            out!("The push refers to repository [{}]", name.name());
        }
        let names = match self.all_tags {
            true => context.engine.tags_here(&name)?,
            false => vec![name.clone()],
        };
        if names.is_empty() {
            let text = format!("An image does not exist locally with the tag: {}", name.familiar_name());
            return Err(Plain(text).into());
        }
        let lines = Lines::new(self.quiet);
        let pushed = |name: &Reference, pushed: &Pushed| {
            lines.finish();
            if !self.quiet {
                report(name, pushed);
            }
        };
        let result =
            context.engine.pushing().and_then(|session| session.push(&names, self.platform.as_deref(), &lines, pushed));
        lines.finish();
        result.map_err(plain)?;
        if self.quiet {
            out!("{}", if self.all_tags { name.name() } else { name.to_string() });
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What a registry says is Docker's word for word, without the daemon's name before it.
fn plain(error: anyhow::Error) -> anyhow::Error {
    let hint = error.downcast_ref::<failure::Hint>().map(|hint| hint.0.clone());
    let error: anyhow::Error = Plain(one_line(&error)).into();
    match hint {
        Some(hint) => error.context(failure::Hint(hint)),
        None => error,
    }
}

fn report(name: &Reference, pushed: &Pushed) {
    out!("{}: digest: {} size: {}", name.tag().unwrap_or_default(), pushed.digest, pushed.size);
    if let Some(index) = &pushed.left_out {
        crate::note!(
            "\n Info -> Not all multiplatform-content is present and only the available single-platform image was pushed\n         {index} -> {}",
            pushed.digest
        );
    }
}

/// A line per layer: rewritten on a terminal, else one for each change.
pub struct Lines {
    quiet: bool,
    bars: Option<(MultiProgress, Mutex<HashMap<String, ProgressBar>>)>,
}

impl Lines {
    /// Shows layers on stdout, as Docker does.
    pub fn new(quiet: bool) -> Self {
        let terminal = !quiet && std::io::stdout().is_terminal();
        let bars = || (MultiProgress::with_draw_target(ProgressDrawTarget::stdout()), Mutex::default());
        Self { quiet, bars: terminal.then(bars) }
    }

    /// Leaves the lines as they are.
    pub fn finish(&self) {
        if let Some((_, bars)) = &self.bars {
            for (_, bar) in bars.lock().unwrap_or_else(PoisonError::into_inner).drain() {
                bar.abandon();
            }
        }
    }

    fn show(&self, layer: &str, text: &str, bytes: Option<(u64, u64)>) {
        match &self.bars {
            _ if self.quiet => {}
            None if bytes.is_some() => {}
            None => out!("{layer}: {text}"),
            Some((all, bars)) => {
                let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
                let bar = bars.entry(layer.to_owned()).or_insert_with(|| all.add(ProgressBar::new(1)));
                let template = if bytes.is_some() { "{msg} [{bar:50.=>}] {bytes}/{total_bytes}" } else { "{msg}" };
                bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
                if let Some((now, total)) = bytes {
                    bar.set_length(total);
                    bar.set_position(now);
                }
                bar.set_message(format!("{layer}: {text}"));
            }
        }
    }
}

impl Watch for Lines {
    fn event(&self, layer: &Digest, event: Event<'_>) {
        let layer = layer.short();
        match event {
            Event::Pushing { bytes, total } => self.show(layer, "Pushing", Some((bytes, total))),
            other => self.show(layer, &words(&other), None),
        }
    }
}

/// Docker's words for what happens to a layer.
pub fn words(event: &Event<'_>) -> String {
    match event {
        Event::Preparing => "Preparing".into(),
        Event::Exists => "Layer already exists".into(),
        Event::Mounted { from } => format!("Mounted from {from}"),
        Event::Pushed => "Pushed".into(),
        Event::Retrying { reason } => format!("Retrying: {reason}"),
        _ => "Pushing".into(),
    }
}
