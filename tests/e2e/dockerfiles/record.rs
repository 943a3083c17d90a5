//! Writes down what Docker makes of the cases (`scripts/record-builds`).

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};

use super::case::{self, Case};
use super::image::Image;
use super::serve::serve;
use super::{BASES, TAG};

/// Cases at a time.
const THREADS: usize = 3;

/// Docker, and how it is reached.
#[derive(Debug)]
pub struct Docker {
    /// Words before each command.
    runner: Vec<String>,
    /// The root directory that the commands see.
    root: PathBuf,
    /// More arguments of each build.
    more: Vec<String>,
}

impl Docker {
    /// As the environment says, when it asks for a recording.
    pub fn from_env() -> Option<Self> {
        let words = |name| -> Vec<String> {
            std::env::var(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        std::env::var_os("RECORD_DOCKERFILES")?;
        let root = std::env::var_os("RECORD_ROOT").unwrap_or_else(|| "/".into()).into();
        Some(Self { runner: words("RECORD_RUNNER"), root, more: words("RECORD_ARGS") })
    }

    /// Records the cases that the environment names, or else all; the names of those that could not be.
    pub fn record(&self) -> Vec<String> {
        let named = std::env::var("RECORD_DOCKERFILES").unwrap_or_default();
        let mut names: Vec<String> = named.split_whitespace().map(str::to_owned).collect();
        if names.is_empty() {
            names = case::names();
        }
        let bases: Vec<Image> = BASES.iter().map(|name| self.save(name).unwrap()).collect();
        names.reverse();
        let (names, failed) = (Mutex::new(names), Mutex::new(Vec::new()));
        let next = || names.lock().unwrap().pop();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while let Some(name) = next() {
                        if let Err(why) = self.case(&Case::read(&name), &bases) {
                            failed.lock().unwrap().push(format!("{name}: {why}"));
                        }
                    }
                });
            }
        });
        failed.into_inner().unwrap()
    }

    fn case(&self, case: &Case, bases: &[Image]) -> Result<(), String> {
        let there = format!("/tmp/{TAG}-{}-{}", std::process::id(), case.name);
        let here = self.root.join(there.trim_start_matches('/'));
        let _ = fs::remove_dir_all(&here);
        fs::create_dir_all(&here).unwrap();
        case.write(&here);
        let port = serve(&here);
        let said = self.build(case, Path::new(&there), &here, port, bases);
        fs::remove_dir_all(&here).unwrap();
        let text = serde_json::to_string_pretty(&said?).unwrap();
        let text = text.replace(&there, "@DIR@").replace(&format!("127.0.0.1:{port}"), "127.0.0.1:@PORT@");
        let text = text.replace(&format!("PORT={port}"), "PORT=@PORT@");
        fs::write(case::directory().join(&case.name).with_extension("json"), format!("{text}\n")).unwrap();
        Ok(())
    }

    fn build(&self, case: &Case, there: &Path, here: &Path, port: u16, bases: &[Image]) -> Result<Value, String> {
        let tag = format!("{TAG}-{}", case.name);
        let builds = case.arguments(there, port);
        for (index, arguments) in builds.iter().enumerate() {
            let last = index + 1 == builds.len();
            let mut words = vec!["docker", "buildx", "build", "--load", "--provenance=false"];
            words.extend(self.more.iter().map(String::as_str));
            if last {
                words.extend(["-t", &tag]);
            }
            words.extend(arguments.iter().map(String::as_str));
            let done = self.run(there, &case.environment(there, port), &words, &case.input(here));
            let message = String::from_utf8_lossy(&done.stderr).into_owned();
            match (done.status.success(), &case.says) {
                (true, None) => {}
                (true, Some(_)) if !last => {}
                (true, Some(_)) => return Err("Docker builds it".into()),
                (false, None) => return Err(message),
                (false, Some(says)) => {
                    let line = message.lines().rev().find(|line| line.starts_with("ERROR")).unwrap_or_default();
                    let low = line.to_lowercase();
                    if let Some(word) = says.iter().find(|word| !low.contains(&word.to_lowercase())) {
                        return Err(format!("Docker does not say {word}: {line}"));
                    }
                    return Ok(json!({ "error": line }));
                }
            }
        }
        let image = self.save(&tag)?;
        self.run(Path::new("/"), &[], &["docker", "image", "rm", &tag], b"");
        Ok(image.describe(bases))
    }

    fn save(&self, name: &str) -> Result<Image, String> {
        let done = self.run(Path::new("/"), &[], &["docker", "save", name], b"");
        let message = String::from_utf8_lossy(&done.stderr);
        match done.status.success() {
            true => Ok(Image::read(&done.stdout)),
            false if message.contains("empty export") => self.without_layers(name),
            false => Err(format!("docker save {name}: {message}")),
        }
    }

    /// An image that has no layers, which Docker does not save.
    fn without_layers(&self, name: &str) -> Result<Image, String> {
        let ask = |words: &[&str]| {
            let done = self.run(Path::new("/"), &[], words, b"");
            String::from_utf8(done.stdout).map_err(|error| error.to_string())
        };
        let shown: Value = serde_json::from_str(&ask(&["docker", "image", "inspect", name])?).unwrap();
        let history = ask(&["docker", "history", "--no-trunc", "--format", "{{json .CreatedBy}}", name])?;
        let steps = history.lines().rev().map(|by| -> Value { serde_json::from_str(by).unwrap() });
        Ok(Image::from_config(json!({
            "architecture": shown[0]["Architecture"],
            "variant": shown[0]["Variant"],
            "os": shown[0]["Os"],
            "created": shown[0]["Created"],
            "config": shown[0]["Config"],
            "history": steps.map(|by| json!({ "created_by": by, "empty_layer": true })).collect::<Value>(),
        })))
    }

    fn run(&self, dir: &Path, env: &[(String, String)], words: &[&str], input: &[u8]) -> Output {
        let mut all: Vec<String> = self.runner.clone();
        all.extend(["env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"].map(str::to_owned));
        all.extend(env.iter().map(|(name, value)| format!("{name}={value}")));
        all.extend(["sh", "-c", "cd \"$0\" && exec \"$@\"", dir.to_str().unwrap()].map(str::to_owned));
        all.extend(words.iter().map(|word| (*word).to_owned()));
        let mut command = Command::new(&all[0]);
        command.args(&all[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // One who does not read all of it has closed the pipe.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        output
    }
}
