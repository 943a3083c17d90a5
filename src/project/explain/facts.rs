//! Observes what an explanation is made of.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::Timestamp;
use umiak_base::{ProcessRef, state};

use super::{Facts, HealthFacts, Unseen, Waits};
use crate::engine::container::{REBOOTED, State, Status, UNSEEN, Want};
use crate::engine::stop::GRACE;
use crate::engine::{Container, Engine, logs};
use crate::project::observe::Member;
use crate::project::wait::{self, Goal, Seen, Verdict};

/// Lines of its log that are shown.
const LAST_LINES: usize = 10;

/// What is to be known of one member of a project.
pub fn observe(engine: &Engine, member: &Member, all: &[Member]) -> Result<Facts> {
    let container = &member.container;
    let (config, seen) = (&container.config, &container.state);
    let want = state::read::<Want>(&engine.roots.container(&config.id).join("want.json"))?.unwrap_or_default();
    let waits_for = match seen.status {
        Status::Created => waits_for(container, all),
        _ => Vec::new(),
    };
    // What an earlier run wrote says nothing of a start that failed.
    let last_lines = match seen.end.not_started && !seen.status.is_up() {
        true => Vec::new(),
        false => logs::last_lines(&engine.roots, config, LAST_LINES).iter().map(|line| plain(line)).collect(),
    };
    Ok(Facts {
        service: member.service.clone(),
        status: seen.status,
        exit_code: seen.exit_code,
        error: seen.error.clone(),
        oom_killed: seen.oom_killed || seen.end.out_of_memory,
        end: seen.end.clone(),
        restarts: seen.restart_count,
        policy: config.restart.clone(),
        health: health(container),
        supervised: seen.monitor.is_some_and(ProcessRef::alive),
        unseen: unseen(seen),
        wanted: want.running,
        waits_for,
        started: seen.started_at,
        finished: seen.finished_at,
        now: Timestamp::now(),
        program: super::program(&config.runtime.args),
        grace: config.stop_timeout.unwrap_or(GRACE),
        last_lines,
    })
}

/// Why the end of a run was not seen, where it was not.
fn unseen(seen: &State) -> Option<Unseen> {
    match seen.error.as_deref() {
        _ if seen.status != Status::Exited => None,
        Some(UNSEEN) => Some(Unseen::MonitorLost),
        Some(REBOOTED) => Some(Unseen::Reboot),
        _ => None,
    }
}

fn health(container: &Container) -> Option<HealthFacts> {
    let (health, check) = (container.health.as_ref()?, container.config.healthcheck.as_ref()?);
    // Without the shell around it: `exec` is typed into one.
    let command = match (check.reach.is_some(), check.test.split_first()) {
        (false, Some((kind, args))) if kind == "CMD-SHELL" => format!("sh -c {}", quoted(&args.join(" "))),
        (false, Some((_, args))) => args.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    };
    Some(HealthFacts {
        status: health.status,
        streak: health.failing_streak,
        last: health.log.last().map(|last| (last.exit_code, plain(&last.output))),
        command,
        restarts: container.config.restart_unhealthy,
    })
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    match !word.is_empty() && word.bytes().all(harmless) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Which of a container's dependencies are not what they shall be.
fn waits_for(container: &Container, all: &[Member]) -> Vec<Waits> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (service, dependency) in wait::of_label(container) {
        let goal = wait::goal(dependency.condition);
        let replicas: Vec<&Member> =
            all.iter().filter(|member| member.service == service && !member.is_one_off()).collect();
        if replicas.is_empty() {
            found.insert(service.clone(), format!("service {service} has no container"));
        }
        for Member { container, .. } in replicas {
            let seen = Seen::of(container, 0);
            let name = &container.config.name;
            let says = match wait::judge(goal.unwrap_or(Goal::Up), &seen) {
                Verdict::Satisfied => continue,
                // That it was started is all that was asked for.
                _ if goal.is_none() && seen.status != Status::Created => continue,
                Verdict::Fails(reason) => reason.of(name),
                Verdict::Wait if goal == Some(Goal::Completed) => format!("container {name} has not completed yet"),
                Verdict::Wait => format!("container {name} is not healthy yet"),
            };
            found.insert(service.clone(), says);
        }
    }
    found.into_iter().map(|(service, says)| Waits { service, says }).collect()
}

/// A text that can be shown: what moves cursors or colours is left out.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => {
                // CSI sequences end with a letter; of others the next character is all.
                if chars.next() == Some('[') {
                    chars.by_ref().find(|char| ('@'..='~').contains(char));
                }
            }
            '\n' | '\t' => plain.push(char),
            char if char.is_control() => {}
            char => plain.push(char),
        }
    }
    plain
}

/// What is added to `exited with code 137`; nothing where the code says all.
pub fn of_end(seen: &State) -> Option<String> {
    seen.oom_killed.then(|| {
        let how = super::oom_limit(seen.end.memory_limit, seen.end.memory_peak);
        format!("out of memory: killed {how}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_is_left_out_of_lines() {
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m\ttab\u{7}\r"), "red\ttab");
        assert_eq!(plain("\u{1b}c\u{9b}x"), "x");
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        assert_eq!(quoted("pg_isready"), "pg_isready");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
