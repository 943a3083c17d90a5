//! A container's root file system as a tar archive: image and changes in one,
//! without what is mounted in it.

use std::io::{BufWriter, Write};

use anyhow::{Context as _, Result};
use umiak_images::pack::{Options, TarWriter, pack_content};
use umiak_runtime::view;

use super::container::Container;
use super::diff::open_upper;
use super::roots::make_dir;
use super::{Engine, events};

impl Engine {
    /// Writes the root file system of a container, which may run meanwhile.
    pub fn export(&self, container: &Container, out: impl Write + Send) -> Result<()> {
        let rootfs = &container.config.runtime.rootfs;
        let mut layers = Vec::new();
        // As a lower layer: the container's own mount of it is not touched.
        layers.extend(open_upper(container)?.map(|_| rootfs.upper.clone()));
        layers.extend(rootfs.layers.iter().cloned());
        make_dir(&rootfs.merged)?;
        let written = view::layers(&layers, &rootfs.merged, |root| {
            let mut tar = TarWriter::new(BufWriter::with_capacity(256 << 10, out));
            pack_content(&mut tar, root, &Options::default())?;
            tar.finish()?.flush()
        });
        let name = &container.config.name;
        written.with_context(|| format!("look into container {name}"))?.with_context(|| format!("export {name}"))?;
        events::container(&self.roots, &container.config, "export");
        Ok(())
    }
}
