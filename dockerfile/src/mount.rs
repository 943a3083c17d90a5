//! `RUN --mount=…` and `RUN --device=…`: what may stand in them, and what it means once its variables are replaced.

use super::ast::{Place, Text};
use super::error::{Fault, ParseError};
use super::expand::{self, ExpandError};
use super::flags::boolean;
use super::suggest::nearest;

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[allow(missing_docs, reason = "the names are those of `type=`")]
pub enum MountKind {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];

impl MountKind {
    /// As `type=` has it.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("bind", |(name, _)| name)
    }
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// One at a time; another one gets a cache of its own.
    Private,
    /// One at a time; another one waits.
    Locked,
}

const SHARING: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// One `--mount`, as it was written. Every value but that of `from` may hold variables: [`Self::resolve`] says what
/// they come to. A text that is empty is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `type`; `bind` as long as a variable says what it is.
    pub kind: MountKind,
    /// `target`, `dst` or `destination`.
    pub target: Option<Text>,
    /// `source` or `src`.
    pub source: Option<Text>,
    /// `from`: a stage, an image or a context.
    pub from: Option<Text>,
    /// `id`.
    pub id: Option<Text>,
    /// `sharing`.
    pub sharing: Option<Text>,
    /// `readonly`, `ro`, `readwrite` or `rw`: what the last of them says without a variable.
    pub readonly: Option<bool>,
    /// `required`.
    pub required: bool,
    /// `size`.
    pub size: Option<Text>,
    /// `mode`.
    pub mode: Option<Text>,
    /// `uid`.
    pub uid: Option<Text>,
    /// `gid`.
    pub gid: Option<Text>,
    /// `env`.
    pub env: Option<Text>,
    /// Where it stands.
    pub place: Place,
    options: Vec<Setting>,
}

/// One `key=value` of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    key: String,
    field: String,
    value: Option<Text>,
}

/// A mount with its variables replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountSpec {
    /// What is mounted.
    pub kind: MountKind,
    /// Where; relative to the working directory.
    pub target: Option<String>,
    /// From where: a path in `from` or in the context; of a secret or an SSH socket its name.
    pub source: Option<String>,
    /// A stage, an image or a context.
    pub from: Option<String>,
    /// The name of a cache, secret or SSH socket.
    pub id: Option<String>,
    /// Who may use a cache at the same time.
    pub sharing: Sharing,
    /// Whether it cannot be written. Unsaid, caches and tmpfs can be.
    pub readonly: bool,
    /// Whether the build fails without the secret or SSH socket.
    pub required: bool,
    /// The size of a tmpfs, in bytes.
    pub size: Option<u64>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// The variable that holds a secret; an empty name stands for the secret's own.
    pub env: Option<String>,
}

impl Mount {
    /// Reads the value of `--mount`. What no variable stands in is checked at once.
    pub(crate) fn parse(text: &Text, escape: char) -> Result<Self, ParseError> {
        let fault = |fault| ParseError::new(text.place, fault);
        let mut options = Vec::new();
        for field in csv(&text.raw).map_err(fault)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(Text { raw: value.to_owned(), place: text.place })),
                None => (field.as_str(), None),
            };
            options.push(Setting { key: key.to_lowercase(), field: field.clone(), value });
        }
        let literal = &mut |value: &Text| -> Result<Option<String>, ExpandError> {
            if expand::has_variable(&value.raw, escape) {
                return expand::check(&value.raw, escape, false).map(|()| None);
            }
            Ok(Some(expand::expand(&value.raw, escape, &|_| None)?.text))
        };
        let seen = evaluate(&options, literal).map_err(fault)?;
        Ok(Self::of(options, &seen, text.place))
    }

    fn of(options: Vec<Setting>, seen: &MountSpec, place: Place) -> Self {
        let last = |names: &[&str]| {
            let found = options.iter().rev().find(|option| names.contains(&option.key.as_str()));
            found.and_then(|option| option.value.clone())
        };
        let full = |names: &[&str]| last(names).filter(|text| !text.raw.is_empty());
        let said = options.iter().any(|option| access(&option.key).is_some());
        Self {
            kind: seen.kind,
            target: full(&["target", "dst", "destination"]),
            source: full(&["source", "src"]),
            from: full(&["from"]),
            id: full(&["id"]),
            sharing: full(&["sharing"]),
            readonly: said.then_some(seen.readonly),
            required: seen.required,
            size: full(&["size"]),
            mode: full(&["mode"]),
            uid: full(&["uid"]),
            gid: full(&["gid"]),
            env: last(&["env"]),
            place,
            options,
        }
    }

    /// What it comes to: `expand` replaces the variables of a text.
    ///
    /// # Errors
    /// A value is none of its key, or does not go with the type.
    pub fn resolve(
        &self,
        expand: &mut dyn FnMut(&Text) -> Result<String, ExpandError>,
    ) -> Result<MountSpec, ParseError> {
        evaluate(&self.options, &mut |text| expand(text).map(Some)).map_err(|fault| ParseError::new(self.place, fault))
    }
}

/// What `ro` and `rw` say when they are on.
fn access(key: &str) -> Option<bool> {
    match key {
        "readonly" | "ro" => Some(true),
        "readwrite" | "rw" => Some(false),
        _ => None,
    }
}

type Values<'a> = dyn FnMut(&Text) -> Result<Option<String>, ExpandError> + 'a;

/// Reads the options; a value that is not known yet is passed over.
fn evaluate(options: &[Setting], values: &mut Values<'_>) -> Result<MountSpec, Fault> {
    let mut spec = MountSpec::default();
    let kind = kind_of(options, values)?;
    spec.kind = kind.unwrap_or_default();
    let mut readonly = None;
    let mut shared = None;
    for option in options {
        let Setting { key, field, value } = option;
        check_key(option, kind)?;
        let Some(text) = value else {
            match access(key) {
                Some(on) => readonly = Some(on),
                None => spec.required = true,
            }
            continue;
        };
        if key == "from" && text.raw.find('$').is_some_and(|at| at + 1 != text.raw.len()) {
            return Err(Fault::VariableInMountFrom { key: key.clone() });
        }
        if key == "type" {
            continue;
        }
        let Some(value) = values(text)? else { continue };
        let bad = || Fault::MountValue { key: key.clone(), value: value.clone() };
        let full = |value: String| Some(value).filter(|value| !value.is_empty());
        match key.as_str() {
            "from" => spec.from = full(value),
            "source" | "src" => spec.source = full(value),
            "target" | "dst" | "destination" => spec.target = full(value),
            "id" => spec.id = full(value),
            "env" => spec.env = Some(value),
            "required" => spec.required = boolean(&value).ok_or_else(bad)?,
            "size" => spec.size = Some(bytes(&value).ok_or_else(bad)?),
            "mode" => spec.mode = Some(number(&value, 8).ok_or_else(bad)?),
            "uid" => spec.uid = Some(number(&value, 10).ok_or_else(bad)?),
            "gid" => spec.gid = Some(number(&value, 10).ok_or_else(bad)?),
            "sharing" => shared = Some(sharing(value)?),
            _ => match access(key) {
                Some(on) => readonly = Some(boolean(&value).ok_or_else(bad)? == on),
                None => return Err(unexpected(key, field)),
            },
        }
    }
    spec.readonly = readonly.unwrap_or(!matches!(spec.kind, MountKind::Cache | MountKind::Tmpfs));
    spec.sharing = shared.unwrap_or_default();
    if let Some(kind) = kind {
        check_together(options, kind)?;
    }
    Ok(spec)
}

/// `type`; `None` when it is not known yet.
fn kind_of(options: &[Setting], values: &mut Values<'_>) -> Result<Option<MountKind>, Fault> {
    let mut kind = Some(MountKind::Bind);
    for option in options.iter().filter(|option| option.key == "type") {
        let Some(text) = &option.value else { continue };
        let Some(value) = values(text)? else {
            kind = None;
            continue;
        };
        let lower = value.to_lowercase();
        let found = KINDS.iter().find(|(name, _)| *name == lower);
        let (_, known) = found.ok_or_else(|| Fault::MountType {
            suggestion: nearest(&value, KINDS.iter().map(|(name, _)| *name)),
            value,
        })?;
        kind = Some(*known);
    }
    Ok(kind)
}

/// Whether there is such a key, it has a value where it needs one, and it goes with the type.
fn check_key(option: &Setting, kind: Option<MountKind>) -> Result<(), Fault> {
    let Setting { key, field, value } = option;
    if value.is_none() && access(key).is_none() && key != "required" {
        return Err(Fault::NotKeyValue { field: field.clone() });
    }
    if !KEYS.contains(&key.as_str()) {
        return Err(unexpected(key, field));
    }
    let fits = match (key.as_str(), kind) {
        ("required", Some(kind)) => matches!(kind, MountKind::Secret | MountKind::Ssh),
        ("size", Some(kind)) => kind == MountKind::Tmpfs,
        _ => true,
    };
    match kind {
        Some(kind) if !fits => Err(Fault::KeyOfOtherMount { key: key.clone(), kind: kind.name() }),
        _ => Ok(()),
    }
}

/// What the type does not go with.
fn check_together(options: &[Setting], kind: MountKind) -> Result<(), Fault> {
    let said = |names: &[&str]| {
        let mut named = options.iter().filter(|option| names.contains(&option.key.as_str()));
        named.any(|option| option.value.as_ref().is_some_and(|text| !text.raw.is_empty()))
    };
    if matches!(kind, MountKind::Bind | MountKind::Tmpfs) {
        for key in ["mode", "uid", "gid"] {
            if said(&[key]) {
                return Err(Fault::OwnerOfMount { key, kind: kind.name() });
            }
        }
    }
    if kind == MountKind::Secret {
        let (source, target, id) = (said(&["source", "src"]), said(&["target", "dst", "destination"]), said(&["id"]));
        if said(&["from"]) {
            return Err(Fault::SecretFrom);
        }
        if said(&["sharing"]) {
            return Err(Fault::SecretSharing);
        }
        if !source && !target && !id {
            return Err(Fault::SecretWithoutName);
        }
        if source && id {
            return Err(Fault::SecretTwoNames);
        }
    }
    if kind != MountKind::Cache && said(&["sharing"]) {
        return Err(Fault::SharingOfMount { kind: kind.name() });
    }
    Ok(())
}

fn unexpected(key: &str, field: &str) -> Fault {
    Fault::UnexpectedKey { key: key.to_owned(), field: field.to_owned(), suggestion: nearest(key, KEYS) }
}

fn sharing(value: String) -> Result<Sharing, Fault> {
    let lower = value.to_lowercase();
    let found = SHARING.iter().find(|(name, _)| *name == lower).map(|(_, sharing)| *sharing);
    found.ok_or_else(|| Fault::Sharing { suggestion: nearest(&value, SHARING.iter().map(|(name, _)| *name)), value })
}

fn number(text: &str, radix: u32) -> Option<u32> {
    let digits = !text.is_empty() && text.chars().all(|digit| digit.is_digit(radix));
    digits.then(|| u32::from_str_radix(text, radix).ok()).flatten()
}

/// `64m`, `1.5GiB`, `1024`: bytes, with units of 1024.
fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok().filter(|_| !number.is_empty())?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_lowercase();
    let power =
        match unit.strip_suffix("ib").filter(|unit| !unit.is_empty()).or(unit.strip_suffix('b')).unwrap_or(&unit) {
            "" => 0,
            "k" => 1,
            "m" => 2,
            "g" => 3,
            "t" => 4,
            "p" => 5,
            _ => return None,
        };
    let bytes = number * 1024_f64.powi(power);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and below 2^63")]
    (bytes < 9.0e18).then_some(bytes as u64)
}

/// Fields between commas; quotes hold one together.
fn csv(text: &str) -> Result<Vec<String>, Fault> {
    let bad = || Fault::Csv { value: text.to_owned() };
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let after = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, after) = rest.split_at(end);
                if field.contains('"') {
                    return Err(bad());
                }
                fields.push(field.to_owned());
                after
            }
            Some(quoted) => {
                let (field, after) = quoted_field(quoted).ok_or_else(bad)?;
                fields.push(field);
                after
            }
        };
        rest = match after.strip_prefix(',') {
            Some(next) => next,
            None if after.is_empty() => return Ok(fields),
            None => return Err(bad()),
        };
    }
}

/// The text up to a quote that stands alone, and what follows.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Some((field, after)),
        }
    }
}

/// One `--device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The name of a CDI device.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// Where it stands.
    pub place: Place,
}

impl Device {
    pub(crate) fn parse(text: &Text) -> Result<Self, ParseError> {
        Self::read(&text.raw, text.place).map_err(|fault| ParseError::new(text.place, fault))
    }

    fn read(text: &str, place: Place) -> Result<Self, Fault> {
        let mut device = Self { name: String::new(), required: false, place };
        for field in csv(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), Some(value)),
                None => (field.to_lowercase(), None),
            };
            match (key.as_str(), value) {
                ("required", None) => device.required = true,
                ("required", Some(value)) => {
                    let bad = || Fault::MountValue { key, value: value.to_owned() };
                    device.required = boolean(value).ok_or_else(bad)?;
                }
                ("name", Some(_)) if !device.name.is_empty() => return Err(Fault::DeviceName { name: device.name }),
                ("name", Some(value)) => device.name = value.to_owned(),
                // A name may have `=` in it: `vendor.example/class=one`.
                _ if device.name.is_empty() => device.name = field,
                (_, None) => return Err(Fault::NotKeyValue { field }),
                (key, Some(_)) => {
                    let suggestion = nearest(key, ["name", "required"]);
                    return Err(Fault::UnexpectedKey { key: key.to_owned(), field, suggestion });
                }
            }
        }
        Ok(device)
    }
}
