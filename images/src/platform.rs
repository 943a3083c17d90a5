//! Platforms, and which image of an index runs here.
//!
//! Order of preference is that of containerd's `platforms.Only`: the best
//! variant that the machine runs, then lesser ones, then the 32-bit sibling.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::manifest::{Descriptor, Index};

/// Why a platform does not parse or no image fits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Not `os/architecture[/variant]`.
    #[error("platform {text:?} is not of the form os/architecture or os/architecture/variant, like linux/arm64")]
    Form {
        /// The text.
        text: String,
    },
    /// No entry of the index runs here.
    #[error("image has no variant for {wanted}, only for {available}")]
    NoMatch {
        /// The platform asked for.
        wanted: String,
        /// What the index has, as text.
        available: String,
    },
    /// The index has no image at all.
    #[error("image index is empty")]
    Empty,
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// Go's name of the architecture: `amd64`, `arm64`, `arm`.
    pub architecture: String,
    /// `v7` of `linux/arm/v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Windows only.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Windows only.
    #[serde(default, rename = "os.features", skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
}

impl Platform {
    /// A platform with normalised names.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            os_version: None,
            os_features: None,
        }
        .normalised()
    }

    /// The machine this program runs on, with the best variant it supports.
    #[must_use]
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, host_variant())
    }

    /// The same platform with the names that the image spec uses: `x86_64` is
    /// `amd64`, the default variants (`amd64/v1`, `arm64/v8`) are left out, `arm` is `arm/v7`.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let architecture = self.architecture.to_ascii_lowercase();
        let variant = self.variant.as_deref().filter(|variant| !variant.is_empty()).map(str::to_ascii_lowercase);
        let (architecture, variant) = match architecture.as_str() {
            "x86_64" | "x86-64" | "amd64" => ("amd64", variant.filter(|variant| variant != "v1")),
            "i386" | "i486" | "i586" | "i686" | "x86" | "386" => ("386", None),
            "aarch64" | "arm64" => {
                ("arm64", variant.filter(|variant| !matches!(variant.as_str(), "8" | "v8" | "v8.0")))
            }
            "armhf" => ("arm", Some("v7".to_owned())),
            "armel" => ("arm", Some("v6".to_owned())),
            "arm" => ("arm", Some(arm_variant(variant))),
            "powerpc64le" | "ppc64el" => ("ppc64le", variant),
            "powerpc64" => ("ppc64", variant),
            "loongarch64" => ("loong64", variant),
            other => (other, variant),
        };
        Self {
            os: match self.os.to_ascii_lowercase().as_str() {
                "macos" => "darwin".to_owned(),
                os => os.to_owned(),
            },
            architecture: architecture.to_owned(),
            variant,
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }

    /// Whether an image for `image` runs on `self`.
    #[must_use]
    pub fn runs(&self, image: &Self) -> bool {
        self.rank(image).is_some()
    }

    /// How well an image for `image` fits: 0 is best, none is not at all.
    fn rank(&self, image: &Self) -> Option<usize> {
        let image = image.normalised();
        let host = self.normalised();
        if image.os != host.os {
            return None;
        }
        host.candidates()
            .iter()
            .position(|(architecture, variant)| *architecture == image.architecture && *variant == image.variant)
    }

    /// Architectures and variants that run here, best first.
    fn candidates(&self) -> Vec<(String, Option<String>)> {
        let one = |architecture: &str, variant: Option<String>| (architecture.to_owned(), variant);
        let level = |prefix: &str| -> Option<u8> { self.variant.as_deref()?.strip_prefix(prefix)?.parse().ok() };
        let mut list = vec![one(&self.architecture, self.variant.clone())];
        match self.architecture.as_str() {
            "amd64" => {
                if let Some(level) = level("v") {
                    list.extend((2..level).rev().map(|level| one("amd64", Some(format!("v{level}")))));
                    list.push(one("amd64", None));
                }
                list.push(one("386", None));
            }
            "arm" => list.extend(arm_below(level("v").unwrap_or(7))),
            "arm64" => {
                list.extend(arm64_below(self.variant.as_deref()));
                list.push(one("arm", Some("v8".to_owned())));
                list.extend(arm_below(8));
            }
            _ => {}
        }
        list
    }
}

fn arm_variant(variant: Option<String>) -> String {
    match variant.as_deref() {
        None | Some("7") => "v7".to_owned(),
        Some("5") => "v5".to_owned(),
        Some("6") => "v6".to_owned(),
        Some("8") => "v8".to_owned(),
        Some(other) => other.to_owned(),
    }
}

fn arm_below(level: u8) -> Vec<(String, Option<String>)> {
    (5..level).rev().map(|level| ("arm".to_owned(), Some(format!("v{level}")))).collect()
}

/// Armv9.x includes armv8.(x+5); both run all before them in their own line.
fn arm64_below(variant: Option<&str>) -> Vec<(String, Option<String>)> {
    let one = |text: String| ("arm64".to_owned(), Some(text));
    let minor = |version: &str| -> Option<u8> {
        if version.is_empty() { Some(0) } else { version.strip_prefix('.')?.parse().ok().filter(|minor| *minor <= 9) }
    };
    let name = |major: u8, minor: u8| if minor == 0 { format!("v{major}") } else { format!("v{major}.{minor}") };
    let mut list = Vec::new();
    let v8_below = |from: u8| (1..from).rev().map(|minor| one(format!("v8.{minor}"))).collect::<Vec<_>>();
    match variant {
        Some(text) if text.starts_with("v9") => {
            if let Some(minor) = minor(&text[2..]) {
                list.extend((0..minor).rev().map(|minor| one(name(9, minor))));
                list.extend(v8_below(minor.saturating_add(6)));
            }
        }
        Some(text) if text.starts_with("v8") => list.extend(minor(&text[2..]).map(v8_below).unwrap_or_default()),
        _ => return list,
    }
    list.push(("arm64".to_owned(), None));
    list
}

/// The x86-64 level as the psABI defines it.
#[cfg(target_arch = "x86_64")]
fn host_variant() -> Option<&'static str> {
    use std::arch::is_x86_feature_detected as has;
    let v2 = has!("sse3") && has!("ssse3") && has!("sse4.1") && has!("sse4.2") && has!("popcnt") && has!("cmpxchg16b");
    let v3 = v2
        && has!("avx")
        && has!("avx2")
        && has!("bmi1")
        && has!("bmi2")
        && has!("f16c")
        && has!("fma")
        && has!("lzcnt")
        && has!("movbe");
    let v4 = v3 && has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
    match (v4, v3, v2) {
        (true, _, _) => Some("v4"),
        (_, true, _) => Some("v3"),
        (_, _, true) => Some("v2"),
        _ => None,
    }
}

#[cfg(target_arch = "arm")]
fn host_variant() -> Option<&'static str> {
    Some("v7")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "arm")))]
fn host_variant() -> Option<&'static str> {
    None
}

impl Platform {
    /// Whether an image for this platform is what somebody means who asks for `wanted`: a variant that is not named may
    /// be any.
    #[must_use]
    pub fn is_asked_for_by(&self, wanted: &Self) -> bool {
        let variant = wanted.variant.is_none() || self.variant.is_none() || self.variant == wanted.variant;
        self.os == wanted.os && self.architecture == wanted.architecture && variant
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let good = |part: &&str| {
            !part.is_empty()
                && part.len() <= 32
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        match (parts.as_slice(), parts.iter().all(good)) {
            ([os, architecture], true) => Ok(Self::new(os, architecture, None)),
            ([os, architecture, variant], true) => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(PlatformError::Form { text: text.chars().take(100).collect() }),
        }
    }
}

/// The entry of `index` that runs best on `wanted`.
///
/// Of equals the first is taken. An entry with no platform (a nested index, an
/// image built without one) is taken only when it is the only image there.
///
/// # Errors
///
/// [`PlatformError::NoMatch`] lists what the index has; [`PlatformError::Empty`].
pub fn select<'a>(index: &'a Index, wanted: &Platform) -> Result<&'a Descriptor, PlatformError> {
    let best = index
        .manifests
        .iter()
        .filter_map(|entry| Some((wanted.rank(entry.platform.as_ref()?)?, entry)))
        .min_by_key(|(rank, _)| *rank);
    if let Some((_, entry)) = best {
        return Ok(entry);
    }
    // Attestations (SBOM, provenance) sit in the index as unknown/unknown.
    let mut images =
        index.manifests.iter().filter(|entry| entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown"));
    match (images.next(), images.next()) {
        (None, _) => Err(PlatformError::Empty),
        (Some(only), None) if only.platform.is_none() => Ok(only),
        _ => Err(PlatformError::NoMatch { wanted: wanted.to_string(), available: available(index) }),
    }
}

fn available(index: &Index) -> String {
    let mut names: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|entry| entry.platform.as_ref())
        .filter(|platform| platform.os != "unknown")
        .map(ToString::to_string)
        .collect();
    names.dedup();
    if names.is_empty() {
        return "unnamed platforms".to_owned();
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::manifest::OCI_MANIFEST;

    fn index(platforms: &[&str]) -> Index {
        let entry = |text: &&str| {
            let mut descriptor = Descriptor::new(OCI_MANIFEST, Digest::of(text.as_bytes()), 1);
            // Written as a registry would serve it, not normalised.
            let parts: Vec<&str> = text.split('/').collect();
            descriptor.platform = (!text.is_empty()).then(|| Platform {
                os: parts[0].to_owned(),
                architecture: parts[1].to_owned(),
                variant: parts.get(2).map(|part| (*part).to_owned()),
                os_version: None,
                os_features: None,
            });
            descriptor
        };
        Index {
            schema_version: 2,
            media_type: None,
            manifests: platforms.iter().map(entry).collect(),
            annotations: None,
        }
    }

    fn chosen(platforms: &[&str], wanted: &str) -> Result<String, PlatformError> {
        let index = index(platforms);
        select(&index, &wanted.parse().unwrap())
            .map(|entry| entry.platform.as_ref().map(ToString::to_string).unwrap_or_default())
    }

    #[test]
    fn names_are_normalised() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/i686", "linux/386"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/ppc64el", "linux/ppc64le"),
            ("linux/s390x", "linux/s390x"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b", "linux/../x/y"] {
            assert!(text.parse::<Platform>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn best_variant_is_chosen() {
        let hub = ["linux/amd64", "linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "linux/386"];
        let levels = ["linux/amd64", "linux/amd64/v2", "linux/amd64/v3", "linux/amd64/v4"];
        for (platforms, wanted, expected) in [
            (&hub[..], "linux/amd64", "linux/amd64"),
            (&hub, "linux/amd64/v3", "linux/amd64"),
            (&hub, "linux/arm/v7", "linux/arm/v7"),
            (&hub, "linux/arm", "linux/arm/v7"),
            (&hub, "linux/arm/v6", "linux/arm/v6"),
            (&hub, "linux/arm/v8", "linux/arm/v7"),
            (&hub, "linux/arm64", "linux/arm64/v8"),
            (&hub, "linux/arm64/v9", "linux/arm64/v8"),
            (&hub, "linux/386", "linux/386"),
            (&["linux/arm/v6", "linux/arm/v5"], "linux/arm/v7", "linux/arm/v6"),
            (&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", "linux/arm/v6"),
            (&["linux/arm/v7"], "linux/arm64", "linux/arm/v7"),
            (&["linux/386"], "linux/amd64", "linux/386"),
            (&["linux/arm"], "linux/arm/v7", "linux/arm"),
            (&levels, "linux/amd64", "linux/amd64"),
            (&levels, "linux/amd64/v2", "linux/amd64/v2"),
            (&levels, "linux/amd64/v3", "linux/amd64/v3"),
            (&levels[..3], "linux/amd64/v4", "linux/amd64/v3"),
            (&["linux/amd64/v1"], "linux/amd64", "linux/amd64/v1"),
            (&["unknown/unknown", ""], "linux/amd64", ""),
            (&["windows/amd64", "linux/amd64"], "linux/amd64", "linux/amd64"),
        ] {
            assert_eq!(chosen(platforms, wanted).as_deref(), Ok(expected), "{wanted} of {platforms:?}");
        }
    }

    #[test]
    fn what_does_not_run_is_refused_with_a_list() {
        let error = chosen(&["linux/arm/v7", "windows/amd64", "unknown/unknown"], "linux/amd64").unwrap_err();
        assert_eq!(error.to_string(), "image has no variant for linux/amd64, only for linux/arm/v7, windows/amd64");
        assert!(chosen(&["linux/arm/v7"], "linux/arm/v6").is_err());
        assert!(chosen(&["linux/amd64/v3"], "linux/amd64/v2").is_err());
        assert!(chosen(&["linux/amd64/v2"], "linux/amd64").is_err());
        assert!(chosen(&["linux/arm64"], "linux/arm/v7").is_err());
        assert!(chosen(&["", ""], "linux/amd64").is_err(), "two entries with no platform cannot be told apart");
        assert_eq!(chosen(&["unknown/unknown"], "linux/amd64"), Err(PlatformError::Empty));
        assert_eq!(chosen(&[], "linux/amd64"), Err(PlatformError::Empty));
    }

    #[test]
    fn host_is_what_rust_says() {
        let host = Platform::host();
        assert_eq!(host.os, "linux");
        assert!(host.runs(&Platform::new("linux", std::env::consts::ARCH, None)));
    }
}
