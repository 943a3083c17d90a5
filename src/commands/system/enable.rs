//! `system enable` and `system disable`: the unit that starts containers when
//! the host boots.

use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use super::unit::{self, Service};
use crate::commands::{Global, absolute};
use crate::failure::WithHint as _;
use crate::{note, out};

/// The program that the kernel starts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Init {
    /// Units in /etc/systemd/system.
    Systemd,
    /// Scripts in /etc/init.d.
    Openrc,
}

/// Start containers when the host boots, and stop them in order when it goes down.
#[derive(Debug, Args)]
pub struct Enable {
    /// Start what is to be started now, too
    #[arg(long, conflicts_with_all = ["print", "destdir"])]
    now: bool,
    /// Print the unit or script, and change nothing
    #[arg(long)]
    print: bool,
    /// The init system; found out if it is not said
    #[arg(long, value_enum)]
    init: Option<Init>,
    /// The root directory of another host's file system: systemd is not told
    #[arg(long, value_name = "DIR")]
    destdir: Option<PathBuf>,
}

/// Do no longer start containers when the host boots.
#[derive(Debug, Args)]
pub struct Disable {
    /// Stop all containers now, too
    #[arg(long, conflicts_with = "destdir")]
    now: bool,
    /// The root directory of another host's file system: systemd is not told
    #[arg(long, value_name = "DIR")]
    destdir: Option<PathBuf>,
}

const SCRIPT: &str = "/etc/init.d/umiak";

impl Enable {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> Result<ExitCode> {
        let service = service(global)?;
        let init = self.init.unwrap_or_else(|| init(self.destdir.as_deref()));
        let text = match init {
            Init::Systemd => service.systemd()?,
            Init::Openrc => service.openrc()?,
        };
        if self.print || init == Init::Openrc {
            out!("{}", text.trim_end());
        }
        if self.print {
            return Ok(ExitCode::SUCCESS);
        }
        if init == Init::Openrc {
            note!("systemd does not run here. With OpenRC, this script is installed by");
            note!("  umiak system enable --print >{SCRIPT} && chmod 755 {SCRIPT}");
            note!("  rc-update add umiak default");
            if self.now {
                bail!("nothing was started: there is no service yet; `umiak system boot` starts containers by itself");
            }
            return Ok(ExitCode::SUCCESS);
        }
        let host = self.destdir.as_deref().unwrap_or(Path::new("/"));
        let path = unit::unit_path(host);
        check_owner(&path)?;
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).with_context(|| format!("make the directory {}", dir.display()))?;
        }
        umiak_base::state::write_bytes(&path, text.as_bytes(), 0o644)
            .with_context(|| format!("write {}", path.display()))?;
        out!("{}", path.display());
        if self.destdir.is_some() {
            link(host)?;
        }
        for args in enabling(self.destdir.is_some(), self.now) {
            systemctl(&args)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Disable {
    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode> {
        let init = init(self.destdir.as_deref());
        if init == Init::Openrc {
            note!("systemd does not run here. With OpenRC, the script is removed by");
            note!("  rc-update del umiak default");
            note!("  rm {SCRIPT}");
            return Ok(ExitCode::SUCCESS);
        }
        let host = self.destdir.as_deref().unwrap_or(Path::new("/"));
        let path = unit::unit_path(host);
        if !check_owner(&path)? {
            note!("{} is not there: nothing to disable", path.display());
            return Ok(ExitCode::SUCCESS);
        }
        let (before, after) = disabling(self.destdir.is_some(), self.now);
        before.iter().try_for_each(|args| systemctl(args))?;
        for path in [unit::link_path(host), path] {
            match std::fs::remove_file(&path) {
                Ok(()) => out!("removed {}", path.display()),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("remove {}", path.display())),
            }
        }
        after.iter().try_for_each(|args| systemctl(args))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What is told to systemd once the unit is there.
fn enabling(elsewhere: bool, now: bool) -> Vec<Vec<&'static str>> {
    if elsewhere {
        return Vec::new();
    }
    let mut enable = vec!["enable"];
    enable.extend(now.then_some("--now"));
    enable.push(unit::NAME);
    vec![vec!["daemon-reload"], enable]
}

/// What is told to systemd before the unit goes, and after.
fn disabling(elsewhere: bool, now: bool) -> (Vec<Vec<&'static str>>, Vec<Vec<&'static str>>) {
    if elsewhere {
        return (Vec::new(), Vec::new());
    }
    let mut disable = vec!["disable"];
    disable.extend(now.then_some("--now"));
    disable.push(unit::NAME);
    (vec![disable], vec![vec!["daemon-reload"]])
}

fn systemctl(args: &[&str]) -> Result<()> {
    let line = format!("systemctl {}", args.join(" "));
    let status = Command::new("systemctl").args(args).status().with_context(|| format!("run {line}"))?;
    if !status.success() {
        return Err(anyhow::anyhow!("{line} failed: {status}")).hint(|| format!("systemctl status {}", unit::NAME));
    }
    Ok(())
}

/// What calls this program with these roots.
fn service(global: &Global) -> Result<Service> {
    let program = std::env::current_exe().context("find our own program")?;
    if !program.exists() {
        bail!("{} is no longer there: the unit would name a program that was replaced or removed", program.display());
    }
    let (root, run_root) = (absolute(&global.root)?, absolute(&global.run_root)?);
    let mut environment = Vec::new();
    for (name, value, usual) in [("UMIAK_ROOT", &root, "/var/lib/umiak"), ("UMIAK_RUN_ROOT", &run_root, "/run/umiak")] {
        if value != Path::new(usual) {
            environment.push((name, value.clone()));
        }
    }
    Ok(Service { program, root, environment })
}

/// Another host's is systemd, for only that can be enabled from outside.
fn init(destdir: Option<&Path>) -> Init {
    // sd_booted(3)
    if destdir.is_some() || Path::new("/run/systemd/system").is_dir() { Init::Systemd } else { Init::Openrc }
}

/// Whether there is a unit; one that is not ours is an error.
fn check_owner(path: &Path) -> Result<bool> {
    match std::fs::read(path) {
        Ok(bytes) if unit::is_ours(&String::from_utf8_lossy(&bytes)) => Ok(true),
        Ok(_) => Err(anyhow::anyhow!("{} was not made by `umiak system enable`, and is left as it is", path.display()))
            .hint(|| "move it away, or take what you need from `umiak system enable --print`".into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// As `systemctl --root=DIR enable` does.
fn link(host: &Path) -> Result<()> {
    let link = unit::link_path(host);
    if let Some(dir) = link.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("make the directory {}", dir.display()))?;
    }
    match symlink(format!("/etc/systemd/system/{}", unit::NAME), &link) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("make {}", link.display()))
        }
        _ => {
            out!("{}", link.display());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_told_in_order_and_not_of_another_host() {
        assert_eq!(enabling(false, false), [vec!["daemon-reload"], vec!["enable", "umiak.service"]]);
        assert_eq!(enabling(false, true)[1], ["enable", "--now", "umiak.service"]);
        assert!(enabling(true, false).is_empty());
        let (before, after) = disabling(false, true);
        assert_eq!((before, after), (vec![vec!["disable", "--now", "umiak.service"]], vec![vec!["daemon-reload"]]));
        assert_eq!(disabling(true, false), (Vec::new(), Vec::new()));
    }
}
