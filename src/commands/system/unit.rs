//! What makes the host's init start containers at boot: a unit for systemd, a
//! script for OpenRC. Pure: text from the paths that they name.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The unit's name.
pub const NAME: &str = "umiak.service";
/// In the first line of what is ours.
pub const MARKER: &str = "Made by `umiak system enable`";
/// The target that wants the unit.
const TARGET: &str = "multi-user.target";

/// What the unit or script calls, and where.
#[derive(Debug, Clone)]
pub struct Service {
    /// The program.
    pub program: PathBuf,
    /// The data root.
    pub root: PathBuf,
    /// Variables of the environment, where the roots are not the usual ones.
    pub environment: Vec<(&'static str, PathBuf)>,
}

/// Where the unit lies below the root directory of a host.
pub fn unit_path(host: &Path) -> PathBuf {
    host.join("etc/systemd/system").join(NAME)
}

/// The link that `systemctl enable` makes.
pub fn link_path(host: &Path) -> PathBuf {
    host.join("etc/systemd/system").join(format!("{TARGET}.wants")).join(NAME)
}

impl Service {
    /// The unit. A reboot is an orderly one: `halt` keeps what was wanted, so that `boot` brings it back.
    pub fn systemd(&self) -> Result<String> {
        let program = quoted_for_systemd(&self.program, true)?;
        let root = quoted_for_systemd(&self.root, false)?;
        let mut environment = String::new();
        for (name, value) in &self.environment {
            let assignment = PathBuf::from(format!("{name}={}", text(value)?));
            let _ = writeln!(environment, "Environment={}", quoted_for_systemd(&assignment, false)?);
        }
        Ok(format!(
            "\
# {MARKER}; `umiak system disable` removes it.
[Unit]
Description=Containers of umiak
Wants=network-online.target
After=network-online.target local-fs.target nftables.service firewalld.service ufw.service docker.service
RequiresMountsFor={root}
StartLimitIntervalSec=1h
StartLimitBurst=5

[Service]
Type=oneshot
RemainAfterExit=yes
{environment}ExecStart={program} system boot
ExecStop={program} system halt
# What could not be started is tried again; what runs is left alone.
Restart=on-failure
RestartSec=30s
TimeoutStartSec=infinity
TimeoutStopSec=5min
# The containers' monitors outlive the command, and one killed process of a container is no reason to stop all.
KillMode=process
OOMPolicy=continue
TasksMax=infinity

[Install]
WantedBy={TARGET}
"
        ))
    }

    /// The script for /etc/init.d.
    pub fn openrc(&self) -> Result<String> {
        let program = quoted_for_shell(&self.program)?;
        let mut environment = String::new();
        for (name, value) in &self.environment {
            let _ = writeln!(environment, "export {name}={}", quoted_for_shell(value)?);
        }
        Ok(format!(
            "\
#!/sbin/openrc-run
# {MARKER}. Install it with
#   umiak system enable --print >/etc/init.d/umiak && chmod 755 /etc/init.d/umiak
#   rc-update add umiak default
description=\"Containers of umiak\"
{environment}
depend() {{
	need localmount
	use net cgroups dns
	after firewall nftables iptables docker
}}

start() {{
	ebegin \"Starting containers\"
	{program} system boot
	eend $?
}}

stop() {{
	ebegin \"Stopping containers\"
	{program} system halt
	eend $?
}}
"
        ))
    }
}

/// Whether a unit is one that `system enable` wrote.
pub fn is_ours(unit: &str) -> bool {
    unit.lines().next().is_some_and(|line| line.contains(MARKER))
}

fn text(path: &Path) -> Result<&str> {
    match path.to_str() {
        Some(text) if !text.contains(|c: char| c.is_control()) => Ok(text),
        _ => bail!("the path {} cannot be written into a unit or a script", path.display()),
    }
}

/// One word of a unit (systemd.syntax(7)): `%` begins a specifier, and `$` a variable where a `command` is named.
fn quoted_for_systemd(path: &Path, command: bool) -> Result<String> {
    let mut word = text(path)?.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    if command {
        word = word.replace('$', "$$");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    Ok(if word.chars().all(plain) { word } else { format!("\"{word}\"") })
}

fn quoted_for_shell(path: &Path) -> Result<String> {
    let word = text(path)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    Ok(if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(program: &str, environment: &[(&'static str, &str)]) -> Service {
        let environment = environment.iter().map(|(name, value)| (*name, PathBuf::from(value))).collect();
        Service { program: program.into(), root: "/var/lib/umiak".into(), environment }
    }

    #[test]
    fn the_unit_boots_halts_and_is_known_again() {
        let unit = service("/usr/local/bin/umiak", &[]).systemd().unwrap();
        assert!(is_ours(&unit) && !is_ours("[Unit]\n# Made by `umiak system enable`\n"));
        for line in [
            "ExecStart=/usr/local/bin/umiak system boot",
            "ExecStop=/usr/local/bin/umiak system halt",
            "Type=oneshot",
            "RemainAfterExit=yes",
            "KillMode=process",
            "RequiresMountsFor=/var/lib/umiak",
            "WantedBy=multi-user.target",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line}\n{unit}");
        }
        assert!(!unit.contains("Environment="));
    }

    #[test]
    fn strange_paths_are_quoted_as_each_init_reads_them() {
        let service = service("/opt/100% $mine/um\"iak", &[("UMIAK_ROOT", "/a b"), ("UMIAK_RUN_ROOT", "/run/it's")]);
        let unit = service.systemd().unwrap();
        assert!(unit.contains(r#"ExecStart="/opt/100%% $$mine/um\"iak" system boot"#), "{unit}");
        assert!(unit.contains("Environment=\"UMIAK_ROOT=/a b\"\nEnvironment=\"UMIAK_RUN_ROOT=/run/it's\"\n"), "{unit}");
        let script = service.openrc().unwrap();
        assert!(script.contains(r#"'/opt/100% $mine/um"iak' system boot"#), "{script}");
        assert!(script.contains("export UMIAK_ROOT='/a b'\nexport UMIAK_RUN_ROOT='/run/it'\\''s'\n"), "{script}");
        assert!(script.starts_with("#!/sbin/openrc-run\n"));
    }

    #[test]
    fn a_line_feed_in_a_path_is_refused() {
        assert!(service("/opt/um\niak", &[]).systemd().is_err());
        assert!(service("/opt/um\niak", &[]).openrc().is_err());
    }
}
