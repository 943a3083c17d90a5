//! A container's log, for those that have its config: its driver's options,
//! what it is called there, and how it is read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use regex::Regex;
use serde_json::{Value, json};
use umiak_runtime::logs::{self, Driver, Line, LogError, Options, Query, Reader, Source, Status, Writer};

use super::Roots;
use super::container::{Config, LogConfig};
use super::roots::make_dir;
use crate::failure::WithHint as _;
use crate::template::Template;

fn options(config: &LogConfig) -> Result<Options> {
    let pairs = config.options.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    Ok(Options::parse(&config.driver, pairs)?)
}

fn dir(roots: &Roots, id: &str) -> PathBuf {
    roots.container(id).join("log")
}

/// Refuses drivers and options that do not exist, and values that mean nothing.
pub fn check(config: &LogConfig) -> Result<()> {
    let attributes = options(config)?.attributes;
    if let Some(tag) = &attributes.tag {
        let nobody = json!({ "ContainerLabels": {}, "ContainerEnv": [] });
        tag_of(tag, &with_fields(nobody, ["0".repeat(64).as_str(), "name", "sha256:", "image", "command"]))?;
    }
    for (name, pattern) in [("labels-regex", &attributes.labels_regex), ("env-regex", &attributes.env_regex)] {
        regex(name, pattern.as_deref())?;
    }
    Ok(())
}

/// The file that `inspect` names: as with Docker none but json-file's.
pub fn path(roots: &Roots, config: &Config) -> Option<PathBuf> {
    let known = Driver::named(&config.log.driver) == Some(Driver::JsonFile);
    known.then(|| logs::path(&dir(roots, &config.id), &config.id))
}

/// What the monitor writes to; `None` with the driver `none`. `strict`: the driver's receiver has to be there.
pub fn writer(roots: &Roots, config: &Config, strict: bool) -> Result<Option<Writer>> {
    let options = options(&config.log)?;
    if options.driver == Driver::None {
        return Ok(None);
    }
    let dir = dir(roots, &config.id);
    make_dir(&dir)?;
    let mut writer = Writer::open(&dir, &config.id, &options)?;
    if options.compress {
        writer.compress_with(start_compressing);
    }
    writer.describe(&source(config, &options)?, &options, strict).map_err(|error| unreachable(error, &options))?;
    Ok(Some(writer))
}

/// Names the key that led to it.
fn unreachable(error: LogError, options: &Options) -> anyhow::Error {
    let (key, hint) = match options.driver {
        Driver::Syslog if matches!(error, LogError::Certificate { .. }) => {
            ("logging.options", "syslog-tls-ca-cert, syslog-tls-cert and syslog-tls-key name files in PEM form")
        }
        Driver::Journald => {
            ("logging.driver journald", "the journal of this host does not run: use another log driver")
        }
        _ => ("logging.options.syslog-address", "start the receiver, or use another address or log driver"),
    };
    let result: Result<()> = Err(error).context(key);
    result.hint(|| hint.to_owned()).err().unwrap_or_else(|| anyhow::anyhow!(key))
}

/// The process that compresses rotated files: at the lowest priority, and gone when it has done so.
fn start_compressing(dir: &Path, id: &str) -> std::io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg0("umiak")
        .args(["__compress".as_ref(), dir.as_os_str(), id.as_ref()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
}

/// Runs that process. What fails stays as it was, and is tried again after the next rotation.
pub fn compress_main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(2).collect();
    let [dir, id] = arguments.as_slice() else { return ExitCode::FAILURE };
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    let _ = rustix::process::setpriority_process(None, logs::LOW_PRIORITY);
    let done = id.to_str().is_some_and(|id| logs::compress(Path::new(dir), id).is_ok());
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whose output it is, as the driver tells it.
fn source(config: &Config, options: &Options) -> Result<Source> {
    let env: Vec<(&str, &str)> = config.runtime.env.iter().filter_map(|pair| pair.split_once('=')).collect();
    let wanted = &options.attributes;
    let mut attributes: BTreeMap<String, String> = BTreeMap::new();
    let labels = regex("labels-regex", wanted.labels_regex.as_deref())?;
    for (name, value) in &config.labels {
        if wanted.labels.contains(name) || labels.as_ref().is_some_and(|regex| regex.is_match(name)) {
            attributes.insert(name.clone(), value.clone());
        }
    }
    let names = regex("env-regex", wanted.env_regex.as_deref())?;
    for (name, value) in env {
        if wanted.env.iter().any(|known| known == name) || names.as_ref().is_some_and(|regex| regex.is_match(name)) {
            attributes.insert(name.to_owned(), value.to_owned());
        }
    }
    let lists = json!({ "ContainerLabels": config.labels, "ContainerEnv": config.runtime.env });
    let command = config.runtime.args.join(" ");
    let words = [&config.id, &config.name, &config.image_id, &config.image, &command].map(String::as_str);
    Ok(Source {
        id: config.id.clone(),
        name: config.name.clone(),
        image: config.image.clone(),
        tag: tag_of(wanted.tag.as_deref().unwrap_or("{{.ID}}"), &with_fields(lists, words))?,
        attributes: attributes.into_iter().collect(),
    })
}

fn regex(name: &str, pattern: Option<&str>) -> Result<Option<Regex>> {
    pattern.map(Regex::new).transpose().with_context(|| format!("log opt {name}"))
}

/// What a tag's template can ask for, under Docker's names (its `logger.Info`).
fn with_fields(mut info: Value, [id, name, image_id, image, command]: [&str; 5]) -> Value {
    let short = |text: &str| text.chars().take(12).collect::<String>();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for (field, value) in [
        ("ID", short(id)),
        ("FullID", id.to_owned()),
        ("Name", name.to_owned()),
        ("ImageID", short(image_id)),
        ("ImageFullID", image_id.to_owned()),
        ("ImageName", image.to_owned()),
        ("Command", command.to_owned()),
        ("Hostname", host),
        ("DaemonName", "docker".to_owned()),
        ("ContainerID", id.to_owned()),
        ("ContainerName", format!("/{name}")),
        ("ContainerImageID", image_id.to_owned()),
        ("ContainerImageName", image.to_owned()),
    ] {
        if let Some(info) = info.as_object_mut() {
            info.insert(field.to_owned(), json!(value));
        }
    }
    info
}

fn tag_of(template: &str, info: &Value) -> Result<String> {
    let parsed = Template::parse(template).context("log opt tag")?;
    parsed.row(info, "*logger.Info", &Value::Null).context("log opt tag")
}

/// Whether there is nothing to read, as with the driver `none`.
pub fn unreadable(config: &Config) -> Result<bool> {
    Ok(!options(&config.log)?.files)
}

/// Docker's words for a log that cannot be read.
pub const UNREADABLE: &str = "configured logging driver does not support reading";

/// Reads the log; `None` where nothing is logged.
pub fn reader(roots: &Roots, config: &Config, query: &Query) -> Result<Option<Reader>> {
    read_from(roots, config, |dir| Reader::open(dir, &config.id, query.clone()))
}

/// As [`reader`], for one of many: `watch` is that of them all (see [`Reader::open_watched`]).
pub fn reader_of_many(roots: &Roots, config: &Config, query: &Query, watch: BorrowedFd<'_>) -> Result<Option<Reader>> {
    read_from(roots, config, |dir| Reader::open_watched(dir, &config.id, query.clone(), watch))
}

fn read_from(
    roots: &Roots,
    config: &Config,
    open: impl FnOnce(&Path) -> Result<Reader, LogError>,
) -> Result<Option<Reader>> {
    if unreadable(config)? {
        return Ok(None);
    }
    let dir = dir(roots, &config.id);
    make_dir(&dir)?;
    Ok(Some(open(&dir).context("open the log")?))
}

/// The last lines, for the report of a failure. What cannot be read is left out.
pub fn last_lines(roots: &Roots, config: &Config, count: usize) -> Vec<String> {
    let query = Query { tail: Some(count), ..Query::default() };
    let mut lines: Vec<Line> = Vec::new();
    if let Ok(Some(mut reader)) = reader(roots, config, &query) {
        while reader.next_lines(&mut lines).is_ok_and(|status| status == Status::More) {}
    }
    lines.into_iter().map(|line| line.text.trim_end().to_owned()).collect()
}
