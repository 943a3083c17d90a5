//! What a check has found damaged has a mark beside it, until a pull, a load or
//! a repair has put something whole in its place. A layer that is replaced may
//! be mounted: its old directory stays until nobody can use it any more.

use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use umiak_base::id::random_hex;

use super::Store;
use super::error::StoreError;
use super::remove::delete;
use crate::digest::Digest;

/// How the names of marks begin.
pub(crate) const DAMAGED: &str = ".damaged-";
/// How the names of layers begin that were replaced; then come boot id, digest and a random number.
pub(crate) const REPLACED: &str = ".replaced-";

/// What a mark can speak of.
#[derive(Debug)]
pub(crate) enum Marked<'a> {
    Blob(&'a Digest),
    Layer(&'a Digest),
}

impl Store {
    fn mark_path(&self, what: &Marked<'_>) -> PathBuf {
        match what {
            Marked::Blob(digest) => self.blobs().join(format!("{DAMAGED}{}", digest.hex())),
            Marked::Layer(diff_id) => self.layers().join(format!("{DAMAGED}{}", diff_id.hex())),
        }
    }

    pub(crate) fn is_marked(&self, what: &Marked<'_>) -> bool {
        std::fs::symlink_metadata(self.mark_path(what)).is_ok()
    }

    /// Marks what is damaged. Best effort: on a full disk there is room for no mark, and nothing is lost without it.
    pub(crate) fn mark(&self, what: &Marked<'_>) {
        let _ = std::fs::File::create(self.mark_path(what));
    }

    pub(crate) fn unmark(&self, what: &Marked<'_>) {
        let _ = std::fs::remove_file(self.mark_path(what));
    }

    /// Whether a layer is unpacked, and no check has found it damaged.
    pub(crate) fn has_sound_layer(&self, diff_id: &Digest) -> bool {
        self.has_layer(diff_id) && !self.is_marked(&Marked::Layer(diff_id))
    }

    /// Puts the directory `new` in the place of a damaged layer. Containers that run go on with the old one.
    pub(crate) fn replace_layer(&self, new: &Path, diff_id: &Digest) -> Result<(), StoreError> {
        let name = self.layer_path(diff_id);
        let random = random_hex(6).map_err(|source| StoreError::io("name a directory in", self.layers(), source))?;
        let boot = umiak_base::process::boot_id().unwrap_or_default();
        let aside = self.layers().join(format!("{REPLACED}{boot}-{}-{random}", diff_id.hex()));
        let failed = |path: &Path, error: Errno| StoreError::io("rename", path, error.into());
        match rustix::fs::renameat_with(CWD, new, CWD, &name, RenameFlags::EXCHANGE) {
            Ok(()) => rustix::fs::rename(new, &aside).map_err(|error| failed(new, error))?,
            // A file system that cannot exchange: for a moment there is no such layer.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::rename(&name, &aside).map_err(|error| failed(&name, error))?;
                rustix::fs::rename(new, &name).map_err(|error| failed(new, error))?;
            }
            Err(error) => return Err(failed(new, error)),
        }
        self.unmark(&Marked::Layer(diff_id));
        // What was no directory was no layer to anybody.
        if !std::fs::symlink_metadata(&aside).is_ok_and(|meta| meta.is_dir()) {
            delete(&aside)?;
        }
        Ok(())
    }
}

/// The layer that a directory was, and whether it was replaced in this boot.
pub(crate) fn replaced(name: &str) -> Option<(Digest, bool)> {
    let rest = name.strip_prefix(REPLACED)?;
    let (rest, _) = rest.rsplit_once('-')?;
    let (boot, hex) = rest.rsplit_once('-')?;
    let digest = format!("sha256:{hex}").parse().ok()?;
    let now = umiak_base::process::boot_id();
    Some((digest, now.map_or(true, |now| now == boot)))
}
