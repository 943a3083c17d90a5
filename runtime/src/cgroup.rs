//! The cgroup of one container: a path like `/umiak/<id>` below the root of
//! the v2 hierarchy, or below the root of every v1 hierarchy (hybrid hosts are
//! v1 hosts whose controllers are not on v2).
//!
//! On v2 everything is written and read here; on v1 libcontainer writes,
//! through libcgroups, what [`limits`] plans, and this module reads it back.

pub mod freeze;
pub mod kill;
pub mod limits;
mod parent;
pub mod stats;
mod update;

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use libcgroups::common::{CgroupSetup, get_cgroup_setup_with_root};

use crate::devices;

pub use kill::Events;
use kill::gone;
pub use limits::{Applied, Setting};
pub use stats::{Pressure, Stats};

/// Where Linux systems mount cgroups.
const ROOT: &str = "/sys/fs/cgroup";

/// Which generation carries the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller (also: hybrid).
    V1,
    /// The unified hierarchy.
    V2,
}

/// Why something about a cgroup failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroups are mounted where they belong.
    #[error("{ROOT} holds no cgroup file system: limits and clean-up are impossible without one")]
    NotMounted,
    /// The path of the config is no path below a root.
    #[error("{path:?} is no cgroup path: an absolute one without '..' is expected")]
    Path {
        /// As configured.
        path: String,
    },
    /// A limit's controller is not there.
    #[error("cannot apply {limit}: the cgroup controller {controller:?} is not available ({hint})")]
    Controller {
        /// The limit.
        limit: &'static str,
        /// The controller.
        controller: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A value that makes no sense, or not together with another.
    #[error("invalid {limit} {value}: {reason}")]
    Invalid {
        /// The limit.
        limit: &'static str,
        /// As asked for.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A device that a block I/O limit names.
    #[error("look at the device {path} for {limit}")]
    Device {
        /// The limit.
        limit: &'static str,
        /// The device node.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a value.
    #[error("cannot apply {limit}: write {value:?} to {path}")]
    Write {
        /// The limit.
        limit: &'static str,
        /// The value.
        value: String,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel took the value, but made something else of it.
    #[error("{limit} is not in force: asked for {asked:?}, {path} reads {found:?}")]
    Differs {
        /// The limit.
        limit: &'static str,
        /// What was asked for.
        asked: String,
        /// What the kernel says.
        found: String,
        /// The file.
        path: PathBuf,
    },
    /// A file of the cgroup could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The cgroup could not be made.
    #[error("make the cgroup {path}")]
    Create {
        /// Its directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The cgroup could not be removed.
    #[error("remove the cgroup {path}")]
    Remove {
        /// Its directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The processes could not be stopped or let go.
    #[error("set the freezer {path}")]
    Freeze {
        /// Its file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The processes could not be killed.
    #[error("kill the processes of the cgroup {path}")]
    Kill {
        /// Its directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The device rules could not be put into force.
    #[error("apply the device rules to the cgroup {path}")]
    Devices {
        /// Its directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A container's cgroup; the value is a name, dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct Cgroup {
    root: PathBuf,
    version: Version,
    /// Without the leading `/`.
    path: PathBuf,
}

impl Cgroup {
    /// The cgroup at `path` (absolute) of this host; it need not exist yet.
    ///
    /// # Errors
    /// When no cgroups are mounted, or the path is not one.
    pub fn new(path: &str) -> Result<Self, CgroupError> {
        let version = detect(Path::new(ROOT)).ok_or(CgroupError::NotMounted)?;
        Self::at(Path::new(ROOT), version, path)
    }

    /// As [`Cgroup::new`] with another mount point.
    ///
    /// # Errors
    /// When the path is not one.
    pub fn at(root: &Path, version: Version, path: &str) -> Result<Self, CgroupError> {
        let relative = path.strip_prefix('/').filter(|rest| !rest.is_empty()).map(Path::new);
        let plain = |path: &&Path| path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let relative = relative.filter(plain).ok_or_else(|| CgroupError::Path { path: path.to_owned() })?;
        Ok(Self { root: root.to_owned(), version, path: relative.to_owned() })
    }

    /// Which generation.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The directory that holds the files of `controller`.
    #[must_use]
    pub fn directory(&self, controller: &str) -> PathBuf {
        match self.version {
            Version::V2 => self.root.join(&self.path),
            Version::V1 => self.root.join(controller).join(&self.path),
        }
    }

    /// Gives the parents of a v1 cgroup the time for real-time tasks that it will ask for: a new cgroup has none, and
    /// none of its children may have more than it (Documentation/scheduler/sched-rt-group.rst).
    ///
    /// # Errors
    /// What the kernel refuses: the root's own time is the most that there is.
    pub fn grant_real_time(&self, runtime: u64, period: u64) -> Result<(), CgroupError> {
        const FILE: &str = "cpu.rt_runtime_us";
        let asked = runtime.saturating_mul(1_000_000) / period.max(1);
        let number = |directory: &Path| {
            let text = std::fs::read_to_string(directory.join(FILE)).unwrap_or_default();
            text.trim().parse::<u64>().unwrap_or(0)
        };
        let mut level = self.root.join("cpu");
        for part in self.path.parent().into_iter().flatten() {
            level.push(part);
            let failed = |source| CgroupError::Create { path: level.clone(), source };
            std::fs::create_dir_all(&level).map_err(failed)?;
            let children = std::fs::read_dir(&level).map_err(failed)?.flatten();
            let taken: u64 = children.map(|child| number(&child.path())).sum();
            if number(&level) < taken + asked {
                std::fs::write(level.join(FILE), (taken + asked).to_string()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Whether this host's cgroups have a file of a controller.
    #[must_use]
    pub fn host_has(&self, controller: &str, file: &str) -> bool {
        self.version == Version::V1 && self.root.join(controller).join(file).exists()
    }

    /// Every directory of this cgroup that exists.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        let all = match self.version {
            Version::V2 => vec![self.directory("")],
            Version::V1 => self.hierarchies().into_iter().map(|name| self.directory(&name)).collect(),
        };
        all.into_iter().filter(|path| path.is_dir()).collect()
    }

    /// Names of the v1 hierarchies (and `unified` on a hybrid host); links for co-mounted controllers are left out.
    pub(crate) fn hierarchies(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut names: Vec<String> = directories.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Names under which a v1 container sees its controllers: those libcgroups makes cgroups for, links included.
    pub(crate) fn controllers_v1(&self) -> Vec<String> {
        const MANAGED: [&str; 12] = [
            "blkio",
            "cpu",
            "cpuacct",
            "cpuset",
            "devices",
            "freezer",
            "hugetlb",
            "memory",
            "net_cls",
            "net_prio",
            "perf_event",
            "pids",
        ];
        MANAGED.iter().filter(|name| self.root.join(name).is_dir()).map(|name| (*name).to_owned()).collect()
    }

    /// Whether any directory of the cgroup exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        !self.directories().is_empty()
    }

    /// Makes a v2 cgroup with `settings` and device rules in force, ready for its first process.
    ///
    /// # Errors
    /// A missing controller, or a value the kernel refuses or changes.
    pub fn create_v2(&self, settings: &[Setting], rules: &[devices::Rule]) -> Result<Vec<Applied>, CgroupError> {
        self.enable_controllers(settings)?;
        let directory = self.directory("");
        let failed = |source| CgroupError::Create { path: directory.clone(), source };
        std::fs::create_dir_all(&directory).map_err(failed)?;
        for setting in settings {
            self.write(setting)?;
        }
        let applied = self.read_back(settings)?;
        let devices = |source| CgroupError::Devices { path: directory.clone(), source };
        let fd = std::fs::File::open(&directory).map_err(devices)?;
        devices::program::attach(fd.as_fd(), rules).map_err(devices)?;
        Ok(applied)
    }

    /// Hands the controllers down from the root to the parent of this cgroup (`cgroup.subtree_control`).
    fn enable_controllers(&self, settings: &[Setting]) -> Result<(), CgroupError> {
        let mut level = self.root.clone();
        for part in &self.path {
            let available = read(&level.join("cgroup.controllers"))?;
            let enabled = read(&level.join("cgroup.subtree_control"))?;
            for controller in limits::CONTROLLERS {
                let has = |list: &str| list.split_ascii_whitespace().any(|name| name == controller);
                let missing = !has(&enabled)
                    && (!has(&available)
                        || std::fs::write(level.join("cgroup.subtree_control"), format!("+{controller}")).is_err());
                if missing && let Some(setting) = settings.iter().find(|s| s.controller == controller && s.required) {
                    return Err(CgroupError::Controller {
                        limit: setting.limit,
                        controller,
                        hint: "enable it in the kernel or in cgroup.subtree_control of the parent cgroups",
                    });
                }
            }
            level.push(part);
            let failed = |source| CgroupError::Create { path: level.clone(), source };
            match std::fs::create_dir(&level) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// On v1: whether every controller that `settings` need has its hierarchy.
    ///
    /// # Errors
    /// The first that has none.
    pub fn check_controllers_v1(&self, settings: &[Setting]) -> Result<(), CgroupError> {
        for setting in settings.iter().filter(|setting| setting.required) {
            if !self.root.join(setting.controller).is_dir() {
                return Err(CgroupError::Controller {
                    limit: setting.limit,
                    controller: setting.controller,
                    hint: "mount its cgroup v1 hierarchy, or boot with the unified cgroup v2 hierarchy",
                });
            }
        }
        Ok(())
    }

    /// Writes one setting.
    ///
    /// # Errors
    /// The kernel's. A missing file of a setting that nobody asked for is none.
    pub fn write(&self, setting: &Setting) -> Result<(), CgroupError> {
        let path = self.directory(setting.controller).join(&setting.file);
        match std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| io::Write::write_all(&mut file, setting.value.as_bytes()))
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !setting.required => Ok(()),
            Err(source) => Err(CgroupError::Write { limit: setting.limit, value: setting.value.clone(), path, source }),
            Ok(()) => Ok(()),
        }
    }

    /// Reads every setting back and compares.
    ///
    /// # Errors
    /// The first that the kernel did not take as asked for.
    pub fn read_back(&self, settings: &[Setting]) -> Result<Vec<Applied>, CgroupError> {
        let mut applied = Vec::with_capacity(settings.len());
        for setting in settings {
            let path = self.directory(setting.controller).join(&setting.file);
            let text = match std::fs::read_to_string(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !setting.required => continue,
                Err(source) => return Err(CgroupError::Read { path, source }),
                Ok(text) => text,
            };
            let found = setting.find(&text);
            if !setting.satisfied_by(&found) {
                return Err(CgroupError::Differs { limit: setting.limit, asked: setting.value.clone(), found, path });
            }
            applied.push(Applied {
                limit: setting.limit.to_owned(),
                file: setting.file.clone(),
                asked: setting.value.clone(),
                found,
            });
        }
        Ok(applied)
    }
}

pub(crate) fn read(path: &Path) -> Result<String, CgroupError> {
    std::fs::read_to_string(path).map_err(|source| CgroupError::Read { path: path.to_owned(), source })
}

/// Which generation is mounted at `root`.
fn detect(root: &Path) -> Option<Version> {
    match get_cgroup_setup_with_root(root).ok()? {
        CgroupSetup::Unified => Some(Version::V2),
        CgroupSetup::Hybrid | CgroupSetup::Legacy => Some(Version::V1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_checked() {
        let at = |path| Cgroup::at(Path::new("/r"), Version::V2, path);
        assert_eq!(at("/umiak/x").unwrap().directory("memory"), Path::new("/r/umiak/x"));
        for bad in ["", "/", "umiak", "/a/../b", "//a"] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missing_controller_is_named_with_its_limit() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cgroup.controllers"), "cpu pids\n").unwrap();
        std::fs::write(root.path().join("cgroup.subtree_control"), "cpu pids\n").unwrap();
        let cgroup = Cgroup::at(root.path(), Version::V2, "/x").unwrap();
        let wanted = crate::config::Limits { memory: Some(64 << 20), ..crate::config::Limits::default() };
        let settings = limits::plan(&wanted, Version::V2).unwrap();
        let error = cgroup.create_v2(&settings, &[]).unwrap_err().to_string();
        assert!(error.starts_with("cannot apply memory limit: the cgroup controller \"memory\""), "{error}");
    }

    #[test]
    fn device_rules_hold_on_a_v2_hierarchy() {
        // Hybrid hosts have a v2 hierarchy without controllers: enough for device programs.
        let root = if detect(Path::new(ROOT)) == Some(Version::V2) { ROOT } else { "/sys/fs/cgroup/unified" };
        if !Path::new(root).join("cgroup.procs").exists() {
            assert_ne!(std::env::var("UMIAK_MUST_RUN").as_deref(), Ok("1"), "no cgroup v2 hierarchy is mounted");
            eprintln!("skipped: no cgroup v2 hierarchy is mounted");
            return;
        }
        let name = format!("/umiak-test-devices-{}", std::process::id());
        let cgroup = Cgroup::at(Path::new(root), Version::V2, &name).unwrap();
        let config = crate::config::Config::default();
        cgroup.create_v2(&[], &devices::plan(&config).unwrap().rules).unwrap();
        let procs = cgroup.directory("").join("cgroup.procs");
        let script = format!("echo $$ >{} && head -c0 /dev/null && exec head -c1 /dev/kmsg", procs.display());
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        cgroup.remove().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains("/dev/kmsg") && stderr.contains("not permitted"), "{stderr}");
    }
}
