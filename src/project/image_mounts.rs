//! Images that services mount (`volumes` with `type: image`): found or pulled before anything is made.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use crate::engine::Engine;
use crate::engine::image::Policy;
use crate::ui::progress::Progress;
use umiak_compose::{Service, VolumeKind};

/// The ids of the images that a service mounts, by name, as far as the store has them.
pub fn ids(engine: &Engine, service: &Service) -> Result<BTreeMap<String, String>> {
    let mut ids = BTreeMap::new();
    for name in names(service) {
        // A dry run looks at a host on which there is no store yet, and opening it makes it.
        if engine.roots.data.join("images").exists()
            && let Ok(image) = engine.store()?.resolve(&engine.exact_name(name, service.platform.as_deref())?)
        {
            ids.insert(name.to_owned(), image.id.to_string());
        }
    }
    Ok(ids)
}

fn names(service: &Service) -> impl Iterator<Item = &str> {
    let images = service.volumes.iter().filter(|volume| volume.kind == VolumeKind::Image);
    images.filter_map(|volume| volume.source.as_deref())
}

/// Gets every image that one of the services mounts; `policy` is the command's, instead of the services' own.
pub fn get(engine: &Engine, services: &[&Service], policy: Option<Policy>, progress: &Progress) -> Result<()> {
    let mut names = std::collections::BTreeSet::new();
    for service in services {
        for name in self::names(service) {
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
