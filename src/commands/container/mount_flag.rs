//! `--mount` and `--volume`, as Docker's client reads them. Pure.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use umiak_runtime::config::{Bind, ImageMount, Mount, MountKind, Propagation, Recursive, Tmpfs, Volume};

use super::flags::pair;
use crate::engine::mounts;
use crate::ui::human::parse_size;

/// `[SOURCE:]TARGET[:OPTIONS]`.
pub fn volume(text: &str) -> Result<Mount> {
    let mut parts: Vec<&str> = text.split(':').collect();
    let options: Vec<&str> = match parts.len() {
        3 => parts.pop().into_iter().flat_map(|options| options.split(',')).collect(),
        1 | 2 => Vec::new(),
        _ => bail!("invalid volume specification: '{text}'"),
    };
    mounts::short(if parts.len() == 2 { Some(parts[0]) } else { None }, parts[parts.len() - 1], &options)
}

/// What the fields of a `--mount` say.
#[derive(Default)]
struct Fields {
    kind: String,
    source: String,
    target: String,
    read_only: bool,
    tmpfs: Tmpfs,
    propagation: Propagation,
    recursive: Recursive,
    create_source: bool,
    volume: Volume,
    image_subpath: String,
    /// Groups of options that were used, `bind` for `bind-…`.
    groups: Vec<&'static str>,
}

/// `type=bind|volume|tmpfs|image,source=…,target=…[,readonly]…`, for clap.
pub fn parse(text: &str) -> Result<Mount, String> {
    let mut fields = Fields { kind: "volume".to_owned(), ..Fields::default() };
    for field in split(text)? {
        fields.take(&field)?;
    }
    fields.mount()
}

/// The fields of one line of comma-separated values; a field in quotes may hold commas.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (field, left) = rest.split_once(',').map_or((rest, None), |(field, left)| (field, Some(left)));
            fields.push(field.to_owned());
            match left {
                Some(left) => rest = left,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        let mut left = quoted;
        loop {
            let (part, after) = left.split_once('"').ok_or("a quote is not closed")?;
            field.push_str(part);
            match after.strip_prefix('"') {
                Some(after) => {
                    field.push('"');
                    left = after;
                }
                None => {
                    left = after;
                    break;
                }
            }
        }
        fields.push(field);
        match left.strip_prefix(',') {
            Some(left) => rest = left,
            None if left.is_empty() => return Ok(fields),
            None => return Err("text follows a closing quote".to_owned()),
        }
    }
}

fn flag(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(format!("invalid value for {key}: {value}")),
    }
}

impl Fields {
    fn take(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
        let key = key.to_lowercase();
        match key.as_str() {
            "readonly" | "ro" => {
                self.read_only = flag(&key, value)?;
                return Ok(());
            }
            "volume-nocopy" => {
                self.groups.push("volume");
                self.volume.nocopy = flag(&key, value)?;
                return Ok(());
            }
            "bind-nonrecursive" => {
                self.groups.push("bind");
                self.recursive = if flag(&key, value)? { Recursive::Disabled } else { Recursive::Enabled };
                return Ok(());
            }
            "bind-create-src" => {
                self.groups.push("bind");
                self.create_source = flag(&key, value)?;
                return Ok(());
            }
            _ => {}
        }
        let value = value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        match key.as_str() {
            "type" => self.kind = value.to_lowercase(),
            "source" | "src" => value.clone_into(&mut self.source),
            "target" | "destination" | "dst" => value.clone_into(&mut self.target),
            // It says how a Mac shares files with its virtual machine.
            "consistency" => {}
            _ => return self.take_option(&key, value, field),
        }
        Ok(())
    }

    fn take_option(&mut self, key: &str, value: &str, field: &str) -> Result<(), String> {
        let wrong = || format!("invalid value for {key}: {value}");
        self.groups.push(match key.split_once('-') {
            Some(("bind", _)) => "bind",
            Some(("volume", _)) => "volume",
            Some(("tmpfs", _)) => "tmpfs",
            Some(("image", _)) => "image",
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        });
        match key {
            "bind-propagation" => {
                self.propagation =
                    mounts::propagation(value).map_err(|_| format!("invalid propagation mode: {value}"))?;
            }
            "bind-recursive" => {
                self.recursive = mounts::recursive(value).map_err(|_| {
                    format!("{} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")", wrong())
                })?;
            }
            "volume-subpath" => value.clone_into(&mut self.volume.subpath),
            "volume-label" => self.volume.labels.extend([pair(value)]),
            "volume-driver" if matches!(value, "" | "local") => {}
            "volume-driver" => return Err(format!("the volume driver {value} is not supported: use local")),
            "volume-opt" => {
                return Err("a volume with options is made first, with `volume create --opt`".to_owned());
            }
            "image-subpath" => value.clone_into(&mut self.image_subpath),
            "tmpfs-size" => self.tmpfs.size = parse_size(value).ok_or_else(wrong)?,
            "tmpfs-mode" => self.tmpfs.mode = Some(u32::from_str_radix(value, 8).map_err(|_| wrong())?),
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    fn mount(self) -> Result<Mount, String> {
        if self.target.is_empty() {
            return Err("target is required".to_owned());
        }
        let kind = self.kind.as_str();
        if let Some(group) = self.groups.iter().find(|group| **group != kind) {
            return Err(format!("cannot mix '{group}-*' options with mount type '{kind}'"));
        }
        let invalid = |what: &str| Err(format!("invalid mount config for type \"{kind}\": {what}"));
        if !self.target.starts_with('/') {
            return invalid(&format!("invalid mount path: '{}' mount path must be absolute", self.target));
        }
        if self.recursive == Recursive::Readonly {
            if !self.read_only {
                return Err(
                    "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".into()
                );
            }
            if self.propagation != Propagation::Rprivate {
                return Err("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate'".into());
            }
        }
        let mounted = match kind {
            "bind" | "image" if self.source.is_empty() => return invalid("field Source must not be empty"),
            "bind" if !Path::new(&self.source).is_absolute() => {
                return invalid(&format!("invalid mount path: '{}' mount path must be absolute", self.source));
            }
            "bind" => MountKind::Bind(Bind {
                source: PathBuf::from(self.source),
                create_missing: self.create_source,
                propagation: self.propagation,
                recursive: self.recursive,
                ..Bind::default()
            }),
            "volume" if self.source.is_empty() && !self.volume.subpath.is_empty() => {
                return invalid("must not set Subpath when using anonymous volumes");
            }
            "volume" => MountKind::Volume(Volume { name: self.source, ..self.volume }),
            "tmpfs" if !self.source.is_empty() => return invalid("field Source must not be specified"),
            "tmpfs" => MountKind::Tmpfs(self.tmpfs),
            "image" => MountKind::Image(ImageMount {
                image: self.source,
                subpath: self.image_subpath,
                ..ImageMount::default()
            }),
            _ => return invalid("mount type unknown"),
        };
        Ok(Mount { target: self.target, kind: mounted, read_only: self.read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_as_by_dockers_client() {
        let mount = parse("type=bind,src=/tmp,dst=/x,readonly,bind-recursive=readonly").unwrap();
        assert!(
            mount.read_only && matches!(mount.kind, MountKind::Bind(bind) if bind.recursive == Recursive::Readonly)
        );
        let mount = parse("\"type=bind\",\"src=/tmp\",\"dst=/a,\"\"b\"\"\"").unwrap();
        assert_eq!(mount.target, "/a,\"b\"");
        let mount = parse("src=data,dst=/x,volume-nocopy,volume-subpath=a/b,volume-label=k=v").unwrap();
        let MountKind::Volume(volume) = mount.kind else { panic!("{mount:?}") };
        assert!(volume.nocopy && volume.subpath == "a/b" && volume.labels["k"] == "v" && volume.name == "data");
        let mount = parse("type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=700").unwrap();
        assert!(matches!(mount.kind, MountKind::Tmpfs(tmpfs) if tmpfs.size == 1 << 20 && tmpfs.mode == Some(0o700)));
        let mount = parse("type=image,src=busybox,dst=/x,image-subpath=bin").unwrap();
        assert!(matches!(mount.kind, MountKind::Image(image) if image.image == "busybox" && image.subpath == "bin"));
    }

    /// The words are those of Docker's client and daemon.
    #[test]
    fn wrong_mounts_are_refused_in_dockers_words() {
        for (text, said) in [
            ("type=bind,source=/tmp", "target is required"),
            ("target=/x,foo=1", "unexpected key 'foo' in 'foo=1'"),
            ("type=bind,src=/tmp,dst=/x,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
            ("src=v1,dst=/x,bind-propagation=rslave", "cannot mix 'bind-*' options with mount type 'volume'"),
            ("type=bind,dst=/x", "invalid mount config for type \"bind\": field Source must not be empty"),
            ("type=tmpfs,src=/a,dst=/x", "invalid mount config for type \"tmpfs\": field Source must not be specified"),
            ("type=bogus,dst=/x", "invalid mount config for type \"bogus\": mount type unknown"),
            ("foo", "invalid field 'foo' must be a key=value pair"),
            ("type=tmpfs,dst=/x,tmpfs-size=abc", "invalid value for tmpfs-size: abc"),
            ("type=tmpfs,dst=/x,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
            ("type=bind,src=/tmp,dst=/x,readonly=maybe", "invalid value for readonly: maybe"),
            (
                "type=bind,src=/tmp,dst=/x,bind-recursive=readonly",
                "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction",
            ),
            (
                "type=volume,dst=/x,volume-subpath=sub",
                "invalid mount config for type \"volume\": must not set Subpath when using anonymous volumes",
            ),
            (
                "type=bind,src=/tmp,dst=x",
                "invalid mount config for type \"bind\": invalid mount path: 'x' mount path must be absolute",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), said, "{text}");
        }
        assert!(parse("\"type=bind").is_err() && parse("\"type=bind\"x").is_err());
    }
}
