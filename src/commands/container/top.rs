//! `container top`: the processes of a container, as the host sees them.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::commands::Context;
use crate::engine::{Container, cgroup};
use crate::ui::table::tabulate;

/// Display the running processes of a container.
#[derive(Debug, Args)]
pub struct Top {
    /// The container
    container: String,
    /// `-o COLUMN,…`: pid, ppid, uid, c, stime, tty, time, args
    #[arg(value_name = "PS OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Columns as `ps -ef` has them, with the words for `ps -o` that mean them.
const COLUMNS: [(&str, &[&str]); 8] = [
    ("UID", &["uid", "user", "euser", "ruser", "euid"]),
    ("PID", &["pid", "tgid"]),
    ("PPID", &["ppid"]),
    ("C", &["c"]),
    ("STIME", &["stime", "start", "start_time"]),
    ("TTY", &["tty", "tt", "tname"]),
    ("TIME", &["time", "cputime"]),
    ("CMD", &["cmd", "args", "command"]),
];

impl Top {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let container = Container::find(&context.engine.roots, &self.container)?;
        if !container.state.status.is_up() {
            bail!("container {} is not running", container.config.id);
        }
        let columns = columns(&self.options)?;
        let mut lines = vec![columns.iter().map(|(_, title)| title.as_str()).collect::<Vec<_>>().join("\t")];
        for process in cgroup::processes(&container.config.runtime.cgroup_path)? {
            let all = process.columns();
            let cell = |(index, _): &(usize, String)| all.get(*index).cloned().unwrap_or_default();
            lines.push(columns.iter().map(cell).collect::<Vec<_>>().join("\t"));
        }
        crate::ui::write_raw(tabulate(&lines).as_bytes());
        Ok(ExitCode::SUCCESS)
    }
}

/// The columns that are asked for: place among all, and title.
fn columns(options: &[String]) -> Result<Vec<(usize, String)>> {
    let mut words = Vec::new();
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        match option.strip_prefix("-o").or_else(|| option.strip_prefix("--format=")) {
            Some("") => words.extend(rest.next().into_iter().flat_map(|list| list.split(','))),
            Some(list) => words.extend(list.split(',')),
            // The usual ones, which is what is shown anyway.
            None if matches!(option.trim_start_matches('-'), "ef" | "aux" | "e" | "f" | "A") => {}
            None => bail!("ps: the option {option} is not supported: use -o with {}", known()),
        }
    }
    if words.is_empty() {
        return Ok(COLUMNS.iter().enumerate().map(|(index, (title, _))| (index, (*title).to_owned())).collect());
    }
    let column = |word: &str| {
        let (word, title) = word.split_once('=').map_or((word, None), |(word, title)| (word, Some(title)));
        let found = COLUMNS.iter().position(|(_, names)| names.contains(&word));
        let Some(index) = found else { bail!("ps: unknown column {word}: there are {}", known()) };
        let own = if matches!(word, "args" | "command") { "COMMAND".to_owned() } else { word.to_uppercase() };
        Ok((index, title.map_or(own, str::to_owned)))
    };
    words.into_iter().map(column).collect()
}

fn known() -> String {
    COLUMNS.iter().filter_map(|(_, names)| names.first().copied()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_chosen_by_the_words_of_ps() {
        let titles = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
            columns(&options)
                .map(|all| all.into_iter().map(|(index, title)| format!("{index}{title}")).collect::<Vec<_>>())
        };
        assert_eq!(titles(&["-o", "pid,args"]).unwrap(), ["1PID", "7COMMAND"]);
        assert_eq!(titles(&["-opid=X"]).unwrap(), ["1X"]);
        assert_eq!(titles(&["-ef"]).unwrap().len(), 8);
        assert!(titles(&["-o", "nice"]).is_err() && titles(&["-Z"]).is_err());
    }
}
