//! `image build`, as `docker build` has it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indexmap::IndexMap;
use umiak_images::pack::Compression;
use umiak_images::store::Image;

use super::build_legacy::Legacy;
use crate::build::check::{self, Call};
use crate::build::options::{Allow, File, Options, Output, Secret, SecretSource, Source, Ssh};
use crate::build::{full_name, interrupt};
use crate::commands::Context;
use crate::commands::container::flags;
use crate::failure::{Coded, Hint};
use crate::out;
use crate::personality::Personality;
use crate::ui::build::{Display, Mode};

/// Build an image from a Dockerfile.
#[derive(Debug, Args)]
pub struct Build {
    /// Add a custom host-to-IP mapping (HOST:IP)
    #[arg(long, value_name = "HOST:IP")]
    add_host: Vec<String>,
    /// Allow extra privileged entitlements: network.host, security.insecure
    #[arg(long, value_delimiter = ',')]
    allow: Vec<String>,
    /// Set build-time variables
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Additional build contexts
    #[arg(long, value_name = "NAME=PATH")]
    build_context: Vec<String>,
    /// Further caches to look for steps in: an image, type=registry,ref=NAME, or type=local,src=DIR
    #[arg(long, value_name = "CACHE")]
    cache_from: Vec<String>,
    /// Leave the cache there: type=inline, type=registry,ref=NAME or type=local,dest=DIR, with mode=max of all stages
    #[arg(long, value_name = "CACHE")]
    cache_to: Vec<String>,
    /// Ask the Dockerfile instead of building it: check, outline or targets[,format=json]
    #[arg(long, value_name = "METHOD")]
    call: Option<String>,
    /// Check the Dockerfile instead of building it
    #[arg(long)]
    check: bool,
    /// Set the parent cgroup for RUN instructions
    #[arg(long)]
    cgroup_parent: Option<String>,
    /// When a RUN fails, open a shell in the state before it
    #[arg(long)]
    debug_shell: bool,
    /// Name of the Dockerfile; `-` for stdin
    #[arg(short, long)]
    file: Option<String>,
    /// Write the image ID to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Set metadata for the image
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Load the image into the store: it always is
    #[arg(long, hide = true)]
    load: bool,
    /// Write the build's result to a file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Network of RUN instructions: default, none, host, or a network's name
    #[arg(long, default_value = "default")]
    network: String,
    /// Do not use the cache
    #[arg(long)]
    no_cache: bool,
    /// Do not use the cache for these stages
    #[arg(long, value_delimiter = ',', value_name = "STAGE")]
    no_cache_filter: Vec<String>,
    /// Where the result goes: type=local|tar|oci|docker|image|registry|cacheonly,dest=PATH; a directory alone is type=local
    #[arg(short, long, value_name = "OUTPUT")]
    output: Vec<String>,
    /// Set the target platform
    #[arg(long, value_delimiter = ',')]
    platform: Vec<String>,
    /// Progress output: auto, none, plain, quiet, rawjson, tty
    #[arg(long, env = "BUILDKIT_PROGRESS", hide_env = true, value_name = "MODE")]
    progress: Option<String>,
    /// Always look up base images in their registries
    #[arg(long)]
    pull: bool,
    /// Push the image to its registry
    #[arg(long)]
    push: bool,
    /// Print nothing but the image ID
    #[arg(short, long)]
    quiet: bool,
    /// Secrets for RUN --mount=type=secret
    #[arg(long, value_name = "id=ID[,src=FILE|env=NAME]")]
    secret: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// SSH agents or keys for RUN --mount=type=ssh
    #[arg(long, value_name = "ID[=SOCKET|KEY[,KEY]]")]
    ssh: Vec<String>,
    /// Names of the image (NAME[:TAG])
    #[arg(short, long)]
    tag: Vec<String>,
    /// The stage to build
    #[arg(long)]
    target: Option<String>,
    /// Ulimits
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    #[command(flatten)]
    legacy: Legacy,
    /// The build's context: a directory, a URL of a git repository or an archive, or `-` for stdin
    #[arg(value_name = "PATH|URL|-")]
    context: String,
}

impl Build {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        self.perform(context).map_err(as_docker)
    }

    fn perform(&self, context: &Context) -> Result<ExitCode> {
        self.legacy.check(&context.engine.roots)?;
        let mut options = self.options()?;
        let (outputs, compression) = self.outputs(&mut options.names)?;
        options.compression = compression.unwrap_or(options.compression);
        if let Some((call, json)) = self.question()? {
            let answer = check::call(&context.engine, &options, call, json)?;
            crate::ui::write_raw(answer.text.as_bytes());
            return Ok(if answer.good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        let _watch = interrupt::Watch::new()?;
        let display = Display::new(if self.quiet { Mode::Quiet } else { self.mode()? });
        let image = crate::build::build_to(&context.engine, &options, &outputs, &display)?;
        drop(display);
        if let Some(image) = &image {
            if let Some(path) = &self.metadata_file {
                let text = metadata(image, &options.names);
                std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
            }
            if let Some(path) = &self.iidfile {
                std::fs::write(path, image.id.to_string()).with_context(|| format!("write {}", path.display()))?;
            }
            if self.quiet || self.progress.as_deref() == Some("quiet") {
                out!("{}", image.id);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// What is asked instead of a build, and whether the answer is JSON.
    fn question(&self) -> Result<Option<(Call, bool)>> {
        let text = match (&self.call, self.check) {
            (Some(_), true) => bail!("--check and --call say the same: give one of them"),
            (None, true) => "check",
            (Some(text), false) => text,
            (None, false) => return Ok(None),
        };
        let mut fields = text.split(',');
        let call = match fields.next().unwrap_or_default() {
            "check" | "lint" => Call::Check,
            "outline" => Call::Outline,
            "targets" => Call::Targets,
            "build" | "" => return Ok(None),
            other => bail!("unknown method {other:?} of --call: there are build, check, outline and targets"),
        };
        let mut json = false;
        for field in fields {
            match field.split_once('=') {
                Some(("format", "json")) => json = true,
                Some(("format", "text" | "table" | "")) => json = false,
                _ => bail!("invalid option {field:?} of --call: there is format=json"),
            }
        }
        Ok(Some((call, json)))
    }

    fn mode(&self) -> Result<Mode> {
        self.progress.as_deref().unwrap_or_default().parse().map_err(anyhow::Error::msg)
    }

    fn outputs(&self, names: &mut Vec<String>) -> Result<(Vec<Output>, Option<Compression>)> {
        let (mut outputs, mut compression) = (Vec::new(), None);
        for text in &self.output {
            outputs.push(output(text, names, &mut compression)?);
        }
        if self.push {
            outputs.push(Output::Push);
        }
        if self.load || outputs.is_empty() {
            outputs.push(Output::Store);
        }
        Ok((outputs, compression))
    }

    fn options(&self) -> Result<Options> {
        let mut allow = Allow::default();
        for entitlement in &self.allow {
            match entitlement.as_str() {
                "network.host" => allow.host_network = true,
                "security.insecure" => allow.insecure = true,
                other => bail!("unknown entitlement {other}: there are network.host and security.insecure"),
            }
        }
        let source = source(&self.context)?;
        let mut contexts = IndexMap::new();
        for text in &self.build_context {
            let (name, value) =
                text.split_once('=').with_context(|| format!("invalid context value: {text}, expected key=value"))?;
            contexts.insert(name.to_owned(), named_source(value)?);
        }
        Ok(Options {
            dockerfile: dockerfile(&source, self.file.as_deref())?,
            context: source,
            contexts,
            args: args(&self.build_arg, |name| std::env::var(name).ok()),
            target: self.target.clone(),
            names: self.tag.clone(),
            labels: self.label.iter().map(|label| pair(label)).collect(),
            secrets: self.secret.iter().map(|text| secret(text)).collect::<Result<_>>()?,
            ssh: self.ssh.iter().map(|text| ssh(text)).collect(),
            network: self.network.parse().unwrap_or_default(),
            extra_hosts: self.add_host.iter().map(|text| host(text)).collect::<Result<_>>()?,
            shm_size: self.shm_size.as_deref().map_or(Ok(0), |size| flags::bytes("--shm-size", size))?,
            ulimits: self.ulimit.iter().map(|text| flags::ulimit(text)).collect::<Result<_>>()?,
            limits: self.legacy.limits()?,
            cgroup_parent: self.cgroup_parent.clone(),
            platforms: self
                .platform
                .iter()
                .map(|text| crate::engine::image::parse_platform(text))
                .collect::<Result<_>>()?,
            cache_from: self.cache_from.iter().map(|text| text.parse()).collect::<Result<_>>()?,
            cache_to: self.cache_to.iter().map(|text| text.parse()).collect::<Result<_>>()?,
            no_cache: self.no_cache,
            no_cache_filter: self.no_cache_filter.clone(),
            pull: self.pull,
            allow,
            compression: Compression::default(),
            epoch: epoch()?,
            debug_shell: self.debug_shell,
        })
    }
}

/// What `--metadata-file` holds.
fn metadata(image: &Image, names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| full_name(name)).collect();
    let mut all = serde_json::json!({
        "containerimage.config.digest": image.id.to_string(),
        "containerimage.digest": image.manifest_digest.to_string(),
    });
    if !names.is_empty() {
        all["image.name"] = names.join(",").into();
    }
    format!("{all:#}\n")
}

/// Under Docker's name the error is said in the words of its builder.
fn as_docker(error: anyhow::Error) -> anyhow::Error {
    if Personality::current() != Personality::Docker || error.is::<crate::failure::Exit>() {
        return error;
    }
    let code = error.downcast_ref::<Coded>().map_or(1, |coded| coded.code);
    let hint = error.downcast_ref::<Hint>().map(|hint| Hint(hint.0.clone()));
    let text = format!("ERROR: failed to build: {}", crate::failure::one_line(&error));
    let error = anyhow::Error::from(Coded { text, code });
    match hint {
        Some(hint) => error.context(hint),
        None => error,
    }
}

/// `type=local,dest=DIR`, or a directory alone, or `-` for a tar archive on stdout.
fn output(text: &str, names: &mut Vec<String>, compression: &mut Option<Compression>) -> Result<Output> {
    if text == "-" {
        return Ok(Output::Tar(None));
    }
    if !text.contains('=') {
        return Ok(Output::Directory(PathBuf::from(text)));
    }
    let (mut kind, mut dest, mut push, mut level) = (None, None, false, None);
    for field in text.split(',') {
        let (key, value) =
            field.split_once('=').with_context(|| format!("invalid value {field:?} in the output {text:?}"))?;
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = Some(value),
            "dest" => dest = Some(PathBuf::from(value)).filter(|_| value != "-"),
            "push" => push = value.parse().with_context(|| format!("push={value} is neither true nor false"))?,
            "name" => names.push(value.to_owned()),
            "compression" => *compression = Some(value.parse()?),
            "compression-level" => {
                level = Some(value.parse().with_context(|| format!("invalid compression level {value:?}"))?);
            }
            // So it is in every image here, and not otherwise.
            "oci-mediatypes" | "rewrite-timestamp" | "unpack" | "tar" | "store" if value == "true" => {}
            "force-compression" if value == "false" => {}
            "oci-mediatypes" | "rewrite-timestamp" | "unpack" | "tar" | "store" | "force-compression" => {
                bail!("{field} in the output {text:?} is not supported");
            }
            _ => bail!("unknown key {key:?} in the output {text:?}"),
        }
    }
    if let Some(level) = level {
        *compression = Some(compression.unwrap_or_default().with_level(level));
    }
    Ok(match (kind, dest) {
        (Some("local"), Some(dest)) => Output::Directory(dest),
        (Some("local"), None) => bail!("dest is required for the output type local"),
        (Some("tar"), dest) => Output::Tar(dest),
        (Some("docker"), None) if !text.contains("dest=") => Output::Store,
        (Some("docker" | "oci"), dest) => Output::Archive(dest),
        (Some("image"), _) if push => Output::Push,
        (Some("image"), _) => Output::Store,
        (Some("registry"), _) => Output::Push,
        (Some("cacheonly"), _) => Output::Nothing,
        (Some(other), _) => bail!("unknown output type {other:?}"),
        (None, _) => bail!("the output {text:?} has no type"),
    })
}

/// `SOURCE_DATE_EPOCH` of the environment.
pub fn epoch() -> Result<Option<i64>> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) if !text.is_empty() => {
            let seconds = text.parse().ok().filter(|seconds| *seconds >= 0);
            Ok(Some(seconds.with_context(|| format!("invalid SOURCE_DATE_EPOCH: {text:?} is no number of seconds"))?))
        }
        _ => Ok(None),
    }
}

/// `NAME=VALUE`, or a variable of the environment.
pub fn args(texts: &[String], lookup: impl Fn(&str) -> Option<String>) -> IndexMap<String, String> {
    let mut args = IndexMap::new();
    for text in texts {
        match text.split_once('=') {
            Some((name, value)) => drop(args.insert(name.to_owned(), value.to_owned())),
            None => {
                if let Some(value) = lookup(text) {
                    args.insert(text.clone(), value);
                }
            }
        }
    }
    args
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

fn host(text: &str) -> Result<(String, String)> {
    let found = text.split_once('=').or_else(|| text.split_once(':'));
    let (name, address) = found.with_context(|| format!("invalid host mapping {text:?}: it is HOST:IP"))?;
    Ok((name.to_owned(), address.to_owned()))
}

/// The build's own context.
pub fn source(text: &str) -> Result<Source> {
    if text == "-" {
        return Ok(Source::Stdin);
    }
    if crate::build::is_repository(text) {
        return Ok(Source::Git(text.to_owned()));
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(Source::Url(text.to_owned()));
    }
    let path = Path::new(text);
    if !path.is_dir() {
        bail!("unable to prepare context: path {text:?} not found");
    }
    Ok(Source::Directory(std::path::absolute(path).context("make the path absolute")?))
}

/// A context by name.
fn named_source(text: &str) -> Result<Source> {
    if let Some(image) = text.strip_prefix("docker-image://") {
        return Ok(Source::Image(image.to_owned()));
    }
    if let Some(layout) = text.strip_prefix("oci-layout://") {
        let (path, name) = match layout.split_once('@') {
            Some((path, digest)) => (path, digest.to_owned()),
            None => match layout.rsplit_once(':') {
                Some((path, tag)) if !tag.contains('/') => (path, tag.to_owned()),
                _ => (layout, String::new()),
            },
        };
        return Ok(Source::Layout(PathBuf::from(path), name));
    }
    source(text)
}

fn dockerfile(context: &Source, file: Option<&str>) -> Result<File> {
    let Some(file) = file else { return Ok(File::InContext(None)) };
    if file == "-" {
        if *context == Source::Stdin {
            bail!("invalid argument: can't use stdin for both build context and dockerfile");
        }
        let text = std::io::read_to_string(std::io::stdin().lock()).context("read the Dockerfile from stdin")?;
        return Ok(File::Text(text));
    }
    let path = std::path::absolute(file).unwrap_or_else(|_| PathBuf::from(file));
    Ok(match context {
        // A file in the context is known by its name there.
        Source::Directory(dir) => match path.strip_prefix(dir) {
            Ok(inside) => File::InContext(Some(inside.to_string_lossy().into_owned())),
            Err(_) => File::At(path),
        },
        _ => File::InContext(Some(file.to_owned())),
    })
}

/// `id=ID[,src=FILE|env=NAME][,type=file|env]`
pub fn secret(text: &str) -> Result<Secret> {
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in text.split(',') {
        let (key, value) =
            field.split_once('=').with_context(|| format!("invalid secret {text:?}: {field:?} has no value"))?;
        match key.to_ascii_lowercase().as_str() {
            "id" => id = Some(value.to_owned()),
            "src" | "source" => file = Some(value.to_owned()),
            "env" => variable = Some(value.to_owned()),
            "type" if matches!(value, "file" | "env") => kind = Some(value.to_owned()),
            _ => bail!("invalid secret {text:?}: unexpected key {key:?}"),
        }
    }
    let id = id.filter(|id| !id.is_empty()).with_context(|| format!("invalid secret {text:?}: it has no id"))?;
    let from = match (kind.as_deref(), file, variable) {
        (Some("env"), Some(name), None) | (_, None, Some(name)) => SecretSource::Variable(name),
        (_, Some(file), None) => SecretSource::File(PathBuf::from(file)),
        (_, None, None) if std::env::var_os(&id).is_some() => SecretSource::Variable(id.clone()),
        (_, None, None) => SecretSource::File(PathBuf::from(&id)),
        _ => bail!("invalid secret {text:?}: it has a file and a variable"),
    };
    if let SecretSource::File(path) = &from
        && !path.exists()
    {
        bail!("secret {id}: {} not found", path.display());
    }
    Ok(Secret { id, from })
}

/// `default|ID[=SOCKET|KEY[,KEY]]`
pub fn ssh(text: &str) -> Ssh {
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    Ssh { id: id.to_owned(), paths: paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect() }
}
