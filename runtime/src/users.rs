//! Who a container's program runs as: the `user` and `group_add` of a service,
//! looked up in the container's own `/etc/passwd` and `/etc/group`, by Docker's
//! rules. Both files are the image's and may be anything: a FIFO, a device, a
//! link out of the root, gigabytes long (CVE-2024-9676, CVE-2026-47262).

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::rootfs::{open_in_root, proc_name};

/// Larger passwd or group files are refused; some 200,000 users fit.
pub const MAX_FILE: u64 = 16 << 20;

/// The largest uid and gid: beyond it, some programs see a negative number and
/// some wrapped to 0 (CVE-2024-40635).
pub const MAX_ID: u32 = i32::MAX as u32;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Why a user or group could not be found.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A name that the passwd file does not have.
    #[error("unable to find user {name}: no matching entries in passwd file")]
    NoUser {
        /// The name asked for.
        name: String,
    },
    /// A name that the group file does not have.
    #[error("unable to find group {name}: no matching entries in group file")]
    NoGroup {
        /// The name asked for.
        name: String,
    },
    /// A number that is no usable id.
    #[error("{id} is not a usable id: uids and gids must be in range 0-2147483647")]
    Range {
        /// The id asked for, or found in the file.
        id: i64,
    },
    /// The file is a device, a FIFO, a directory ...
    #[error("{path} of the container is not a regular file")]
    NotRegular {
        /// The file inside the container.
        path: &'static str,
    },
    /// The file is larger than [`MAX_FILE`].
    #[error("{path} of the container is too large: {size} bytes, at most {MAX_FILE} are read")]
    TooLarge {
        /// The file inside the container.
        path: &'static str,
        /// Its size in bytes.
        size: u64,
    },
    /// The file could not be read.
    #[error("read {path} of the container")]
    Read {
        /// The file inside the container.
        path: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Whom a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups. The primary one is the first: a file that denies its group must deny it to this process too (CVE-2022-36109).
    pub groups: Vec<u32>,
    /// Home directory; `/` where the passwd file names none.
    pub home: String,
    /// The name in the passwd file; empty where the uid has no entry.
    pub name: String,
}

/// Resolves `spec` (`""`, `uid|name`, `uid|name:gid|group`, `:gid|group`) and
/// `group_add` (names or numbers) against the file system below `root`.
///
/// Docker's rules: a number that parses is a uid even where a user has that
/// name; a uid without an entry gets gid 0 and home `/`; supplementary groups
/// come from the group file only where no group is given; an empty part counts
/// as not given. Stricter than Docker: an entry with an unreadable number is
/// skipped, where Docker takes it for 0.
///
/// # Errors
/// When a name is not found, an id is out of range, or a file cannot be read.
pub fn resolve(root: BorrowedFd<'_>, spec: &str, group_add: &[String]) -> Result<User, UserError> {
    let (user_part, group_part) = spec.split_once(':').unwrap_or((spec, ""));
    let wanted_user = Wanted::parse(if user_part.is_empty() { "0" } else { user_part });
    let entry = find_user(root, &wanted_user)?;
    let mut user = match (entry, wanted_user) {
        (Some(entry), _) => User {
            uid: id(entry.uid)?,
            gid: id(entry.gid)?,
            groups: Vec::new(),
            home: if entry.home.is_empty() { "/".to_owned() } else { entry.home },
            name: entry.name,
        },
        (None, Wanted::Id(number)) => {
            User { uid: id(number)?, gid: 0, groups: Vec::new(), home: "/".to_owned(), name: String::new() }
        }
        (None, Wanted::Name(name)) => return Err(UserError::NoUser { name: name.to_owned() }),
    };
    let wanted_group = (!group_part.is_empty()).then(|| Wanted::parse(group_part));
    let wanted_extra: Vec<Wanted<'_>> = group_add.iter().map(|group| Wanted::parse(group)).collect();
    let found = find_groups(root, &user.name, wanted_group.as_ref(), &wanted_extra)?;
    if let Some(gid) = found.primary {
        user.gid = gid;
    }
    user.groups.push(user.gid);
    for gid in found.member_of.into_iter().chain(found.extra) {
        if !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(user)
}

fn id(number: i64) -> Result<u32, UserError> {
    u32::try_from(number).ok().filter(|number| *number <= MAX_ID).ok_or(UserError::Range { id: number })
}

/// A user or group as it was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    /// Any decimal integer with an optional sign, `01` and `+1` included, as Docker reads it.
    Id(i64),
    Name(&'a str),
}

impl<'a> Wanted<'a> {
    fn parse(text: &'a str) -> Self {
        text.parse().map_or(Self::Name(text), Self::Id)
    }

    fn matches(&self, name: &str, number: i64) -> bool {
        match self {
            Self::Id(id) => *id == number,
            Self::Name(wanted) => *wanted == name,
        }
    }
}

struct PasswdEntry {
    name: String,
    uid: i64,
    gid: i64,
    home: String,
}

fn find_user(root: BorrowedFd<'_>, wanted: &Wanted<'_>) -> Result<Option<PasswdEntry>, UserError> {
    let mut found = None;
    // name:password:uid:gid:comment:home:shell
    each_line(root, PASSWD, |line| {
        let mut fields = line.split(':');
        let (Some(name), Some(uid), gid) = (fields.next(), fields.nth(1), fields.next()) else { return true };
        let (Ok(uid), Ok(gid)) = (uid.parse(), gid.unwrap_or("0").parse()) else { return true };
        if !wanted.matches(name, uid) {
            return true;
        }
        let home = fields.nth(1).unwrap_or_default().to_owned();
        found = Some(PasswdEntry { name: name.to_owned(), uid, gid, home });
        false
    })?;
    Ok(found)
}

#[derive(Default)]
struct Groups {
    primary: Option<u32>,
    member_of: Vec<u32>,
    extra: Vec<u32>,
}

/// One pass over the group file for the primary group, memberships (only where no group was asked for) and extra groups.
fn find_groups(
    root: BorrowedFd<'_>,
    user_name: &str,
    primary: Option<&Wanted<'_>>,
    extra: &[Wanted<'_>],
) -> Result<Groups, UserError> {
    let mut member_of = Vec::new();
    let mut primary_gid = None;
    let mut extra_gids = vec![None; extra.len()];
    // name:password:gid:member,member
    each_line(root, GROUP, |line| {
        let mut fields = line.split(':');
        let (Some(name), Some(gid)) = (fields.next(), fields.nth(1)) else { return true };
        let Ok(gid) = gid.parse::<i64>() else { return true };
        if primary_gid.is_none() && primary.is_some_and(|wanted| wanted.matches(name, gid)) {
            primary_gid = Some(gid);
        }
        for (slot, wanted) in extra_gids.iter_mut().zip(extra) {
            if slot.is_none() && wanted.matches(name, gid) {
                *slot = Some(gid);
            }
        }
        let members = fields.next().unwrap_or_default();
        if primary.is_none() && !user_name.is_empty() && members.split(',').any(|member| member == user_name) {
            member_of.push(gid);
        }
        true
    })?;
    let number = |wanted: &Wanted<'_>, found: Option<i64>| match (wanted, found) {
        (_, Some(gid)) => id(gid),
        (Wanted::Id(gid), None) => id(*gid),
        (Wanted::Name(name), None) => Err(UserError::NoGroup { name: (*name).to_owned() }),
    };
    Ok(Groups {
        primary: primary.map(|wanted| number(wanted, primary_gid)).transpose()?,
        member_of: member_of.into_iter().map(id).collect::<Result<_, _>>()?,
        extra: extra.iter().zip(extra_gids).map(|(wanted, found)| number(wanted, found)).collect::<Result<_, _>>()?,
    })
}

/// Hands `visit` each line until it returns false; a missing file has no lines.
fn each_line(root: BorrowedFd<'_>, path: &'static str, mut visit: impl FnMut(&str) -> bool) -> Result<(), UserError> {
    let Some(file) = open_regular(root, path)? else { return Ok(()) };
    let failed = |source| UserError::Read { path, source };
    // The limit again: the file may grow while it is read.
    let mut reader = BufReader::new(file.take(MAX_FILE));
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(());
        }
        // Names are compared as they are: a line that is not UTF-8 cannot be asked for.
        let Ok(text) = std::str::from_utf8(&line) else { continue };
        let text = text.trim();
        if !text.is_empty() && !text.starts_with('#') && !visit(text) {
            return Ok(());
        }
    }
}

/// Opens a file of the container only after its type is known, so that no FIFO
/// blocks and no device notices.
fn open_regular(root: BorrowedFd<'_>, path: &'static str) -> Result<Option<File>, UserError> {
    let failed = |source| UserError::Read { path, source };
    let handle = match open_in_root(root, Path::new(path), OFlags::PATH, Mode::empty()) {
        Ok(handle) => handle,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(failed(source)),
    };
    let stat = rustix::fs::fstat(&handle).map_err(|error| failed(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(UserError::NotRegular { path });
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if size > MAX_FILE {
        return Err(UserError::TooLarge { path, size });
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::open(proc_name(&handle), flags, Mode::empty()) {
        Ok(fd) => Ok(Some(File::from(fd))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(failed(error.into())),
    }
}
