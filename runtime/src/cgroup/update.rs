//! From one set of limits to another in a cgroup that is in use: what changes is
//! written, and what is not limited any more goes back to the kernel's default.

use super::limits::{self, Setting};
use super::{Cgroup, CgroupError, Version};
use crate::config::Limits;

impl Cgroup {
    /// The settings that lead from `before` to `wanted`, in an order that the kernel takes.
    ///
    /// # Errors
    /// Limits out of range, or that contradict each other.
    pub fn changes(&self, before: &Limits, wanted: &Limits) -> Result<Vec<Setting>, CgroupError> {
        let new = limits::plan(wanted, self.version)?;
        // What was in force was valid; a device that has gone since then needs no change.
        let old = limits::plan(before, self.version).unwrap_or_default();
        let mut settings: Vec<Setting> = old
            .iter()
            .filter(|old| !new.iter().any(|new| new.about() == old.about()))
            .map(|old| self.reset(old))
            .collect();
        settings.extend(new.into_iter().filter(|new| !old.contains(new)));
        // v1 keeps memory below memory and swap at every moment.
        let grows = match (before.memory, wanted.memory) {
            (Some(before), Some(wanted)) => wanted > before,
            (_, wanted) => wanted.is_none(),
        };
        settings.sort_by_key(|setting| match setting.file.as_str() {
            "memory.memsw.limit_in_bytes" => {
                if grows {
                    0
                } else {
                    2
                }
            }
            _ => 1,
        });
        Ok(settings)
    }

    /// Writes settings into the cgroup of a running container and reads them back; undone as far as possible when one
    /// is refused.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn change(&self, settings: &[Setting]) -> Result<(), CgroupError> {
        match self.version {
            Version::V2 => self.enable_controllers(settings)?,
            Version::V1 => self.check_controllers_v1(settings)?,
        }
        let mut done: Vec<Setting> = Vec::new();
        for setting in settings {
            let before = self.current(setting);
            if let Err(error) = self.write(setting) {
                for undo in done.iter().rev() {
                    let _ = self.write(undo);
                }
                return Err(error);
            }
            done.extend(before);
        }
        let kept: Vec<Setting> = settings.iter().filter(|setting| !setting.is_reset()).cloned().collect();
        self.read_back(&kept).map(drop)
    }

    /// A setting with the value that is in force now.
    fn current(&self, setting: &Setting) -> Option<Setting> {
        let path = self.directory(setting.controller).join(&setting.file);
        let found = setting.find(&std::fs::read_to_string(path).ok()?);
        (!found.is_empty()).then(|| setting.clone().with_value(found))
    }

    fn reset(&self, old: &Setting) -> Setting {
        let device = old.value.split(' ').next().unwrap_or_default().to_owned();
        let key = old.value.split([' ', '=']).nth(1).unwrap_or_default().to_owned();
        let value = match old.file.as_str() {
            "memory.max" | "memory.swap.max" | "memory.high" | "pids.max" => "max".to_owned(),
            "memory.low" => "0".to_owned(),
            "cpu.max" => "max 100000".to_owned(),
            "cpu.weight" => "100".to_owned(),
            "io.weight" if device == "default" => "default 100".to_owned(),
            "io.weight" => format!("{device} default"),
            "io.max" => format!("{device} {key}=max"),
            "cpu.shares" => "1024".to_owned(),
            "cpu.cfs_period_us" => "100000".to_owned(),
            "blkio.weight" => "500".to_owned(),
            "blkio.bfq.weight" => "100".to_owned(),
            "cpuset.cpus" | "cpuset.mems" => self.inherited(old),
            file if file.starts_with("blkio.throttle.") => format!("{device} 0"),
            // The memory limits and the CPU quota of v1.
            _ => "-1".to_owned(),
        };
        old.clone().with_value(value).into_reset()
    }

    /// v2 takes the parent's list where there is none; v1 must be told.
    fn inherited(&self, setting: &Setting) -> String {
        let parent = self.directory(setting.controller).parent().map(|parent| parent.join(&setting.file));
        match (self.version, parent) {
            (Version::V1, Some(path)) => std::fs::read_to_string(path).unwrap_or_default().trim().to_owned(),
            _ => "\n".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn lines(before: &Limits, wanted: &Limits, version: Version) -> Vec<String> {
        let cgroup = Cgroup::at(Path::new("/nowhere"), version, "/umiak/x").unwrap();
        let settings = cgroup.changes(before, wanted).unwrap();
        settings.iter().map(|setting| format!("{} {}", setting.file, setting.value)).collect()
    }

    #[test]
    fn only_what_changes_is_written_and_what_is_gone_is_reset() {
        let none = Limits { pids: -1, ..Limits::default() };
        let some = Limits {
            memory: Some(64 << 20),
            memory_swap: Some(128 << 20),
            nano_cpus: Some(500_000_000),
            ..none.clone()
        };
        assert!(lines(&some, &some, Version::V2).is_empty());
        let up = Limits { memory: Some(128 << 20), memory_swap: Some(256 << 20), ..some.clone() };
        assert_eq!(lines(&some, &up, Version::V1)[0], "memory.memsw.limit_in_bytes 268435456", "first where it grows");
        assert_eq!(lines(&up, &some, Version::V1)[1], "memory.memsw.limit_in_bytes 134217728", "last where it shrinks");
        let undone = lines(&some, &none, Version::V2);
        for line in ["memory.max max", "memory.swap.max max", "cpu.max max 100000"] {
            assert!(undone.iter().any(|undone| undone == line), "{line} in {undone:?}");
        }
        let undone = lines(&some, &none, Version::V1);
        for line in ["memory.limit_in_bytes -1", "cpu.cfs_quota_us -1", "cpu.cfs_period_us 100000"] {
            assert!(undone.iter().any(|undone| undone == line), "{line} in {undone:?}");
        }
    }
}
