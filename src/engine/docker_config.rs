//! Docker's own `config.json`: where it lies, and what it says besides credentials.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde::Deserialize;
use umiak_images::auth::Places;

static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// `--config DIR`: looks there, and not where the environment says.
pub fn use_directory(directory: PathBuf) {
    let _ = DIRECTORY.set(directory);
}

/// Where it is looked for.
pub fn places() -> Places {
    let places = Places::of_process();
    match DIRECTORY.get() {
        Some(directory) => Places { docker_config: Some(directory.clone()), ..places },
        None => places,
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Settings {
    detach_keys: String,
    proxies: BTreeMap<String, Proxies>,
}

/// Proxies for what runs in containers.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Proxies {
    http_proxy: String,
    https_proxy: String,
    no_proxy: String,
    ftp_proxy: String,
    all_proxy: String,
}

impl Proxies {
    fn pairs(self) -> Vec<(&'static str, String)> {
        vec![
            ("HTTP_PROXY", self.http_proxy),
            ("HTTPS_PROXY", self.https_proxy),
            ("NO_PROXY", self.no_proxy),
            ("FTP_PROXY", self.ftp_proxy),
            ("ALL_PROXY", self.all_proxy),
        ]
    }
}

fn settings() -> Settings {
    let text = places().files().iter().find_map(|path| std::fs::read(path).ok());
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// The proxies that containers are told of where their own environment does not say anything of them: those of the
/// file, by both names, as they stand there.
pub fn container_proxies() -> Vec<(String, Option<String>)> {
    let Some(proxies) = settings().proxies.remove("default") else { return Vec::new() };
    let both =
        |(name, value): (&str, String)| [(name.to_owned(), Some(value.clone())), (name.to_lowercase(), Some(value))];
    proxies.pairs().into_iter().filter(|(_, value)| !value.is_empty()).flat_map(both).collect()
}

/// The proxies that a build's commands are told of, by both names that programs look for: those of the file, or where
/// it has none those of this process, unless they are on this host's loopback, which no container reaches.
pub fn build_proxies() -> Vec<(String, String)> {
    let of_file = settings().proxies.remove("default");
    let pairs = match of_file {
        Some(proxies) => proxies.pairs(),
        None => {
            let names = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "FTP_PROXY", "ALL_PROXY"];
            let value = |name: &str| std::env::var(name).or_else(|_| std::env::var(name.to_lowercase()));
            names.into_iter().map(|name| (name, value(name).unwrap_or_default())).collect()
        }
    };
    let is_own = |value: &str| ["//127.", "//localhost", "//[::1]"].iter().any(|own| value.contains(own));
    let mut all = Vec::new();
    for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty() && !is_own(value)) {
        all.push((name.to_owned(), value.clone()));
        all.push((name.to_lowercase(), value));
    }
    all
}

/// The keys that leave a container, for those who do not say them; empty if the file has none. A file that cannot be
/// read has none either: whoever needs credentials of it reports that.
pub fn detach_keys() -> String {
    settings().detach_keys
}
