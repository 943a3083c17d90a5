//! Starting and stopping the containers of a project, with the commands that their services run in them then
//! (`post_start`, `pre_stop`). The container's own config has them, so they are run without a Compose file too.

use std::io::{BufRead as _, BufReader};

use anyhow::{Context as _, Result, bail};

use crate::engine::container::Hook;
use crate::engine::{Container, Engine, exec};

use super::labels;

/// Starts a container, then runs its `post_start` commands, each to its end.
pub fn start(engine: &Engine, container: &Container) -> Result<()> {
    if container.config.hooks.post_start.is_empty() {
        return engine.start(container);
    }
    let now = || Container::load(&engine.roots, &container.config.id);
    let was_up = now()?.is_some_and(|container| container.state.status.is_up());
    engine.start(container)?;
    let Some(started) = now()?.filter(|_| !was_up) else { return Ok(()) };
    run(engine, &started, &started.config.hooks.post_start)
}

/// Runs a container's `pre_stop` commands while it still runs, then stops it. One that fails keeps it from being stopped.
pub fn stop(engine: &Engine, container: &Container, timeout: Option<i64>) -> Result<()> {
    if container.state.status.is_up() {
        run(engine, container, &container.config.hooks.pre_stop)?;
    }
    engine.stop(container, timeout)
}

/// As [`stop`], for a host that goes down: nothing keeps a container from being stopped.
pub fn halt(engine: &Engine, container: &Container, timeout: Option<i64>) -> Result<()> {
    if container.state.status.is_up()
        && let Err(error) = run(engine, container, &container.config.hooks.pre_stop)
    {
        crate::note!("warning: {}", crate::failure::one_line(&error));
    }
    engine.halt(container, timeout)
}

fn run(engine: &Engine, container: &Container, hooks: &[Hook]) -> Result<()> {
    let service = container.label(labels::SERVICE).unwrap_or(&container.config.name);
    for hook in hooks {
        let command = hook.command.join(" ");
        let code = one(engine, container, hook).with_context(|| format!("{service} hook `{command}`"))?;
        if code != 0 {
            bail!("{service} hook exited with status {code}: {command}");
        }
    }
    Ok(())
}

fn one(engine: &Engine, container: &Container, hook: &Hook) -> Result<i32> {
    let request = exec::Request {
        args: hook.command.clone(),
        env: hook.environment.clone(),
        user: hook.user.clone(),
        cwd: hook.working_dir.clone(),
        privileged: hook.privileged,
        ..exec::Request::default()
    };
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    let name = &container.config.name;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                crate::note!("{name} ->  | {}", String::from_utf8_lossy(&line));
            }
        });
        engine.exec_into(container, request, writer.into())
    })
}
