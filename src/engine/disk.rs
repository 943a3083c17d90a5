//! What containers, images and volumes take on the disk.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::container::Container;
use super::{Engine, volume};
use crate::ui::human;

/// What a container has written, and the image it stands on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    /// Bytes in its own layer.
    pub own: u64,
    /// With those of its image.
    pub all: u64,
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (virtual {})", human::size3(self.own), human::size3(self.all))
    }
}

/// The size of a container's own layer, and with its image.
pub fn container_size(engine: &Engine, container: &Container) -> Size {
    let own = tree(&container.config.runtime.rootfs.upper);
    let image = engine.store().ok().and_then(|store| store.resolve(&container.config.image_id).ok());
    Size { own, all: own + image.map_or(0, |image| image.size) }
}

/// The bytes of all files of a tree; what cannot be read counts as nothing.
pub fn tree(path: &Path) -> u64 {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
    match meta.is_dir() {
        true => std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| tree(&entry.path())).sum(),
        false => {
            if meta.is_file() {
                meta.size()
            } else {
                0
            }
        }
    }
}

/// The bytes of a volume's files.
pub fn volume_size(engine: &Engine, name: &str) -> u64 {
    tree(&volume::data_dir(&engine.roots, name))
}
