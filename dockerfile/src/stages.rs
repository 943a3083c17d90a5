//! How stages name one another, as far as that is seen without knowing images.

use std::collections::HashMap;

use super::ast::{Dockerfile, Kind, Text};
use super::error::{Fault, ParseError};

/// Fails on a stage that takes files from itself or from a later one.
pub(crate) fn check(file: &Dockerfile) -> Result<(), ParseError> {
    // Of two stages with one name, the later is meant.
    let names: HashMap<&str, usize> =
        file.stages.iter().enumerate().filter_map(|(index, stage)| Some((stage.name.as_deref()?, index))).collect();
    for (current, stage) in file.stages.iter().enumerate() {
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Copy(copy) => {
                    let Some(from) = &copy.from else { continue };
                    let found = match from.raw.parse::<i64>() {
                        Ok(number) => {
                            Some(usize::try_from(number).ok().filter(|index| *index < file.stages.len()).ok_or_else(
                                || ParseError::new(from.place, Fault::StageIndex { index: from.raw.clone() }),
                            )?)
                        }
                        Err(_) => names.get(from.raw.to_lowercase().as_str()).copied(),
                    };
                    earlier(file, found, current, from, None)?;
                }
                Kind::Run(run) => {
                    for mount in &run.mounts {
                        let Some(from) = &mount.from else { continue };
                        let target = mount.target.as_ref().map(|text| text.raw.clone()).unwrap_or_default();
                        let found = names.get(from.raw.to_lowercase().as_str()).copied();
                        earlier(file, found, current, from, Some(target))?;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether a stage that is taken from comes before the current one.
fn earlier(
    file: &Dockerfile,
    found: Option<usize>,
    current: usize,
    from: &Text,
    mount: Option<String>,
) -> Result<(), ParseError> {
    let name = |index: usize| {
        let name = file.stages.get(index).and_then(|stage| stage.name.clone());
        name.unwrap_or_else(|| format!("stage-{index}"))
    };
    match found {
        Some(index) if index == current => Err(ParseError::new(from.place, Fault::Circular { stage: name(current) })),
        Some(index) if index > current => {
            let from_name = from.raw.clone();
            let fault = match mount {
                Some(target) => Fault::LaterMount { from: from_name, target },
                None => Fault::LaterStage { from: from_name, stage: name(current) },
            };
            Err(ParseError::new(from.place, fault))
        }
        _ => Ok(()),
    }
}
