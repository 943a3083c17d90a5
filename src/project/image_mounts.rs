//! Images that services mount (`volumes` with `type: image`): found or pulled before anything is made.

use anyhow::{Context as _, Result};

use crate::engine::Engine;
use crate::engine::image::Policy;
use crate::ui::progress::Progress;
use umiak_compose::{Service, VolumeKind};

/// Gets every image that one of the services mounts; `policy` is the command's, instead of the services' own.
pub fn get(engine: &Engine, services: &[&Service], policy: Option<Policy>, progress: &Progress) -> Result<()> {
    let mut names = std::collections::BTreeSet::new();
    for service in services {
        let images = service.volumes.iter().filter(|volume| volume.kind == VolumeKind::Image);
        for name in images.filter_map(|volume| volume.source.as_deref()) {
            if names.insert(name) {
                let policy = policy.unwrap_or_else(|| Policy::of_service(service));
                engine
                    .image(name, policy, service.platform.as_deref(), progress)
                    .with_context(|| format!("service {}: mount image {name}", service.name))?;
            }
        }
    }
    Ok(())
}
