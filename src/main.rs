//! umiak runs Docker Compose stacks without a daemon. This is the one place
//! that turns arguments into a command, prints errors and picks the exit code.

mod commands;
mod engine;
mod failure;
mod ipc;
mod monitor;
mod project;
mod sys;
mod template;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The short-lived children of umiak itself: decided before anything is parsed or allocated.
    match std::env::args_os().nth(1).as_deref().and_then(|word| word.to_str()) {
        Some("__monitor") => return monitor::main(),
        Some("__create") => return monitor::create::main(),
        Some("__probe") => return monitor::probe::main(),
        Some("__exec") => return engine::exec::child_main(),
        _ => {}
    }
    match commands::run() {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
