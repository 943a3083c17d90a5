//! A container's log, for those that have its config.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use umiak_runtime::logs::{self, Driver, Line, Options, Query, Reader, Status, Writer};

use super::Roots;
use super::container::{Config, LogConfig};
use super::roots::make_dir;

fn options(config: &LogConfig) -> Result<Options> {
    let pairs = config.options.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    Ok(Options::parse(&config.driver, pairs)?)
}

fn dir(roots: &Roots, id: &str) -> PathBuf {
    roots.container(id).join("log")
}

/// Refuses drivers and options that do not exist, and names those that do nothing here.
pub fn check(config: &LogConfig) -> Result<()> {
    let options = options(config)?;
    if !options.without_effect.is_empty() {
        crate::note!("warning: log options without effect: {}", options.without_effect.join(", "));
    }
    Ok(())
}

/// The file that `inspect` names.
pub fn path(roots: &Roots, id: &str) -> PathBuf {
    logs::path(&dir(roots, id), id)
}

/// What the monitor writes to; `None` with the driver `none`.
pub fn writer(roots: &Roots, config: &Config) -> Result<Option<Writer>> {
    let options = options(&config.log)?;
    if options.driver == Driver::None {
        return Ok(None);
    }
    let dir = dir(roots, &config.id);
    make_dir(&dir)?;
    Ok(Some(Writer::open(&dir, &config.id, &options)?))
}

/// Reads the log; `None` where nothing is logged.
pub fn reader(roots: &Roots, config: &Config, query: &Query) -> Result<Option<Reader>> {
    if options(&config.log)?.driver == Driver::None {
        return Ok(None);
    }
    let dir = dir(roots, &config.id);
    make_dir(&dir)?;
    Ok(Some(Reader::open(&dir, &config.id, query.clone()).context("open the log")?))
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
