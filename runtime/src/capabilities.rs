//! Capabilities (capabilities(7)): their names, sets of them, Docker's default
//! set, and what `cap_add`, `cap_drop` and `privileged` make of it.

use std::fmt;

use crate::config::Config;

macro_rules! capabilities {
    ($($variant:ident = $number:literal, $name:literal;)*) => {
        /// One capability.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Capability {
            $(#[doc = concat!("`CAP_", $name, "`")] $variant = $number,)*
        }

        /// Every capability that is known, in the kernel's order.
        const ALL: &[(Capability, &str)] = &[$((Capability::$variant, $name),)*];
    };
}

// include/uapi/linux/capability.h
capabilities! {
    Chown = 0, "CHOWN";
    DacOverride = 1, "DAC_OVERRIDE";
    DacReadSearch = 2, "DAC_READ_SEARCH";
    Fowner = 3, "FOWNER";
    Fsetid = 4, "FSETID";
    Kill = 5, "KILL";
    Setgid = 6, "SETGID";
    Setuid = 7, "SETUID";
    Setpcap = 8, "SETPCAP";
    LinuxImmutable = 9, "LINUX_IMMUTABLE";
    NetBindService = 10, "NET_BIND_SERVICE";
    NetBroadcast = 11, "NET_BROADCAST";
    NetAdmin = 12, "NET_ADMIN";
    NetRaw = 13, "NET_RAW";
    IpcLock = 14, "IPC_LOCK";
    IpcOwner = 15, "IPC_OWNER";
    SysModule = 16, "SYS_MODULE";
    SysRawio = 17, "SYS_RAWIO";
    SysChroot = 18, "SYS_CHROOT";
    SysPtrace = 19, "SYS_PTRACE";
    SysPacct = 20, "SYS_PACCT";
    SysAdmin = 21, "SYS_ADMIN";
    SysBoot = 22, "SYS_BOOT";
    SysNice = 23, "SYS_NICE";
    SysResource = 24, "SYS_RESOURCE";
    SysTime = 25, "SYS_TIME";
    SysTtyConfig = 26, "SYS_TTY_CONFIG";
    Mknod = 27, "MKNOD";
    Lease = 28, "LEASE";
    AuditWrite = 29, "AUDIT_WRITE";
    AuditControl = 30, "AUDIT_CONTROL";
    Setfcap = 31, "SETFCAP";
    MacOverride = 32, "MAC_OVERRIDE";
    MacAdmin = 33, "MAC_ADMIN";
    Syslog = 34, "SYSLOG";
    WakeAlarm = 35, "WAKE_ALARM";
    BlockSuspend = 36, "BLOCK_SUSPEND";
    AuditRead = 37, "AUDIT_READ";
    Perfmon = 38, "PERFMON";
    Bpf = 39, "BPF";
    CheckpointRestore = 40, "CHECKPOINT_RESTORE";
}

/// Docker's default set.
const DOCKER: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

impl Capability {
    /// By name: any case, with or without `CAP_`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let bare = match name.get(..4) {
            Some(prefix) if prefix.eq_ignore_ascii_case("CAP_") => &name[4..],
            _ => name,
        };
        ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(bare)).map(|(cap, _)| *cap)
    }

    /// The name with its `CAP_`.
    #[must_use]
    pub fn name(self) -> String {
        ALL.iter().find(|(cap, _)| *cap == self).map_or_else(String::new, |(_, name)| format!("CAP_{name}"))
    }
}

/// Which list of the config a bad name stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `cap_add`
    Add,
    /// `cap_drop`
    Drop,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "cap_add",
            Self::Drop => "cap_drop",
        })
    }
}

/// Why the capabilities of a container cannot be worked out.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// A name that is no capability.
    #[error("invalid {list}: unknown capability: {name:?}")]
    Unknown {
        /// Where it stands.
        list: List,
        /// As written.
        name: String,
    },
    /// The host lacks what was asked for, so no container can have it.
    #[error("cap_add: {name} is not in the host's own bounding set")]
    NotOnHost {
        /// The capability.
        name: String,
    },
}

/// A set of capabilities, as the kernel's bit mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapSet(pub u64);

impl CapSet {
    /// Docker's default set.
    #[must_use]
    pub fn docker() -> Self {
        DOCKER.iter().fold(Self::default(), |set, cap| set.with(*cap))
    }

    /// With `cap` added.
    #[must_use]
    pub const fn with(self, cap: Capability) -> Self {
        Self(self.0 | 1 << cap as u8)
    }

    /// With `cap` taken out.
    #[must_use]
    pub const fn without(self, cap: Capability) -> Self {
        Self(self.0 & !(1 << cap as u8))
    }

    /// Whether `cap` is in the set.
    #[must_use]
    pub const fn contains(self, cap: Capability) -> bool {
        self.0 & (1 << cap as u8) != 0
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The bounding set of the calling process.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn host() -> std::io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let bits = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        bits.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .map(Self)
            .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "no CapBnd in /proc/self/status"))
    }
}

/// The capabilities of a container on a host whose bounding set is `host`: the
/// bounding set of all its processes, and what its root holds.
///
/// As Docker: `ALL` in `cap_add` starts from everything, in `cap_drop` from
/// nothing; a name in both lists is added. Docker's defaults that the host
/// itself lacks are left out.
///
/// # Errors
/// An unknown name, or one asked for by name that the host cannot give.
pub fn of(config: &Config, host: CapSet) -> Result<CapSet, CapabilityError> {
    let (add_all, add) = parse(&config.cap_add, List::Add)?;
    let (drop_all, drop) = parse(&config.cap_drop, List::Drop)?;
    if config.privileged {
        return Ok(host);
    }
    if let Some(missing) = add.iter().find(|cap| !host.contains(**cap)) {
        return Err(CapabilityError::NotOnHost { name: missing.name() });
    }
    let without = |set: CapSet| drop.iter().fold(set, |set, cap| set.without(*cap));
    if add_all {
        return Ok(without(host));
    }
    let start = if drop_all { CapSet::default() } else { without(CapSet::docker().and(host)) };
    Ok(add.iter().fold(start, |set, cap| set.with(*cap)))
}

fn parse(names: &[String], list: List) -> Result<(bool, Vec<Capability>), CapabilityError> {
    let mut all = false;
    let mut caps = Vec::with_capacity(names.len());
    for name in names {
        if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
            all = true;
        } else {
            caps.push(Capability::parse(name).ok_or_else(|| CapabilityError::Unknown { list, name: name.clone() })?);
        }
    }
    Ok((all, caps))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(add: &[&str], drop: &[&str]) -> Config {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Config { cap_add: owned(add), cap_drop: owned(drop), ..Config::default() }
    }

    const HOST: CapSet = CapSet(0x1ff_ffff_ffff);

    #[test]
    fn the_defaults_are_dockers() {
        assert_eq!(of(&Config::default(), HOST).unwrap().0, 0xa804_25fb);
    }

    #[test]
    fn add_drop_and_all() {
        assert_eq!(of(&with(&["net_admin"], &[]), HOST).unwrap().0, 0xa804_35fb);
        assert_eq!(of(&with(&["chown"], &["ALL"]), HOST).unwrap().0, 1);
        assert_eq!(of(&with(&["ALL"], &["CAP_SYS_ADMIN"]), HOST).unwrap(), HOST.without(Capability::SysAdmin));
        assert_eq!(of(&with(&[], &["Cap_Chown"]), HOST).unwrap().0, 0xa804_25fa);
        assert_eq!(of(&with(&["KILL"], &["KILL"]), HOST).unwrap(), CapSet::docker());
        assert_eq!(of(&Config { privileged: true, ..Config::default() }, HOST).unwrap(), HOST);
    }

    #[test]
    fn names_that_are_wrong_or_impossible() {
        let error = of(&with(&["FOO"], &[]), HOST).unwrap_err();
        assert_eq!(error.to_string(), "invalid cap_add: unknown capability: \"FOO\"");
        let host = HOST.without(Capability::SysResource);
        let error = of(&with(&["SYS_RESOURCE"], &[]), host).unwrap_err();
        assert_eq!(error.to_string(), "cap_add: CAP_SYS_RESOURCE is not in the host's own bounding set");
        assert_eq!(of(&with(&["ALL"], &[]), host).unwrap(), host);
    }
}
