//! `--chown` and USER: names to numbers, by the passwd and group files of the
//! stage, which are read as what they are: somebody else's files.

use std::io::Read as _;
use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FileType, OFlags};

use super::tree::{in_root, is, reopen};

/// Of a longer file only the beginning is read.
const LONGEST: u64 = 4 << 20;

/// Reads `user[:group]`, each a name or a number. Without a group it is that of the user: of a name its own one, of a
/// number the same number.
pub fn owner(root: BorrowedFd<'_>, text: &str) -> Result<(u32, u32)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let (uid, own) = match number(user)? {
        Some(uid) => (uid, uid),
        None if user.is_empty() => (0, 0),
        None => {
            let passwd = read(root, "etc/passwd")?;
            let line = find(&passwd, user).with_context(|| format!("invalid user index: {user}: no such user"))?;
            let field = |at: usize| line.split(':').nth(at).and_then(|field| field.parse().ok());
            match (field(2), field(3)) {
                (Some(uid), Some(gid)) => (uid, gid),
                _ => bail!("the entry of user {user} in /etc/passwd is damaged"),
            }
        }
    };
    let gid = match group {
        None => own,
        Some(group) => match number(group)? {
            Some(gid) => gid,
            None => {
                let groups = read(root, "etc/group")?;
                let line =
                    find(&groups, group).with_context(|| format!("invalid group index: {group}: no such group"))?;
                let gid = line.split(':').nth(2).and_then(|field| field.parse().ok());
                gid.with_context(|| format!("the entry of group {group} in /etc/group is damaged"))?
            }
        },
    };
    Ok((uid, gid))
}

/// Digits are a number, which must be one that a file can have (CVE-2024-40635: never wrapped).
fn number(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) if i32::try_from(number).is_ok() => Ok(Some(number)),
        _ => bail!("{text} is no user or group id: they go up to 2147483647"),
    }
}

fn find<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find(|line| line.split(':').next() == Some(name))
}

/// A file of the image, if it is a regular one; empty where there is none.
fn read(root: BorrowedFd<'_>, path: &str) -> Result<String> {
    let Ok(place) = in_root(root, path.as_bytes(), OFlags::PATH) else { return Ok(String::new()) };
    if !is(&rustix::fs::fstat(&place)?, FileType::RegularFile) {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    std::fs::File::from(reopen(&place)?)
        .take(LONGEST)
        .read_to_end(&mut bytes)
        .with_context(|| format!("read /{path}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn names_and_numbers() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:10:20::/:/bin/sh\n").unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\nweb:x:33:\n").unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let owner = |text| owner(root.as_fd(), text);
        assert_eq!(owner("app").unwrap(), (10, 20));
        assert_eq!(owner("app:web").unwrap(), (10, 33));
        assert_eq!(owner("5").unwrap(), (5, 5));
        assert_eq!(owner("5:6").unwrap(), (5, 6));
        assert_eq!(owner(":web").unwrap(), (0, 33));
        for wrong in ["nobody", "app:none", "4294967296", "2147483648", "1:4294967295"] {
            assert!(owner(wrong).is_err(), "{wrong}");
        }
    }
}
