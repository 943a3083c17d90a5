//! `container top`: the processes of a container, as the host sees them.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::commands::Context;
use crate::engine::Container;
use crate::engine::processes::{FULL, known, processes, title};
use crate::ui::table::tabulate;

/// Display the running processes of a container.
#[derive(Debug, Args)]
pub struct Top {
    /// The container
    container: String,
    /// Options of ps: -ef, aux, -o FIELD,…
    #[arg(value_name = "PS OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// The columns of `ps u`, of which some have titles of their own.
const USER: [(&str, &str); 11] = [
    ("user", "USER"),
    ("pid", "PID"),
    ("%cpu", "%CPU"),
    ("%mem", "%MEM"),
    ("vsz", "VSZ"),
    ("rss", "RSS"),
    ("tname", "TTY"),
    ("stat", "STAT"),
    ("start", "START"),
    (SHORT_TIME, "TIME"),
    ("args", "COMMAND"),
];
/// The columns of `ps -e`.
const SHORT: [(&str, &str); 4] = [("pid", "PID"), ("tname", "TTY"), ("time", "TIME"), ("comm", "CMD")];
/// What `ps u` shows as the time, which has no name of its own.
const SHORT_TIME: &str = "bsdtime";

/// A field and its title.
type Column = (String, String);

impl Top {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        let container = Container::find(&context.engine.roots, &self.container)?;
        if !container.state.status.is_up() {
            bail!("container {} is not running", container.config.id);
        }
        let columns = columns(&self.options)?;
        let mut lines = vec![columns.iter().map(|(_, title)| title.as_str()).collect::<Vec<_>>().join("\t")];
        for process in processes(&container.config.runtime.cgroup_path)? {
            let cell = |(field, _): &Column| match field.as_str() {
                SHORT_TIME => process.short_time(),
                field => process.field(field),
            };
            lines.push(columns.iter().map(cell).collect::<Vec<_>>().join("\t"));
        }
        crate::ui::write_raw(tabulate(&lines).as_bytes());
        Ok(ExitCode::SUCCESS)
    }
}

/// The columns that are asked for.
fn columns(options: &[String]) -> Result<Vec<Column>> {
    let of =
        |columns: &[(&str, &str)]| columns.iter().map(|(field, title)| ((*field).into(), (*title).into())).collect();
    let (mut lists, mut rest) = (Vec::new(), options.iter());
    let mut format: Vec<Column> = if options.is_empty() { full() } else { of(&SHORT) };
    while let Some(option) = rest.next() {
        if let Some(list) = option.strip_prefix("--format=") {
            lists.push(list);
            continue;
        }
        for (index, letter) in option.trim_start_matches('-').char_indices().map(|(index, letter)| (index + 1, letter))
        {
            match letter {
                // Which processes: all of the container's, anyway.
                'a' | 'A' | 'd' | 'e' | 'g' | 'w' | 'x' => {}
                'f' if option.starts_with('-') => format = full(),
                'u' if !option.starts_with('-') => format = of(&USER),
                'o' => {
                    let list = option.trim_start_matches('-').get(index..).filter(|list| !list.is_empty());
                    lists.extend(list.or_else(|| rest.next().map(String::as_str)));
                    break;
                }
                _ => bail!("ps: the option {option} is not supported: use -ef, aux, or -o with {}", known()),
            }
        }
    }
    if lists.is_empty() { Ok(format) } else { lists.into_iter().flat_map(|list| list.split(',')).map(column).collect() }
}

/// `ps -ef`, whose first title is its own.
fn full() -> Vec<Column> {
    let titled = |field: &&str| ((*field).to_owned(), title(field).unwrap_or_default().replace("USER", "UID"));
    FULL.iter().map(titled).collect()
}

/// A word of a list: a field, and perhaps a title for it.
fn column(word: &str) -> Result<Column> {
    let (field, own) = word.split_once('=').map_or((word, None), |(field, own)| (field, Some(own)));
    let Some(usual) = title(field) else { bail!("ps: unknown column {field}: there are {}", known()) };
    Ok((field.to_owned(), own.unwrap_or(usual).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_chosen_by_the_words_of_ps() {
        let titles = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
            columns(&options).map(|all| all.into_iter().map(|(_, title)| title).collect::<Vec<_>>().join(" "))
        };
        let full = "UID PID PPID C STIME TTY TIME CMD";
        assert_eq!(titles(&[]).unwrap(), full);
        assert_eq!(titles(&["-ef"]).unwrap(), full);
        assert_eq!(titles(&["aux"]).unwrap(), "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND");
        assert_eq!(titles(&["-e"]).unwrap(), "PID TTY TIME CMD");
        assert_eq!(titles(&["-o", "pid,comm"]).unwrap(), "PID COMMAND");
        assert_eq!(titles(&["-opid=X"]).unwrap(), "X");
        assert_eq!(titles(&["-eo", "pid,pcpu", "-o", "rss"]).unwrap(), "PID %CPU RSS");
        assert_eq!(titles(&["axo", "user,args"]).unwrap(), "USER COMMAND");
        assert!(titles(&["-o", "colour"]).is_err() && titles(&["-Z"]).is_err() && titles(&["-u", "root"]).is_err());
    }
}
