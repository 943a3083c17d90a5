//! The images that a Dockerfile takes from, as far as its text and the build arguments tell.

use anyhow::Result;
use indexmap::IndexMap;
use umiak_dockerfile::Dockerfile;
use umiak_images::platform::Platform;

use super::plan::{Base, Plan, Wanted, lookup, sources};

/// The images that the stages of a target stand on or copy from.
pub fn bases(
    file: &Dockerfile,
    args: &IndexMap<String, String>,
    target: Option<&str>,
    platform: &Platform,
    contexts: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>> {
    let host = Platform::host();
    let plan = Plan::new(file, Wanted { args, target, platform, host: &host, contexts })?;
    let mut found = Vec::new();
    for index in &plan.needed {
        if let Some(Base::Image(name)) = plan.stages.get(*index).map(|stage| &stage.base) {
            found.push(name.clone());
        }
        for instruction in file.stages.get(*index).map(|stage| stage.instructions.as_slice()).unwrap_or_default() {
            for (from, _) in sources(instruction) {
                if let Base::Image(name) = lookup(file, from, *index, contexts)? {
                    found.push(name);
                }
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_needed_stages_are_found() {
        let file = umiak_dockerfile::parse(
            "ARG TAG=1\nFROM alpine:$TAG AS base\nFROM unused:2\nFROM base\nCOPY --from=tools:3 /a /b\nCOPY --from=own /a /c\n\
             RUN --mount=type=bind,from=mounted:4,target=/x true\nCOPY --from=base /a /d\n",
        )
        .unwrap();
        let args = IndexMap::from([("TAG".to_owned(), "9".to_owned())]);
        let found = bases(&file, &args, None, &Platform::host(), &|name| name == "own").unwrap();
        assert_eq!(found, ["alpine:9", "mounted:4", "tools:3"]);
    }
}
