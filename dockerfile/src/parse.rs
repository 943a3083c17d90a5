//! From text to stages.

use super::ast::{Dockerfile, Instruction, Kind, Place, Stage, with_heredocs};
use super::error::{Fault, ParseError};
use super::instructions::{self, Parsed, Statement};
use super::source::Reader;
use super::{directives, heredoc, rules, stages};

/// Reads a Dockerfile.
///
/// # Errors
/// The first thing that is wrong in it, with its place.
pub fn parse(source: &str) -> Result<Dockerfile, ParseError> {
    let (directives, lines) = directives::read(source)?;
    let mut reader = Reader::new(source, directives.escape);
    reader.skip(lines);
    let mut file = Dockerfile { directives, meta_args: Vec::new(), stages: Vec::new(), warnings: Vec::new() };
    let mut blank_lines = Vec::new();
    while let Some((parsed, blank_inside)) = next(&mut reader)? {
        if blank_inside {
            blank_lines.push(reader.number);
        }
        match (parsed, file.stages.last_mut()) {
            (Parsed::From(stage), _) => file.stages.push(stage),
            (Parsed::Other(instruction), Some(stage)) => stage.instructions.push(instruction),
            (Parsed::Other(instruction), None) if matches!(instruction.kind, Kind::Arg(_)) => {
                file.meta_args.push(instruction);
            }
            (Parsed::Other(instruction), None) => return Err(ParseError::new(instruction.place, Fault::BeforeFrom)),
        }
    }
    let end = Place { line: reader.number, end_line: reader.number, column: 1 };
    match (file.stages.is_empty(), file.meta_args.first()) {
        (false, _) => {}
        (true, None) => return Err(ParseError::new(end, Fault::Empty)),
        (true, Some(first)) => return Err(ParseError::new(first.place, Fault::NoStages)),
    }
    stages::check(&file)?;
    file.warnings = rules::of_text(&file, &blank_lines);
    Ok(file)
}

/// Reads an instruction that a base image has put off.
///
/// # Errors
/// What [`parse`] finds, an instruction that cannot be put off, or more than one.
pub fn parse_onbuild(text: &str, escape: char) -> Result<Instruction, ParseError> {
    let mut reader = Reader::new(text, escape);
    let nowhere = Place { line: 1, end_line: 1, column: 1 };
    let Some((parsed, _)) = next(&mut reader)? else {
        return Err(ParseError::new(nowhere, Fault::OnBuildSeveral));
    };
    let instruction = match parsed {
        Parsed::From(stage) => {
            let instruction = stage.keyword.to_uppercase();
            return Err(ParseError::new(stage.place, Fault::OnBuildTrigger { instruction }));
        }
        Parsed::Other(instruction) => instruction,
    };
    match &instruction.kind {
        Kind::OnBuild(_) => Err(ParseError::new(instruction.place, Fault::OnBuildChain)),
        Kind::Maintainer(_) => {
            let keyword = instruction.keyword.to_uppercase();
            Err(ParseError::new(instruction.place, Fault::OnBuildTrigger { instruction: keyword }))
        }
        _ if next(&mut reader)?.is_some() => Err(ParseError::new(nowhere, Fault::OnBuildSeveral)),
        _ => Ok(instruction),
    }
}

/// The next instruction, and whether blank lines stood within it.
fn next(reader: &mut Reader<'_>) -> Result<Option<(Parsed, bool)>, ParseError> {
    let Some(line) = reader.line() else {
        return Ok(None);
    };
    if let Some(at) = line.text.find('\0') {
        return Err(ParseError::new(line.place(line.piece().from(at)), Fault::Nul));
    }
    let statement = Statement::new(&line, line.piece(), reader.escape);
    let heads = if statement.takes_heredocs() { heredoc::of_line(&line.text) } else { Vec::new() };
    let mut heredocs = Vec::with_capacity(heads.len());
    for head in heads {
        heredocs.push(reader.heredoc(head, &line)?);
    }
    let place = Place { end_line: reader.number, ..line.place(line.piece()) };
    let original = with_heredocs(line.text.trim(), &heredocs);
    let check = directives::of_comments(&line.comments);
    let comment = line.comments.last().cloned();
    let parsed = match instructions::parse(statement, heredocs)? {
        Parsed::From(stage) => Parsed::From(Stage { place, original, check, comment, ..stage }),
        Parsed::Other(instruction) => Parsed::Other(Instruction { place, original, check, comment, ..instruction }),
    };
    Ok(Some((parsed, line.blank_inside)))
}
