//! `security_opt`, as flags and Compose files write it.

use std::path::Path;

use anyhow::{Result, bail};
use umiak_runtime::config::{Config, Seccomp};

/// Applies one option; relative profile paths start at `base`.
pub fn apply(runtime: &mut Config, option: &str, base: &Path) -> Result<()> {
    let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
    match (key, value) {
        ("no-new-privileges", "" | "true") => runtime.no_new_privileges = true,
        ("no-new-privileges", "false") => runtime.no_new_privileges = false,
        ("seccomp", "unconfined") => runtime.seccomp = Seccomp::Unconfined,
        ("seccomp", "builtin") => runtime.seccomp = Seccomp::Default,
        ("seccomp", path) if !path.is_empty() => {
            let path = base.join(path);
            if !path.is_file() {
                bail!("opening seccomp profile ({}) failed: no such file", path.display());
            }
            runtime.seccomp = Seccomp::Profile(path);
        }
        ("systempaths", "unconfined") => runtime.unmask_system_paths = true,
        ("apparmor", profile) if !profile.is_empty() => runtime.apparmor = Some(profile.to_owned()),
        ("label", "disable") => runtime.selinux.push("disable".to_owned()),
        ("label", label) if !label.is_empty() => {
            // On a host without SELinux they mean nothing, in Docker too.
            if Path::new("/sys/fs/selinux/enforce").exists() {
                bail!("security option \"{option}\": umiak sets no labels of SELinux");
            }
        }
        _ => bail!("invalid security option \"{option}\""),
    }
    Ok(())
}
