//! Images on their way to a registry.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use umiak_images::digest::Digest;
use umiak_images::push::{PushError, Pushed, Pusher, Watch, tags};
use umiak_images::reference::Reference;
use umiak_images::registry::artifact::{ArtifactError, Form, Kind, Part};
use umiak_images::registry::{Client, Failure, RegistryError};

use super::Engine;
use super::image::parse_platform;
use crate::failure::WithHint as _;

/// A name as it is pushed to.
pub fn reference(name: &str) -> Result<Reference> {
    name.parse().with_context(|| format!("invalid reference format: {name}"))
}

/// Pushes of one command, over one connection.
pub struct Session<'a> {
    engine: &'a Engine,
    client: Client,
}

impl Engine {
    /// Begins to push; nothing is sent yet.
    pub fn pushing(&self) -> Result<Session<'_>> {
        Ok(Session { engine: self, client: self.client()? })
    }

    /// Puts an artifact into a registry; the digest it has there.
    pub fn put_artifact(
        &self,
        name: &Reference,
        kind: &Kind,
        parts: &[Part],
        annotations: &BTreeMap<String, String>,
        form: Form,
    ) -> Result<Digest> {
        match self.client()?.put_artifact(name, kind, parts, annotations, form) {
            Err(ArtifactError::Registry(error)) if is_denied(&error) => {
                Err(error).hint(|| format!("log in with `umiak login {}`", name.registry()))
            }
            done => Ok(done?),
        }
    }

    /// The names of a repository that the store has.
    pub fn tags_here(&self, repository: &Reference) -> Result<Vec<Reference>> {
        Ok(tags(self.store()?, repository)?)
    }
}

impl Session<'_> {
    /// Pushes images, one after the other; `pushed` hears of each.
    pub fn push(
        &self,
        names: &[Reference],
        platform: Option<&str>,
        watch: &dyn Watch,
        mut pushed: impl FnMut(&Reference, &Pushed),
    ) -> Result<()> {
        let platform = platform.map(parse_platform).transpose()?;
        let pusher = Pusher::new(self.engine.store()?, &self.client, watch);
        for name in names {
            let done = pusher.push(name, platform.as_ref());
            let done = match done {
                Err(error) if wants_login(&error) => {
                    return Err(error).hint(|| format!("log in with `umiak login {}`", name.registry()));
                }
                other => other?,
            };
            super::events::image(&self.engine.roots, "push", &name.familiar(), &name.familiar_name());
            pushed(name, &done);
        }
        Ok(())
    }
}

/// Whether it failed for want of credentials.
fn wants_login(error: &PushError) -> bool {
    let PushError::Registry { source, .. } = error else { return false };
    is_denied(source)
}

fn is_denied(error: &RegistryError) -> bool {
    let RegistryError::Push { source, .. } = error else { return false };
    matches!(source.as_ref(), Failure::Denied { .. } | Failure::WrongCredentials { .. })
}
