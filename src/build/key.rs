//! The keys of steps: what a step does, what it stands on and what it takes,
//! as one digest. Never anything that an image says of its own history
//! (CVE-2024-24557). Pure.

use serde::Serialize;
use umiak_images::digest::{Digest, Hasher};

/// Changes when the same instruction would give something else.
const FORMAT: &str = "umiak build 2";

/// What a step is.
#[derive(Debug, Serialize)]
#[serde(tag = "step", rename_all = "lowercase")]
pub enum Step<'s> {
    /// RUN.
    Run {
        /// What is run.
        args: &'s [String],
        /// Its environment, but for proxies.
        env: Vec<(&'s str, &'s str)>,
        /// Its working directory.
        cwd: &'s str,
        /// Who runs it.
        user: &'s str,
        /// Files and directories that are mounted.
        mounts: Vec<String>,
        /// Its network.
        network: &'s str,
        /// With all capabilities.
        insecure: bool,
        /// Contents of its heredocs that are files.
        files: Vec<(&'s str, &'s str)>,
    },
    /// COPY and ADD.
    Copy {
        /// Absolute path that is copied to.
        target: &'s str,
        /// It is a directory.
        into: bool,
        /// What each source gives.
        sources: Vec<String>,
        /// Who it belongs to: as it is written, for names mean what the stage's files say.
        chown: Option<&'s str>,
        /// Its modes.
        chmod: Option<&'s str>,
        /// Owners are kept.
        owners: bool,
        /// Parents are kept.
        parents: bool,
    },
    /// A directory is made.
    Directory {
        /// Absolute path.
        path: &'s str,
        /// Who it belongs to.
        user: &'s str,
    },
}

/// The key of a step on top of `layers`; those of a `COPY --link` are none.
pub fn key(step: &Step<'_>, platform: &str, epoch: Option<i64>, layers: &[Digest]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(FORMAT.as_bytes());
    hasher.update(format!("\n{platform} {epoch:?}\n").as_bytes());
    // Structures of strings and numbers: there is nothing that JSON could not write.
    hasher.update(&serde_json::to_vec(step).unwrap_or_default());
    for layer in layers {
        hasher.update(b"\n");
        hasher.update(layer.hex().as_bytes());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_counts() {
        let directory = |path, user| key(&Step::Directory { path, user }, "linux/amd64", None, &[]);
        let base = directory("/a", "");
        assert_eq!(base, directory("/a", ""));
        assert_ne!(base, directory("/b", ""));
        assert_ne!(base, directory("/a", "1"));
        let step = Step::Directory { path: "/a", user: "" };
        assert_ne!(base, key(&step, "linux/arm64", None, &[]));
        assert_ne!(base, key(&step, "linux/amd64", Some(0), &[]));
        assert_ne!(base, key(&step, "linux/amd64", None, &[Digest::of(b"x")]));
    }
}
