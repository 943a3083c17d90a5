//! The files of one log, newest first: opened so that a rotation in between
//! hides none, and read backwards for `--tail`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use super::rotated;

/// How much is read at once, backwards.
const BLOCK: u64 = 64 << 10;

/// A log file, known by what it is and not by its name, which rotation changes.
#[derive(Debug)]
pub struct LogFile {
    pub file: File,
    pub identity: (u64, u64),
    /// Where reading goes on.
    pub offset: u64,
}

impl LogFile {
    /// `None` where there is no such file.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => {
                let meta = file.metadata()?;
                Ok(Some(Self { file, identity: (meta.dev(), meta.ino()), offset: 0 }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// What is the current file now; `None` where there is none (in the middle of a rotation).
pub fn current_identity(current: &Path) -> io::Result<Option<(u64, u64)>> {
    match std::fs::metadata(current) {
        Ok(meta) => Ok(Some((meta.dev(), meta.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens the files that are newer than `known` (all of them where it is `None` or gone), oldest first, and says
/// whether `known` was met.
///
/// They are opened newest first: a rotation meanwhile moves a file to where it is met a second time, never to where
/// it has been passed over.
pub fn open_newer(current: &Path, known: Option<(u64, u64)>) -> io::Result<(Vec<LogFile>, bool)> {
    let mut files: Vec<LogFile> = Vec::new();
    let mut met = false;
    let mut gap = false;
    for number in 0.. {
        let Some(file) = LogFile::open(&rotated(current, number))? else {
            // A rotation leaves one gap at a time, that wanders down to the current file: two are the end.
            if number > 0 && gap {
                break;
            }
            gap = true;
            continue;
        };
        gap = false;
        if Some(file.identity) == known {
            met = true;
            break;
        }
        if files.iter().all(|other| other.identity != file.identity) {
            files.push(file);
        }
    }
    files.reverse();
    Ok((files, met))
}

/// Reads a file's lines backwards from `end`, handing each (without its newline) and its offset to `visit` until that
/// returns false. What follows the last newline is handed out first.
pub fn lines_backwards(file: &File, end: u64, mut visit: impl FnMut(u64, &[u8]) -> bool) -> io::Result<()> {
    let mut start = end;
    // The bytes from `start` to the last newline that has been passed.
    let mut tail: Vec<u8> = Vec::new();
    while start > 0 {
        let length = start.min(BLOCK);
        start -= length;
        let mut block = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut block, start)?;
        block.append(&mut tail);
        // Searched newline by newline from the end.
        let mut upper = block.len();
        while let Some(newline) = block.get(..upper).and_then(|part| part.iter().rposition(|byte| *byte == b'\n')) {
            let line = block.get(newline + 1..upper).unwrap_or_default();
            if !line.is_empty() && !visit(start + newline as u64 + 1, line) {
                return Ok(());
            }
            upper = newline;
        }
        block.truncate(upper);
        tail = block;
    }
    if !tail.is_empty() {
        visit(0, &tail);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backwards_gives_every_line_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for sizes in [vec![], vec![1], vec![3, 0, 5], vec![65_536, 1, 65_535, 200_000, 7]] {
            for ended in [true, false] {
                let lines: Vec<String> = sizes.iter().map(|size| "x".repeat(*size)).collect();
                let mut text = lines.join("\n");
                if ended && !lines.is_empty() {
                    text.push('\n');
                }
                std::fs::write(&path, &text).unwrap();
                let file = File::open(&path).unwrap();
                let mut seen = Vec::new();
                lines_backwards(&file, text.len() as u64, |offset, line| {
                    let place = usize::try_from(offset).unwrap();
                    assert_eq!(&text.as_bytes()[place..place + line.len()], line);
                    seen.push(line.len());
                    true
                })
                .unwrap();
                seen.reverse();
                let expected: Vec<usize> = sizes.iter().copied().filter(|size| *size > 0).collect();
                assert_eq!(seen, expected);
            }
        }
    }
}
