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
                    earlier(file, found, current, from, false)?;
                }
                Kind::Run(run) => {
                    for from in run.mounts.iter().filter_map(|mount| mount.from.as_ref()) {
                        let found = names.get(from.raw.to_lowercase().as_str()).copied();
                        earlier(file, found, current, from, true)?;
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
    mount: bool,
) -> Result<(), ParseError> {
    let name = |index: usize| {
        let name = file.stages.get(index).and_then(|stage| stage.name.clone());
        name.unwrap_or_else(|| format!("stage-{index}"))
    };
    match found {
        Some(index) if index == current => Err(ParseError::new(from.place, Fault::Circular { stage: name(current) })),
        Some(index) if index > current => {
            let fault = Fault::LaterStage { from: from.raw.clone(), stage: name(current), mount };
            Err(ParseError::new(from.place, fault))
        }
        _ => Ok(()),
    }
}
