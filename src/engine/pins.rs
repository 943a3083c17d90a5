//! Exact digests in place of names, for a command that was told to use no other images.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use umiak_images::digest::Digest;
use umiak_images::platform::Platform;
use umiak_images::reference::Reference;
use umiak_images::registry::Client;

use super::Engine;
use crate::failure::WithHint as _;
use crate::parallel;

/// Which digest a name stands for.
#[derive(Debug, Clone, Default)]
pub struct Pins {
    /// By full name; of one name there may be several, for several platforms.
    digests: BTreeMap<String, Vec<(Platform, Digest)>>,
    /// Names of images that are built here, and have no digest beforehand.
    free: BTreeSet<String>,
    /// Where they stand, for messages.
    file: String,
}

impl Pins {
    /// No image yet; `file` is named in messages.
    pub fn new(file: impl Into<String>) -> Self {
        Self { file: file.into(), ..Self::default() }
    }

    /// `name` is to be this.
    pub fn pin(&mut self, name: &Reference, platform: Platform, digest: Digest) {
        self.digests.entry(name.to_string()).or_default().push((platform, digest));
    }

    /// `name` is built here.
    pub fn free(&mut self, name: &Reference) {
        self.free.insert(name.to_string());
    }

    /// The name with its digest. One for another platform will do when there is none for this: the digest may well be
    /// that of an index.
    fn exact(&self, reference: &Reference, platform: Option<&Platform>) -> Option<Reference> {
        let all = self.digests.get(&reference.to_string())?;
        let host = Platform::host();
        let fits = |(known, _): &&(Platform, Digest)| known.is_asked_for_by(platform.unwrap_or(&host));
        let (_, digest) = all.iter().find(fits).or_else(|| all.first())?;
        Some(reference.with_digest(digest.clone()))
    }
}

impl Engine {
    /// From now on only these images are used.
    pub fn pin(&self, pins: Pins) {
        let _ = self.pins.set(pins);
    }

    /// The name that an image is looked up and pulled by.
    pub fn exact_name<'n>(&self, name: &'n str, platform: Option<&str>) -> Result<Cow<'n, str>> {
        let Some(pins) = self.pins.get() else { return Ok(Cow::Borrowed(name)) };
        // What is no name is an id, which is exact; one in full could be read as a name.
        if name.starts_with("sha256:") {
            return Ok(Cow::Borrowed(name));
        }
        let Ok(reference) = name.parse::<Reference>() else { return Ok(Cow::Borrowed(name)) };
        if reference.digest().is_some() || pins.free.contains(&reference.to_string()) {
            return Ok(Cow::Borrowed(name));
        }
        let platform = platform.map(super::image::parse_platform).transpose()?;
        match pins.exact(&reference, platform.as_ref()) {
            Some(exact) => Ok(Cow::Owned(exact.to_string())),
            None => Err(anyhow::anyhow!("image {} is not in {}", reference.familiar(), pins.file))
                .hint(|| "write it anew with `umiak lock`".into()),
        }
    }

    /// The digests that registries have for names now, several at a time; where a name has one already, that.
    pub fn digests(&self, wanted: &[(Reference, Platform)], workers: usize) -> Result<Vec<Result<Digest>>> {
        let client = self.client()?;
        Ok(parallel::each(wanted, workers, |(reference, platform)| digest(&client, reference, platform)))
    }
}

/// The image has to be there for the platform, too.
fn digest(client: &Client, reference: &Reference, platform: &Platform) -> Result<Digest> {
    if let Some(digest) = reference.digest() {
        return Ok(digest.clone());
    }
    let resolved = client.resolve(reference, platform);
    let resolved = resolved.with_context(|| format!("failed to resolve digest for {}", reference.familiar()))?;
    Ok(resolved.digest().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_exact_for_its_platform() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let name: Reference = "redis:7".parse().unwrap();
        let mut pins = Pins::new("umiak.lock");
        pins.pin(&name, platform("linux/riscv64"), digest("riscv"));
        pins.pin(&name, platform("linux/s390x"), digest("s390x"));
        let exact = |wanted: Option<&str>| {
            let found = pins.exact(&name, wanted.map(platform).as_ref()).unwrap();
            found.digest().unwrap().clone()
        };
        assert_eq!(exact(Some("linux/s390x")), digest("s390x"));
        assert_eq!(exact(Some("linux/mips")), digest("riscv"), "which may be an index");
        assert!(pins.exact(&"redis".parse().unwrap(), None).is_none());
    }
}
