//! umiak runs Docker Compose stacks without a daemon. This is the one place
//! that turns arguments into a command, prints errors and picks the exit code.

mod background;
mod build;
mod commands;
mod docker;
mod engine;
mod failpoint;
mod failure;
mod ipc;
mod monitor;
mod outfile;
mod parallel;
mod personality;
mod project;
mod sys;
mod template;
mod ui;

use std::process::ExitCode;

use personality::Personality;

fn main() -> ExitCode {
    // The short-lived children of umiak itself: decided before anything is parsed or allocated.
    match std::env::args_os().nth(1).as_deref().and_then(|word| word.to_str()) {
        Some("__monitor") => return monitor::main(),
        Some("__create") => return monitor::create::main(),
        Some("__probe") => return monitor::probe::main(),
        Some("__clear") => return engine::remnants::main(),
        Some("__repair") => return monitor::firewall::main(),
        Some("__compress") => return engine::logs::compress_main(),
        Some("__exec") => return engine::exec::child_main(),
        _ => {}
    }
    let personality = Personality::of(std::env::args_os().next().as_deref());
    personality.settle();
    if let Some(code) = commands::completion::answer(personality) {
        return code;
    }
    let result = match personality {
        Personality::Docker => docker::run(),
        Personality::Compose => {
            docker::this_host().and_then(|()| commands::run("docker-compose", std::env::args_os().skip(1).collect()))
        }
        Personality::Own => commands::run("umiak", std::env::args_os().skip(1).collect()),
    };
    match result {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
