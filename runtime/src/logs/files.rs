//! The files of one log, newest first: opened so that a rotation or a
//! compression in between hides none, and read backwards for `--tail`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use super::{compress, compressed, rotated};

/// How much is read at once, backwards.
const BLOCK: u64 = 64 << 10;

/// A log file, known by what it is and not by its name, which rotation changes.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    /// Of a compressed file: what it was before.
    pub identity: (u64, u64),
    /// The compressed file itself.
    own: (u64, u64),
    /// Not unpacked yet.
    packed: bool,
    /// Where reading goes on.
    pub offset: u64,
}

/// As much of a file as is compared: more than a record's time, which no other record has.
const BEGINNING: usize = 64 << 10;

impl LogFile {
    /// The `number`th file as it is or compressed; `None` where there is no such file.
    fn open(current: &Path, number: u32) -> io::Result<Option<Self>> {
        if let Some(file) = open_there(&rotated(current, number))? {
            let identity = identity(&file)?;
            return Ok(Some(Self { file, identity, own: identity, packed: false, offset: 0 }));
        }
        if number == 0 {
            return Ok(None);
        }
        let Some(file) = open_there(&compressed(current, number))? else { return Ok(None) };
        let own = identity(&file)?;
        let identity = compress::origin(&file).unwrap_or(own);
        Ok(Some(Self { file, identity, own, packed: true, offset: 0 }))
    }

    /// The file's bytes, unpacked when they are first asked for.
    pub fn file(&mut self, current: &Path) -> io::Result<&File> {
        if self.packed {
            self.file = compress::unpack(&self.file, current.parent().unwrap_or(Path::new("/")))?;
            self.packed = false;
        }
        Ok(&self.file)
    }

    /// How long it is, unpacked.
    pub fn size(&mut self, current: &Path) -> io::Result<u64> {
        Ok(self.file(current)?.metadata()?.len())
    }

    /// Whether both are the same log file. Its number among files is given away again once it has been compressed and
    /// nobody has it open, so what looks the same is compared.
    fn is(&mut self, other: &Self, current: &Path) -> io::Result<bool> {
        if self.identity != other.identity || self.own == other.own {
            return Ok(self.own == other.own);
        }
        if self.packed && other.packed {
            return Ok(false);
        }
        let (mut ours, mut theirs) = (vec![0; BEGINNING], vec![0; BEGINNING]);
        let ours_read = self.file(current)?.read_at(&mut ours, 0)?;
        let theirs_read = if other.packed {
            let unpacked = compress::unpack(&other.file, current.parent().unwrap_or(Path::new("/")))?;
            unpacked.read_at(&mut theirs, 0)?
        } else {
            other.file.read_at(&mut theirs, 0)?
        };
        let both = ours_read.min(theirs_read);
        Ok(ours.get(..both) == theirs.get(..both))
    }
}

fn open_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let meta = file.metadata()?;
    Ok((meta.dev(), meta.ino()))
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
pub fn open_newer(current: &Path, known: Option<&LogFile>) -> io::Result<(Vec<LogFile>, bool)> {
    let mut files: Vec<LogFile> = Vec::new();
    let mut met = false;
    let mut gap = false;
    for number in 0.. {
        let Some(mut file) = LogFile::open(current, number)? else {
            // A rotation leaves one gap at a time, that wanders down to the current file: two are the end.
            if number > 0 && gap {
                break;
            }
            gap = true;
            continue;
        };
        gap = false;
        if let Some(known) = known
            && file.is(known, current)?
        {
            met = true;
            break;
        }
        let mut again = false;
        for other in &files {
            again |= file.is(other, current)?;
        }
        if !again {
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
