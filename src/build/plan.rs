//! What a build has to do: which stage stands on what, and which are needed at
//! all. Pure.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use indexmap::IndexMap;
use umiak_dockerfile::{Dockerfile, Instruction, Kind, Place};
use umiak_images::platform::Platform;

use super::failed::At as _;
use super::state::{Given, Words};

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// A context given by name.
    Context(String),
    /// An image.
    Image(String),
}

/// Where `--from` leads.
pub type From = Base;

/// A stage with its variables replaced.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What it begins with.
    pub base: Base,
    /// What it is for.
    pub platform: Platform,
    /// `FROM --platform` was said.
    pub platform_said: bool,
    /// Its name, or the number that `--from` knows it by.
    pub title: Option<String>,
}

/// A whole build.
#[derive(Debug)]
pub struct Plan {
    /// All stages, in the file's order.
    pub stages: Vec<Planned>,
    /// The one that becomes the image.
    pub target: usize,
    /// Those that it needs, as far as the file shows it, itself included.
    pub needed: BTreeSet<usize>,
    /// The variables before the first FROM, and those that are predefined.
    pub meta: IndexMap<String, String>,
}

/// What a plan is made of besides the file.
#[derive(Clone, Copy)]
pub struct Wanted<'w> {
    /// `--build-arg`.
    pub args: &'w IndexMap<String, String>,
    /// `--target`.
    pub target: Option<&'w str>,
    /// What the image is for.
    pub platform: &'w Platform,
    /// What runs here.
    pub host: &'w Platform,
    /// Names of contexts.
    pub contexts: &'w dyn Fn(&str) -> bool,
}

impl Plan {
    /// Plans the build of a file.
    pub fn new(file: &Dockerfile, wanted: Wanted<'_>) -> Result<Self> {
        let target = target(file, wanted.target)?;
        let meta = meta(file, &wanted, target)?;
        let words = Words { env: &meta, escape: file.directives.escape };
        let mut stages: Vec<Planned> = Vec::new();
        for (index, stage) in file.stages.iter().enumerate() {
            let image = words.one(&stage.image).at(stage.place)?;
            if image.trim().is_empty() {
                let error = anyhow::anyhow!("base name ({}) should not be blank", stage.image.raw);
                return Err(error).at(stage.image.place);
            }
            let platform = match &stage.platform {
                Some(text) => {
                    let text = words.one(text).at(stage.place)?;
                    let parsed = crate::engine::image::parse_platform(&text);
                    Some(
                        parsed
                            .map_err(|error| error.context(format!("failed to parse platform {text:?}")))
                            .at(stage.place)?,
                    )
                }
                None => None,
            };
            let base = match earlier(file, &image, index) {
                _ if (wanted.contexts)(&image) => Base::Context(image),
                Some(stage) => Base::Stage(stage),
                None if image == "scratch" => Base::Scratch,
                None => Base::Image(image),
            };
            let inherited = match &base {
                Base::Stage(base) => stages.get(*base).map(|stage| stage.platform.clone()),
                _ => None,
            };
            stages.push(Planned {
                base,
                platform_said: platform.is_some(),
                platform: platform.or(inherited).unwrap_or_else(|| wanted.platform.clone()),
                title: stage.name.clone(),
            });
        }
        let mut plan = Self { stages, target, needed: BTreeSet::new(), meta };
        plan.need(file, target, wanted.contexts)?;
        Ok(plan)
    }

    /// Whether the layers of a stage are layers of the image.
    pub fn is_of_image(&self, index: usize) -> bool {
        let mut at = Some(self.target);
        while let Some(stage) = at {
            if stage == index {
                return true;
            }
            at = match self.stages.get(stage).map(|stage| &stage.base) {
                Some(Base::Stage(base)) => Some(*base),
                _ => None,
            };
        }
        false
    }

    /// The values that ARGs take from outside.
    pub fn given<'g>(&'g self, args: &'g IndexMap<String, String>) -> Given<'g> {
        Given { args, meta: &self.meta }
    }

    fn need(&mut self, file: &Dockerfile, index: usize, contexts: &dyn Fn(&str) -> bool) -> Result<()> {
        if !self.needed.insert(index) {
            return Ok(());
        }
        let mut on = Vec::new();
        if let Some(Planned { base: Base::Stage(base), .. }) = self.stages.get(index) {
            on.push(*base);
        }
        for instruction in file.stages.get(index).map(|stage| stage.instructions.as_slice()).unwrap_or_default() {
            for (from, place) in sources(instruction) {
                if let Base::Stage(stage) = lookup(file, from, index, contexts).at(place)? {
                    on.push(stage);
                }
            }
        }
        on.into_iter().try_for_each(|stage| self.need(file, stage, contexts))
    }
}

/// What an instruction takes from elsewhere, by the names it has for them.
pub fn sources(instruction: &Instruction) -> Vec<(&str, Place)> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.iter().map(|from| (from.raw.as_str(), from.place)).collect(),
        Kind::Run(run) => {
            let from = run.mounts.iter().filter_map(|mount| mount.from.as_ref());
            from.map(|from| (from.raw.as_str(), from.place)).collect()
        }
        _ => Vec::new(),
    }
}

/// Where `--from` of the stage `index` leads.
pub fn lookup(file: &Dockerfile, from: &str, index: usize, contexts: &dyn Fn(&str) -> bool) -> Result<From> {
    if contexts(from) {
        return Ok(Base::Context(from.to_owned()));
    }
    if let Some(stage) = earlier(file, from, index) {
        return Ok(Base::Stage(stage));
    }
    if let Ok(number) = from.parse::<usize>() {
        if number < index {
            return Ok(Base::Stage(number));
        }
        bail!("invalid from flag value {from}: stage {number} does not come before this one");
    }
    if file.stages.get(index).and_then(|stage| stage.name.as_deref()) == Some(from.to_ascii_lowercase().as_str()) {
        bail!("invalid from flag value {from}: a stage cannot copy from itself");
    }
    Ok(if from == "scratch" { Base::Scratch } else { Base::Image(from.to_owned()) })
}

/// A stage by its name, before `index`; the last of several.
fn earlier(file: &Dockerfile, name: &str, index: usize) -> Option<usize> {
    let name = name.to_ascii_lowercase();
    file.stages.iter().take(index).rposition(|stage| stage.name.as_deref() == Some(name.as_str()))
}

fn target(file: &Dockerfile, wanted: Option<&str>) -> Result<usize> {
    let last = file.stages.len().saturating_sub(1);
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else { return Ok(last) };
    if let Some(index) = earlier(file, wanted, file.stages.len()) {
        return Ok(index);
    }
    match wanted.parse::<usize>() {
        Ok(number) if number <= last => Ok(number),
        _ => {
            let names: Vec<&str> = file.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
            let known = if names.is_empty() { "none has a name".to_owned() } else { names.join(", ") };
            bail!("target stage {wanted:?} could not be found (stages of this Dockerfile: {known})")
        }
    }
}

/// The variables that nobody has to declare before the first FROM.
pub fn predefined(file: &Dockerfile, wanted: &Wanted<'_>, target: usize) -> IndexMap<String, String> {
    let mut all = IndexMap::new();
    for (prefix, platform) in [("BUILD", wanted.host), ("TARGET", wanted.platform)] {
        let platform = platform.normalised();
        all.insert(format!("{prefix}PLATFORM"), platform.to_string());
        all.insert(format!("{prefix}OS"), platform.os.clone());
        all.insert(format!("{prefix}OSVERSION"), String::new());
        all.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        all.insert(format!("{prefix}VARIANT"), platform.variant.clone().unwrap_or_default());
    }
    let name = file.stages.get(target).and_then(|stage| stage.name.clone());
    all.insert(
        "TARGETSTAGE".to_owned(),
        wanted.target.map(str::to_owned).or(name).unwrap_or_else(|| "default".to_owned()),
    );
    all
}

/// The predefined variables, and those before the first FROM.
fn meta(file: &Dockerfile, wanted: &Wanted<'_>, target: usize) -> Result<IndexMap<String, String>> {
    let mut meta = predefined(file, wanted, target);
    for (name, value) in meta.iter_mut() {
        if let Some(given) = wanted.args.get(name) {
            value.clone_from(given);
        }
    }
    for instruction in &file.meta_args {
        let Kind::Arg(items) = &instruction.kind else { continue };
        for item in items {
            let words = Words { env: &meta, escape: file.directives.escape };
            let default = item.default.as_ref().map(|text| words.one(text)).transpose().at(instruction.place)?;
            if let Some(value) = wanted.args.get(&item.name).cloned().or(default) {
                meta.insert(item.name.clone(), value);
            }
        }
    }
    Ok(meta)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, target: Option<&str>, args: &[(&str, &str)]) -> Result<Plan> {
        let file = umiak_dockerfile::parse(text).unwrap();
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let platform = Platform::host();
        let wanted =
            Wanted { args: &args, target, platform: &platform, host: &platform, contexts: &|name| name == "ctx" };
        Plan::new(&file, wanted)
    }

    #[test]
    fn unused_stages_are_not_needed() {
        let text = "FROM a AS one\nFROM b AS two\nCOPY --from=one /x /x\nFROM c\nFROM two\n";
        assert_eq!(plan(text, None, &[]).unwrap().needed, BTreeSet::from([0, 1, 3]));
        assert_eq!(plan(text, Some("ONE"), &[]).unwrap().needed, BTreeSet::from([0]));
        assert_eq!(plan(text, Some("2"), &[]).unwrap().target, 2);
        assert!(plan(text, Some("none"), &[]).unwrap_err().to_string().contains("one, two"));
    }

    #[test]
    fn bases_are_stages_contexts_and_images() {
        let text = "ARG V=1\nFROM img:$V AS a\nFROM A\nFROM ctx\nFROM scratch\nCOPY --from=0 / /\n";
        let bases = |args: &[(&str, &str)]| {
            plan(text, None, args).unwrap().stages.into_iter().map(|stage| stage.base).collect::<Vec<_>>()
        };
        assert_eq!(
            bases(&[("V", "2")]),
            [Base::Image("img:2".into()), Base::Stage(0), Base::Context("ctx".into()), Base::Scratch]
        );
    }
}
