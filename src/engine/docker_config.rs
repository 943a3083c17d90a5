//! Docker's own `config.json`: where it lies, and what it says besides credentials.

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
}

/// The keys that leave a container, for those who do not say them; empty if the file has none. A file that cannot be
/// read has none either: whoever needs credentials of it reports that.
pub fn detach_keys() -> String {
    let text = places().files().iter().find_map(|path| std::fs::read(path).ok());
    let settings: Settings = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    settings.detach_keys
}
