//! The state of a stage between two instructions: the image config so far, the
//! layers, the variables. Instructions that only change the config are applied
//! here; nothing touches the disk.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use indexmap::IndexMap;
use umiak_dockerfile::{Command, Healthcheck, Kind, Text};
use umiak_images::config::{self, History, ImageConfig};
use umiak_images::digest::Digest;
use umiak_images::platform::Platform;

/// What `PATH` is where an image has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Between two instructions.
#[derive(Debug, Clone)]
pub struct State {
    /// The config of the image that the stage would be.
    pub image: ImageConfig,
    /// Diff ids, bottom first.
    pub layers: Vec<Digest>,
    /// What RUN sees and variables are replaced with: of the image, of ENV and of ARG, in this order.
    pub env: IndexMap<String, String>,
    /// What ARG declared, with the value if there is one.
    pub args: IndexMap<String, Option<String>>,
    /// CMD was said in this stage: a new ENTRYPOINT leaves it.
    cmd_set: bool,
    /// When the last layer was made, RFC 3339.
    pub created: Option<String>,
}

/// Values of variables as an instruction sees them, and the escape character.
#[derive(Debug, Clone, Copy)]
pub struct Words<'w> {
    /// Variables.
    pub env: &'w IndexMap<String, String>,
    /// What takes a character's meaning away.
    pub escape: char,
}

impl Words<'_> {
    /// One text with its variables replaced.
    pub fn one(&self, text: &Text) -> Result<String> {
        let expanded = umiak_dockerfile::expand(&text.raw, self.escape, &|name| self.env.get(name).cloned());
        Ok(expanded.map_err(|error| anyhow::anyhow!("failed to process {:?}: {error}", text.raw))?.text)
    }

    /// A text that may be several words once its variables are replaced.
    pub fn many(&self, text: &Text) -> Result<Vec<String>> {
        let words = umiak_dockerfile::expand_words(&text.raw, self.escape, &|name| self.env.get(name).cloned());
        words.map_err(|error| anyhow::anyhow!("failed to process {:?}: {error}", text.raw))
    }
}

impl State {
    /// Nothing, for a platform.
    pub fn scratch(platform: &Platform) -> Self {
        let mut image = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..ImageConfig::default()
        };
        "/".clone_into(&mut image.config.working_dir);
        Self::of_image(image, Vec::new())
    }

    /// An image.
    pub fn of_image(image: ImageConfig, layers: Vec<Digest>) -> Self {
        let created = image.created.clone();
        let mut state = Self { image, layers, env: IndexMap::new(), args: IndexMap::new(), cmd_set: false, created };
        if !state.image.config.env.iter().any(|entry| entry.starts_with("PATH=")) {
            state.image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for entry in &state.image.config.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            state.env.insert(name.to_owned(), value.to_owned());
        }
        // Config of what the image was made with says nothing about what is made of it.
        (state.image.author, state.image.comment) = (state.image.author.take(), None);
        state.image.cache = None;
        state
    }

    /// The state that another stage begins with when this one is its base.
    pub fn as_base(&self) -> Self {
        Self { cmd_set: false, ..self.clone() }
    }

    /// The shell of instructions that are no JSON array.
    pub fn shell(&self) -> Vec<String> {
        let shell = self.image.config.shell.clone().filter(|shell| !shell.is_empty());
        shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()])
    }

    /// A command line as it is run, or written into the config.
    pub fn command_line(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) if text.is_empty() => Vec::new(),
            Command::Shell(text) => {
                let mut words = self.shell();
                words.push(text.clone());
                words
            }
        }
    }

    /// An absolute path: relative ones begin in the working directory. A slash at the end stays.
    pub fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') {
            return path.to_owned();
        }
        let dir = self.image.config.working_dir.trim_end_matches('/');
        format!("{dir}/{path}")
    }

    /// One more line of history.
    pub fn history(&mut self, created_by: String, layer: bool) {
        self.image.history.push(History {
            created: self.created.clone(),
            created_by: Some(created_by),
            author: self.image.author.clone(),
            comment: Some("buildkit.dockerfile.v0".to_owned()),
            empty_layer: !layer,
        });
    }

    /// `RUN |1 A=b /bin/sh -c …`: the values of ARGs are part of how a layer came to be.
    pub fn run_history(&self, words: &[String]) -> String {
        let mut text = String::from("RUN ");
        let args: Vec<String> = self
            .args
            .iter()
            .map(|(name, value)| {
                let value = self.env.get(name).or(value.as_ref()).map_or("", String::as_str);
                format!("{name}={value}")
            })
            .collect();
        if !args.is_empty() {
            let _ = write!(text, "|{} {} ", args.len(), args.join(" "));
        }
        text + &words.join(" ") + " # buildkit"
    }

    /// Applies an instruction that changes the config alone; false for any other.
    pub fn apply(&mut self, kind: &Kind, given: &Given<'_>, escape: char) -> Result<bool> {
        let env = self.env.clone();
        let words = Words { env: &env, escape };
        let run = &mut self.image.config;
        let text = match kind {
            Kind::Arg(items) => {
                let mut told = Vec::new();
                for item in items {
                    told.push(self.declare(item, given, escape)?);
                }
                format!("ARG {}", told.join(" "))
            }
            Kind::Env(pairs) => {
                let mut told = Vec::new();
                for (name, value) in pairs {
                    let (name, value) = (words.one(name)?, words.one(value)?);
                    set_env(&mut run.env, &name, &value);
                    told.push(format!("{name}={value}"));
                    self.env.insert(name, value);
                }
                format!("ENV {}", told.join(" "))
            }
            Kind::Label(pairs) => {
                let mut told = Vec::new();
                for (name, value) in pairs {
                    let (name, value) = (words.one(name)?, words.one(value)?);
                    told.push(format!("{name}={value}"));
                    run.labels.insert(name, value);
                }
                format!("LABEL {}", told.join(" "))
            }
            Kind::Cmd(command) => {
                let line = self.command_line(command);
                let text = format!("CMD {}", quoted(&line));
                self.image.config.cmd = Some(line);
                self.cmd_set = true;
                text
            }
            Kind::Entrypoint(command) => {
                let line = self.command_line(command);
                let text = format!("ENTRYPOINT {}", quoted(&line));
                self.image.config.entrypoint = Some(line);
                if !self.cmd_set {
                    self.image.config.cmd = None;
                }
                text
            }
            Kind::Expose(ports) => {
                let mut told = Vec::new();
                for text in ports {
                    for word in words.many(text)? {
                        told.extend(umiak_dockerfile::expose::ports(&word)?.ports);
                    }
                }
                told.sort();
                told.dedup();
                for port in &told {
                    if !run.exposed_ports.contains(port) {
                        run.exposed_ports.push(port.clone());
                    }
                }
                run.exposed_ports.sort();
                format!("EXPOSE [{}]", told.join(" "))
            }
            Kind::Volume(paths) => {
                let mut told = Vec::new();
                for path in paths {
                    let path = words.one(path)?;
                    if path.trim().is_empty() {
                        bail!("VOLUME specified can not be an empty string");
                    }
                    if !run.volumes.contains(&path) {
                        run.volumes.push(path.clone());
                    }
                    told.push(path);
                }
                run.volumes.sort();
                format!("VOLUME [{}]", told.join(" "))
            }
            Kind::User(user) => {
                run.user = words.one(user)?;
                format!("USER {}", run.user)
            }
            Kind::Shell(shell) => {
                run.shell = Some(shell.clone());
                format!("SHELL [{}]", shell.join(" "))
            }
            Kind::StopSignal(signal) => {
                let signal = words.one(signal)?;
                crate::engine::stop::signal(&signal)?;
                run.stop_signal = Some(signal.clone());
                format!("STOPSIGNAL {signal}")
            }
            Kind::Healthcheck(check) => {
                let check = match check {
                    Healthcheck::None => {
                        config::Healthcheck { test: vec!["NONE".to_owned()], ..config::Healthcheck::default() }
                    }
                    Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries } => {
                        let [interval, timeout, start_period, start_interval] =
                            [interval, timeout, start_period, start_interval].map(|span| nanoseconds(*span));
                        config::Healthcheck {
                            test: health_test(command),
                            interval,
                            timeout,
                            start_period,
                            start_interval,
                            retries: retries.map_or(0, i64::from),
                        }
                    }
                };
                let text = format!("HEALTHCHECK {}", health_text(&check));
                self.image.config.healthcheck = Some(check);
                text
            }
            // Says nothing about how this image came to be.
            Kind::OnBuild(text) => {
                run.on_build.push(text.clone());
                return Ok(true);
            }
            Kind::Maintainer(name) => {
                self.image.author = Some(name.clone());
                format!("MAINTAINER {name}")
            }
            Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_) => return Ok(false),
        };
        self.history(text, false);
        Ok(true)
    }

    fn declare(&mut self, item: &umiak_dockerfile::ArgItem, given: &Given<'_>, escape: char) -> Result<String> {
        let name = &item.name;
        let default = match &item.default {
            Some(text) => Some(Words { env: &self.env, escape }.one(text)?),
            None => None,
        };
        let value = match (given.args.get(name), default) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(default)) => Some(default),
            (None, None) => given.meta.get(name).cloned(),
        };
        let mut told = name.clone();
        if let Some(value) = &value {
            let _ = write!(told, "={value}");
            self.env.insert(name.clone(), value.clone());
        }
        self.args.insert(name.clone(), value);
        Ok(told)
    }

    /// A new working directory, absolute.
    pub fn work_in(&mut self, path: &str) -> String {
        let parts = super::tree::clean(&self.absolute(path));
        let path = format!("/{}", parts.join("/"));
        self.image.config.working_dir.clone_from(&path);
        path
    }
}

/// Values of variables from outside of a stage.
#[derive(Debug, Clone, Copy)]
pub struct Given<'g> {
    /// `--build-arg`, and what is predefined.
    pub args: &'g IndexMap<String, String>,
    /// Of the ARGs before the first FROM.
    pub meta: &'g IndexMap<String, String>,
}

/// Sets a variable where it is, or at the end.
fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    let is = |there: &&mut String| there.split_once('=').map_or(there.as_str(), |(name, _)| name) == name;
    match env.iter_mut().find(is) {
        Some(there) => *there = entry,
        None => env.push(entry),
    }
}

/// `["a" "b"]`, as histories have it.
fn quoted(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|word| go_quoted(word)).collect::<Vec<_>>().join(" "))
}

/// Go's `%q`.
fn go_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\t' => quoted += "\\t",
            '\r' => quoted += "\\r",
            character if character.is_control() => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(character));
            }
            character => quoted.push(character),
        }
    }
    quoted + "\""
}

/// 0 stands for the default.
fn nanoseconds(span: Option<std::time::Duration>) -> i64 {
    span.map_or(0, |span| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
}

fn health_test(command: &Command) -> Vec<String> {
    match command {
        Command::Exec(words) => [vec!["CMD".to_owned()], words.clone()].concat(),
        Command::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
    }
}

/// A health check as histories have it.
fn health_text(check: &config::Healthcheck) -> String {
    format!(
        "{{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        check.test.join(" "),
        go_duration(check.interval),
        go_duration(check.timeout),
        go_duration(check.start_period),
        go_duration(check.start_interval),
        check.retries
    )
}

/// Go's way to write a duration: `1m30s`, `500ms`, `0s`.
fn go_duration(nanoseconds: i64) -> String {
    let decimal = |value: i64, unit: i64, name: &str| {
        let (whole, rest) = (value / unit, value % unit);
        if rest == 0 {
            return format!("{whole}{name}");
        }
        let digits = unit.ilog10() as usize;
        let fraction = format!("{rest:0digits$}");
        format!("{whole}.{}{name}", fraction.trim_end_matches('0'))
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => decimal(n, 1_000, "µs"),
        n if n < 1_000_000_000 => decimal(n, 1_000_000, "ms"),
        n => {
            let seconds = decimal(n % 60_000_000_000, 1_000_000_000, "s");
            match (n / 3_600_000_000_000, n / 60_000_000_000 % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        let cases = [
            (0, "0s"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (250_000_000, "250ms"),
            (1_500, "1.5µs"),
        ];
        for (nanoseconds, expected) in cases {
            assert_eq!(go_duration(nanoseconds), expected);
        }
    }

    #[test]
    fn histories_quote_as_go_does() {
        assert_eq!(quoted(&["a b".to_owned(), "\"\n".to_owned()]), r#"["a b" "\"\n"]"#);
    }
}
