//! The flags of `container run` about the host: its cgroups, its devices, other containers' volumes, and what Docker
//! would pick a runtime by. What they ask of GPUs is looked up in the host's CDI specifications.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use umiak_runtime::cgroup::Cgroup;
use umiak_runtime::cgroup::limits::take_missing;
use umiak_runtime::config::{DeviceWeight, Limits};

use crate::engine::cdi;
use crate::engine::request::{Request, VolumesFrom};

/// Names under which Docker knows the runtime that containers have here.
const RUNTIMES: [&str; 3] = ["runc", "umiak", "io.containerd.runc.v2"];

/// What a container has of its host.
#[derive(Debug, Args)]
pub struct HostFlags {
    /// Block I/O weight of a device, 10 to 1000: DEVICE:WEIGHT
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    blkio_weight_device: Vec<String>,
    /// Parent cgroup for the container
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
    /// Length of a CPU period of real-time tasks
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// CPU time of real-time tasks per period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// Add a rule to the devices that the container may use: TYPE MAJOR:MINOR rwm
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
    /// GPUs to add, by their CDI specifications: all, a number, or device=ID[,ID…]
    #[arg(long, value_name = "GPUS")]
    gpus: Option<String>,
    /// Isolation of the container: default, which is what Linux has
    #[arg(long, value_name = "NAME")]
    isolation: Option<String>,
    /// Tune the swapping of the container's memory, 0 to 100; -1 for the host's
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    memory_swappiness: Option<i64>,
    /// Disable the OOM killer for the container
    #[arg(long)]
    oom_kill_disable: bool,
    /// Runtime to use: runc, which is the one that there is
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
    /// Storage options: refused, as by Docker without quotas
    #[arg(long, value_name = "K=V", hide = true)]
    storage_opt: Vec<String>,
    /// User namespace to use: host
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Driver of the volumes that are made: local
    #[arg(long, value_name = "DRIVER")]
    volume_driver: Option<String>,
    /// Mount the volumes of another container, too: CONTAINER[:ro|rw]
    #[arg(long, value_name = "CONTAINER")]
    volumes_from: Vec<String>,
}

impl HostFlags {
    /// Adds them to the request. Limits that this host does not have are named and left out, as Docker does.
    pub fn apply(&self, request: &mut Request) -> Result<()> {
        if let Some(name) = self.runtime.as_deref().filter(|name| !name.is_empty() && !RUNTIMES.contains(name)) {
            bail!("unknown or invalid runtime name: {name}; the one there is has the names {}", RUNTIMES.join(", "));
        }
        if let Some(mode) = self.userns.as_deref().filter(|mode| !matches!(*mode, "" | "host")) {
            bail!("--userns: invalid USER mode \"{mode}\"; containers have the host's user namespace (host)");
        }
        if let Some(name) = self.isolation.as_deref().filter(|name| !matches!(*name, "" | "default")) {
            bail!("invalid isolation ({name}): linux only supports 'default'");
        }
        match self.storage_opt.first().map(|option| option.split_once('=')) {
            None => {}
            Some(Some(("size", _))) => {
                bail!("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
            }
            Some(Some((name, _))) => bail!("Unknown option {name}"),
            Some(None) => bail!("invalid storage option"),
        }
        if let Some(name) = self.volume_driver.as_deref().filter(|name| !matches!(*name, "" | "local")) {
            bail!("error looking up volume plugin {name}: plugin \"{name}\" not found");
        }
        request.cgroup_parent.clone_from(&self.cgroup_parent);
        request.volumes_from = self.volumes_from.iter().map(|text| volumes_from(text)).collect::<Result<_>>()?;
        for rule in &self.device_cgroup_rule {
            if !is_rule(rule) {
                bail!("invalid device cgroup format '{rule}'; expected is something like 'c 10:200 rwm'");
            }
            request.runtime.device_cgroup_rules.push(rule.clone());
        }
        self.limits(request)?;
        match &self.gpus {
            Some(text) => cdi::inject(&Gpus::parse(text)?.names()?, request),
            None => Ok(()),
        }
    }

    fn limits(&self, request: &mut Request) -> Result<()> {
        let limits = &mut request.runtime.limits;
        for text in &self.blkio_weight_device {
            limits.blkio_weight_device.push(weight(text)?);
        }
        limits.swappiness = match self.memory_swappiness {
            None | Some(-1) => None,
            Some(value @ 0..=100) => u64::try_from(value).ok(),
            Some(value) => bail!("invalid value: {value}, valid memory swappiness range is 0-100"),
        };
        limits.oom_kill_disable = self.oom_kill_disable;
        limits.cpu_rt_period = self.cpu_rt_period.filter(|period| *period != 0);
        limits.cpu_rt_runtime = self.cpu_rt_runtime.filter(|runtime| *runtime != 0);
        warn_of_missing(limits);
        Ok(())
    }
}

/// Takes away what this host's cgroups do not have, and says so.
pub fn warn_of_missing(limits: &mut Limits) {
    // Without any cgroups the container fails later, and says why.
    if let Ok(cgroup) = Cgroup::new("/umiak") {
        for (key, why) in take_missing(limits, &cgroup) {
            let flag = if key == "mem_swappiness" { "memory_swappiness" } else { key }.replace('_', "-");
            crate::note!("WARNING: --{flag} is ignored: {why}");
        }
    }
}

fn volumes_from(text: &str) -> Result<VolumesFrom> {
    let (container, mode) = text.split_once(':').unwrap_or((text, ""));
    if container.is_empty() {
        bail!("invalid volumes-from specification: \"{text}\"; CONTAINER[:ro|rw] is expected");
    }
    // `z` and `Z` are about SELinux labels, which volumes of other containers have already.
    let mut read_only = None;
    for option in mode.split(',').filter(|option| !matches!(*option, "" | "z" | "Z")) {
        read_only = match option {
            "rw" => Some(false),
            "ro" => Some(true),
            _ => bail!("invalid mode for volumes-from: {mode}"),
        };
    }
    Ok(VolumesFrom { container: container.to_owned(), read_only })
}

/// `a|b|c MAJOR:MINOR rwm`, with `*` for any number.
fn is_rule(text: &str) -> bool {
    let number = |text: &str| text == "*" || text.parse::<u32>().is_ok();
    let [kind, numbers, access] = text.split(' ').collect::<Vec<_>>()[..] else { return false };
    matches!(kind, "a" | "b" | "c")
        && numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
        && (1..=3).contains(&access.len())
        && access.bytes().all(|byte| b"rwm".contains(&byte))
}

fn weight(text: &str) -> Result<DeviceWeight> {
    let (path, weight) = text.rsplit_once(':').with_context(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        bail!("bad format for device path: {text}");
    }
    let weight = weight.parse().ok().filter(|weight| *weight == 0 || (10..=1000).contains(weight));
    let weight = weight.with_context(|| format!("invalid weight for device: {text}; 10 to 1000 is expected"))?;
    Ok(DeviceWeight { path: path.into(), weight })
}

/// What `--gpus` asks for.
#[derive(Debug, Default, PartialEq)]
struct Gpus {
    driver: Option<String>,
    count: Option<i64>,
    ids: Vec<String>,
    capabilities: Vec<String>,
}

impl Gpus {
    /// `all`, `2`, or fields `driver=…,count=…,device=…,capabilities=…`, of which one with commas stands in quotes.
    /// As in Docker one GPU, where nothing says how many.
    fn parse(text: &str) -> Result<Self> {
        let list = |value: &str| -> Vec<String> { value.split(',').map(str::to_owned).collect() };
        let mut gpus = Self::default();
        for field in fields(text) {
            match field.split_once('=').unwrap_or(("count", &field)) {
                ("count", "all") => gpus.count = Some(-1),
                ("count", value) => {
                    let wrong = || format!("--gpus: invalid count ({value}): it must be either \"all\" or an integer");
                    gpus.count = Some(value.parse().with_context(wrong)?);
                }
                ("driver", value) => gpus.driver = Some(value.to_owned()),
                ("device", value) => gpus.ids = list(value),
                ("capabilities", value) => gpus.capabilities = list(value),
                (key, _) => bail!("--gpus: unexpected key '{key}' in '{text}'"),
            }
        }
        if gpus.count.is_some() && !gpus.ids.is_empty() {
            bail!("--gpus: cannot set both a count and devices in '{text}'");
        }
        if gpus.count.is_none() && gpus.ids.is_empty() {
            gpus.count = Some(1);
        }
        gpus.capabilities.push("gpu".to_owned());
        Ok(gpus)
    }

    fn names(&self) -> Result<Vec<String>> {
        cdi::names_of_gpus(self.driver.as_deref(), &self.capabilities, self.count, &self.ids)
    }
}

/// The fields between commas, but those in quotes.
fn fields(text: &str) -> Vec<String> {
    let (mut all, mut field, mut quoted) = (Vec::new(), String::new(), false);
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut field)),
            _ => field.push(letter),
        }
    }
    all.push(field);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_asked_for_by_number_and_by_name() {
        let asked = |text: &str| {
            let gpus = Gpus::parse(text).unwrap();
            (gpus.count, gpus.ids.join(" "), gpus.capabilities.join(" "))
        };
        assert_eq!(asked("all"), (Some(-1), String::new(), "gpu".into()));
        assert_eq!(asked("2,capabilities=utility"), (Some(2), String::new(), "utility gpu".into()));
        assert_eq!(asked("\"device=0,GPU-1\",driver=nvidia"), (None, "0 GPU-1".into(), "gpu".into()));
        assert_eq!(asked("driver=amd"), (Some(1), String::new(), "gpu".into()));
        for wrong in ["some", "1,device=0", "colour=red"] {
            assert!(Gpus::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rules_and_weights_and_volumes_are_checked() {
        for rule in ["c 10:200 rwm", "a *:* r", "b 8:* rw"] {
            assert!(is_rule(rule), "{rule}");
        }
        for rule in ["", "d 1:1 r", "c 1 r", "c 1:x r", "c 1:1 rx", "c 1:1 rwmr", "c 1:1  r"] {
            assert!(!is_rule(rule), "{rule}");
        }
        assert_eq!(weight("/dev/sda:10").unwrap(), DeviceWeight { path: "/dev/sda".into(), weight: 10 });
        for wrong in ["/dev/sda", "sda:100", "/dev/sda:5", "/dev/sda:2000"] {
            assert!(weight(wrong).is_err(), "{wrong}");
        }
        assert_eq!(volumes_from("a:ro,z").unwrap().read_only, Some(true));
        assert_eq!(volumes_from("a").unwrap().read_only, None);
        assert!(volumes_from("a:x").is_err() && volumes_from(":ro").is_err());
    }
}
