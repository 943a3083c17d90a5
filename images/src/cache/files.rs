//! Digests of the files of a build context, so that a file that has not
//! changed costs a look at it and no reading.
//!
//! A file is taken for unchanged when device, inode, size, mode and both times
//! are what they were. A change within the clock's grain of the moment at which
//! it was read would not show in them; so, as git does with its index, what was
//! changed within the last two seconds is not remembered.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;

use super::{Cache, make};
use crate::digest::{Digest, Hasher};
use crate::store::StoreError;

/// How the file begins: what it is, and its version.
const MAGIC: &[u8; 8] = b"umiakfc1";
/// A change is seen for sure when the file was read so much later, in nanoseconds.
const RACY: i128 = 2_000_000_000;
/// Entries that were not asked for in so many changed builds are dropped.
const MOST_AGE: u8 = 8;
/// Bytes of an entry without its path.
const FIXED: usize = 1 + 7 * 8 + 32 + 4;
/// Bytes read at a time.
const CHUNK: usize = 128 << 10;

/// What a file looked like when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look([u64; 7]);

impl Look {
    fn of(stat: &Stat) -> Self {
        let [mtime, ctime] = [(stat.st_mtime, stat.st_mtime_nsec), (stat.st_ctime, stat.st_ctime_nsec)].map(nanos);
        // Nanoseconds since 1970 fit into 64 bits until 2554.
        let low = |time: i128| u64::from_le_bytes(i64::try_from(time).unwrap_or(i64::MAX).to_le_bytes());
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Self([stat.st_dev, stat.st_ino, size, low(mtime), low(ctime), stat.st_mode.into(), stat.st_nlink])
    }
}

fn nanos((seconds, nanos): (i64, impl TryInto<i64>)) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos.try_into().unwrap_or(0))
}

#[derive(Debug, Clone)]
struct Entry {
    look: Look,
    sha256: [u8; 32],
    /// Changed builds since it was asked for.
    age: u8,
}

/// What is known of the files of one context.
#[derive(Debug)]
pub struct ContentCache {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Vec<u8>, Entry>,
    changed: bool,
}

impl Cache {
    /// What is known of the files below `context`, an absolute path; nothing where that is damaged.
    #[must_use]
    pub fn contents(&self, context: &Path) -> ContentCache {
        let path = self.files().join(Digest::of(context.as_os_str().as_bytes()).hex());
        let entries = std::fs::read(&path).ok().and_then(|bytes| parse(&bytes)).unwrap_or_default();
        ContentCache { path, state: Mutex::new(State { entries, changed: false }) }
    }

    pub(super) fn files(&self) -> PathBuf {
        self.root.join("files")
    }
}

impl ContentCache {
    /// The digest of a regular file's content, read only where it is not known; `path` is its name in the context.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn digest(&self, path: &[u8], file: &File) -> io::Result<Digest> {
        let stat = rustix::fs::fstat(file)?;
        if let Some(known) = self.get(path, &stat) {
            return Ok(known);
        }
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; CHUNK.min(usize::try_from(stat.st_size).unwrap_or(CHUNK).max(1) + 1)];
        let mut input = file;
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let digest = hasher.finish();
        if Look::of(&rustix::fs::fstat(file)?) == Look::of(&stat) {
            self.put(path, &stat, &digest);
        }
        Ok(digest)
    }

    /// The digest of a file that looks as it did when it was read.
    #[must_use]
    pub fn get(&self, path: &[u8], stat: &Stat) -> Option<Digest> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = state.entries.get_mut(path)?;
        entry.age = 0;
        (entry.look == Look::of(stat)).then(|| digest_of(&entry.sha256))
    }

    /// Remembers a digest; `stat` is how the file looked before it was read, and still looks.
    pub fn put(&self, path: &[u8], stat: &Stat, digest: &Digest) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos().cast_signed());
        self.put_at(path, stat, digest, now);
    }

    fn put_at(&self, path: &[u8], stat: &Stat, digest: &Digest, now: i128) {
        let last = nanos((stat.st_ctime, stat.st_ctime_nsec)).max(nanos((stat.st_mtime, stat.st_mtime_nsec)));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if last + RACY > now {
            state.entries.remove(path);
            return;
        }
        let Some(sha256) = bytes_of(digest) else { return };
        state.entries.insert(path.to_vec(), Entry { look: Look::of(stat), sha256, age: 0 });
        state.changed = true;
    }

    /// Writes down what was learnt; nothing where that is nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.changed {
            return Ok(());
        }
        state.entries.retain(|_, entry| entry.age <= MOST_AGE);
        if let Some(parent) = self.path.parent() {
            make(parent)?;
        }
        umiak_base::state::write_bytes_volatile(&self.path, &written(&state.entries), 0o600)
            .map_err(|source| StoreError::io("write", &self.path, source))?;
        state.changed = false;
        Ok(())
    }
}

/// The file: magic, entries, and the sha256 of both.
fn written(entries: &HashMap<Vec<u8>, Entry>) -> Vec<u8> {
    let length: usize = entries.keys().map(|path| path.len() + FIXED).sum();
    let mut out = Vec::with_capacity(length + MAGIC.len() + 32);
    out.extend_from_slice(MAGIC);
    for (path, entry) in entries {
        out.push(entry.age.saturating_add(1));
        for number in entry.look.0 {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&entry.sha256);
        out.extend_from_slice(&u32::try_from(path.len()).unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&path[..usize::try_from(u32::try_from(path.len()).unwrap_or(0)).unwrap_or(0)]);
    }
    let sum = bytes_of(&Digest::of(&out)).unwrap_or_default();
    out.extend_from_slice(&sum);
    out
}

/// `None` where it is not what was written.
fn parse(bytes: &[u8]) -> Option<HashMap<Vec<u8>, Entry>> {
    let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if bytes_of(&Digest::of(content))? != sum {
        return None;
    }
    let mut left = content.strip_prefix(MAGIC)?;
    let mut entries = HashMap::with_capacity(left.len() / (FIXED + 32));
    while !left.is_empty() {
        let (fixed, rest) = left.split_at_checked(FIXED)?;
        let number = |at: usize| fixed.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let mut look = [0; 7];
        for (place, value) in look.iter_mut().enumerate() {
            *value = number(1 + place * 8)?;
        }
        let sha256 = fixed.get(57..89)?.try_into().ok()?;
        let length = u32::from_le_bytes(fixed.get(89..93)?.try_into().ok()?);
        let (path, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        entries.insert(path.to_vec(), Entry { look: Look(look), sha256, age: fixed[0] });
        left = rest;
    }
    Some(entries)
}

fn bytes_of(digest: &Digest) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    for (place, pair) in out.iter_mut().zip(digest.hex().as_bytes().chunks(2)) {
        *place = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

fn digest_of(bytes: &[u8; 32]) -> Digest {
    Digest::from_sha256(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        dir: tempfile::TempDir,
        cache: Cache,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = crate::store::Store::open(&dir.path().join("data")).unwrap();
            Self { dir, cache: store.cache() }
        }

        fn contents(&self) -> ContentCache {
            self.cache.contents(Path::new("/src/app"))
        }

        fn stat(&self, name: &str) -> Stat {
            rustix::fs::stat(self.dir.path().join(name)).unwrap()
        }
    }

    /// As if the file had been read an hour after it was changed.
    fn put(contents: &ContentCache, path: &[u8], stat: &Stat, digest: &Digest) {
        contents.put_at(path, stat, digest, nanos((stat.st_ctime + 3600, 0_i64)));
    }

    #[test]
    fn what_looks_the_same_is_known_and_what_does_not_is_not() {
        let place = Place::new();
        let file = place.dir.path().join("a");
        std::fs::write(&file, "one").unwrap();
        let before = place.stat("a");
        let contents = place.contents();
        put(&contents, b"a", &before, &Digest::of(b"one"));
        contents.save().unwrap();
        let contents = place.contents();
        assert_eq!(contents.get(b"a", &before), Some(Digest::of(b"one")));
        assert_eq!(contents.get(b"b", &before), None);
        // The same size and time of change, by touch: only ctime tells.
        std::fs::write(&file, "two").unwrap();
        let times = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: before.st_mtime, tv_nsec: 0 },
            last_modification: rustix::fs::Timespec {
                tv_sec: before.st_mtime,
                tv_nsec: i64::try_from(before.st_mtime_nsec).unwrap(),
            },
        };
        rustix::fs::utimensat(rustix::fs::CWD, &file, &times, rustix::fs::AtFlags::empty()).unwrap();
        let mut after = place.stat("a");
        assert_eq!((after.st_mtime, after.st_mtime_nsec, after.st_size), (before.st_mtime, before.st_mtime_nsec, 3));
        // The clock's grain may be coarser than this test is fast.
        after.st_ctime_nsec = before.st_ctime_nsec + 1;
        assert_eq!(contents.get(b"a", &after), None);
    }

    #[test]
    fn what_was_changed_just_now_is_read_again() {
        let place = Place::new();
        std::fs::write(place.dir.path().join("a"), "one").unwrap();
        let contents = place.contents();
        let file = File::open(place.dir.path().join("a")).unwrap();
        assert_eq!(contents.digest(b"a", &file).unwrap(), Digest::of(b"one"));
        assert_eq!(contents.get(b"a", &place.stat("a")), None);
        let stat = place.stat("a");
        let change = nanos((stat.st_ctime, stat.st_ctime_nsec));
        for (age, known) in [(-RACY, false), (0, false), (RACY - 1, false), (RACY, true)] {
            contents.put_at(b"a", &stat, &Digest::of(b"one"), change + age);
            assert_eq!(contents.get(b"a", &stat).is_some(), known, "{age}");
        }
    }

    #[test]
    fn damage_is_nothing_known() {
        let place = Place::new();
        std::fs::write(place.dir.path().join("a"), "one").unwrap();
        let stat = place.stat("a");
        let contents = place.contents();
        for number in 0..100 {
            put(&contents, format!("{number}").as_bytes(), &stat, &Digest::of(b"one"));
        }
        contents.save().unwrap();
        let path = contents.path.clone();
        let whole = std::fs::read(&path).unwrap();
        assert!(place.contents().get(b"99", &stat).is_some());
        for at in [0, 7, 8, 60, 100, whole.len() - 33, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            std::fs::write(&path, &bytes).unwrap();
            assert!(place.contents().get(b"99", &stat).is_none(), "{at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(place.contents().get(b"99", &stat).is_none(), "{at}");
        }
    }

    #[test]
    fn what_is_asked_for_no_more_goes_with_time() {
        let place = Place::new();
        std::fs::write(place.dir.path().join("a"), "one").unwrap();
        let stat = place.stat("a");
        let digest = Digest::of(b"one");
        let contents = place.contents();
        put(&contents, b"old", &stat, &digest);
        contents.save().unwrap();
        for round in 0..20 {
            let contents = place.contents();
            put(&contents, format!("{round}").as_bytes(), &stat, &digest);
            contents.save().unwrap();
        }
        let contents = place.contents();
        assert_eq!(contents.get(b"old", &stat), None);
        assert!(contents.get(b"19", &stat).is_some());
    }
}
