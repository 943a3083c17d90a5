//! The environment and arguments that a program gets.

use std::ffi::CString;

use crate::config::{Config, Namespace};
use crate::spec::DEFAULT_PATH;

/// The container's environment: what the config holds, and PATH, HOSTNAME, TERM and HOME where it holds none. As in
/// Docker, a variable that is set twice has the last value, and those of the config override the others.
#[must_use]
pub fn of(config: &Config, home: &str) -> Vec<String> {
    let mut out = vec![format!("PATH={DEFAULT_PATH}")];
    if !config.hostname.is_empty() && matches!(config.uts_ns, Namespace::Private | Namespace::Shareable) {
        out.push(format!("HOSTNAME={}", config.hostname));
    }
    if config.tty {
        out.push("TERM=xterm".to_owned());
    }
    merge(&mut out, &config.env);
    if !out.iter().any(|entry| name(entry) == "HOME") {
        out.push(format!("HOME={home}"));
    }
    out
}

/// Sets the variables of `more` in `base`: in place where they are set already. An entry without `=` unsets.
pub fn merge(base: &mut Vec<String>, more: &[String]) {
    for entry in more {
        let at = base.iter().position(|old| name(old) == name(entry));
        match (at, entry.contains('=')) {
            (Some(at), true) => entry.clone_into(&mut base[at]),
            (Some(at), false) => drop(base.remove(at)),
            (None, true) => base.push(entry.clone()),
            (None, false) => {}
        }
    }
}

fn name(entry: &str) -> &str {
    entry.split('=').next().unwrap_or(entry)
}

/// For `execve`. Texts with a NUL byte were refused before (`crate::spec::check`) and are left out here.
#[must_use]
pub fn c_strings(texts: &[String]) -> Vec<CString> {
    texts.iter().filter_map(|text| CString::new(text.as_str()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_adds_and_what_overrides_it() {
        let config = Config { hostname: "h".into(), env: vec!["A=1".into(), "A=2".into()], ..Config::default() };
        let path = format!("PATH={DEFAULT_PATH}");
        assert_eq!(of(&config, "/root"), [path.as_str(), "HOSTNAME=h", "A=2", "HOME=/root"]);
        let env = ["PATH=/x", "HOME=/h", "HOSTNAME", "TERM=dumb"].map(str::to_owned).to_vec();
        let config = Config { hostname: "h".into(), tty: true, env, ..Config::default() };
        assert_eq!(of(&config, "/root"), ["PATH=/x", "TERM=dumb", "HOME=/h"]);
    }
}
