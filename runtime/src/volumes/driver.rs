//! The `local` driver's options, `type`, `o` and `device`, as mount(8) takes
//! them. The mount is made over the volume's `_data` in the mount namespace of
//! each container that uses it: the host's mount table never shows it, and it
//! goes with the container. So a `tmpfs` volume is each container's own.

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive, mount_remount};
use umiak_base::state;

use super::{DESCRIPTION, Description, VolumeError};
use crate::config::Volume;

/// What to mount.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    device: String,
    kind: String,
    bind: bool,
    recursive: bool,
    flags: MountFlags,
    data: Vec<String>,
}

impl Call {
    fn new(kind: &str, device: &str) -> Self {
        Self {
            device: device.to_owned(),
            kind: kind.to_owned(),
            bind: false,
            recursive: false,
            flags: MountFlags::empty(),
            data: Vec::new(),
        }
    }
}

/// Refuses what [`mount_over`] would not understand, before there is a volume.
pub fn check(description: &Description) -> Result<(), VolumeError> {
    let name = || description.name.clone();
    if !matches!(description.driver.as_str(), "" | "local") {
        return Err(VolumeError::Driver { name: name(), driver: description.driver.clone() });
    }
    let known = ["type", "o", "device"];
    if let Some(option) = description.driver_opts.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(VolumeError::Option { name: name(), option: option.clone() });
    }
    call(description).map(drop)
}

/// `None` where nothing is to be mounted.
fn call(description: &Description) -> Result<Option<Call>, VolumeError> {
    let option = |key: &str| description.driver_opts.get(key).map(String::as_str).unwrap_or_default();
    let (kind, device) = (option("type"), option("device"));
    if kind.is_empty() && device.is_empty() && option("o").is_empty() {
        return Ok(None);
    }
    if device.is_empty() {
        return Err(VolumeError::NoDevice { name: description.name.clone() });
    }
    let mut call = Call::new(kind, device);
    for word in option("o").split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "bind" => call.bind = true,
            "rbind" => (call.bind, call.recursive) = (true, true),
            word => match flag(word) {
                Some((flag, true)) => call.flags |= flag,
                Some((flag, false)) => call.flags &= !flag,
                None => call.data.push(word.to_owned()),
            },
        }
    }
    Ok(Some(call))
}

/// mount(8)'s options that are flags of mount(2), and whether they set or clear theirs.
fn flag(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "defaults" => (MountFlags::empty(), true),
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "strictatime" => (MountFlags::STRICTATIME, true),
        _ => return None,
    })
}

/// Mounts what the volume's options name over its content.
pub fn mount_over(volume: &Volume) -> Result<(), VolumeError> {
    let Some(path) = volume.source.parent().map(|dir| dir.join(DESCRIPTION)) else { return Ok(()) };
    let description: Option<Description> =
        state::read(&path).map_err(|source| VolumeError::State { name: volume.name.clone(), source })?;
    let Some(mut call) = description.as_ref().map(call).transpose()?.flatten() else { return Ok(()) };
    resolve_server(&mut call, &volume.name)?;
    perform(&call, &volume.source).map_err(|source| VolumeError::Mount {
        name: volume.name.clone(),
        device: call.device.clone(),
        source,
    })
}

fn perform(call: &Call, target: &Path) -> io::Result<()> {
    if call.bind {
        if call.recursive {
            mount_bind_recursive(&call.device, target)?;
        } else {
            mount_bind(&call.device, target)?;
        }
        // A bind takes flags only the second time.
        if !call.flags.is_empty() {
            mount_remount(target, call.flags | MountFlags::BIND, "")?;
        }
        return Ok(());
    }
    let data = CString::new(call.data.join(","))?;
    Ok(mount(&call.device, target, &call.kind, call.flags, data.as_c_str())?)
}

/// The kernel's NFS and CIFS clients take addresses; mount(8)'s helpers look names up, and so must who does without them.
fn resolve_server(call: &mut Call, name: &str) -> Result<(), VolumeError> {
    if !call.kind.starts_with("nfs") && call.kind != "cifs" {
        return Ok(());
    }
    let from_device = if call.kind == "cifs" {
        call.device.trim_start_matches('/').split('/').next()
    } else {
        call.device.rsplit_once(":/").map(|(host, _)| host)
    };
    let given = call.data.iter().position(|word| word.starts_with("addr="));
    let host = match given.and_then(|index| call.data.get(index)) {
        Some(word) => word.trim_start_matches("addr=").to_owned(),
        None => from_device.unwrap_or_default().trim_matches(['[', ']']).to_owned(),
    };
    if host.is_empty() {
        return Ok(());
    }
    let address = address_of(&host).map_err(|source| VolumeError::Server {
        name: name.to_owned(),
        host: host.clone(),
        source,
    })?;
    let word = if call.kind == "cifs" { format!("ip={address}") } else { format!("addr={address}") };
    match given.and_then(|index| call.data.get_mut(index)) {
        Some(place) => *place = word,
        None => call.data.push(word),
    }
    Ok(())
}

fn address_of(host: &str) -> io::Result<IpAddr> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let mut found = (host, 0).to_socket_addrs()?;
    found.next().map(|address| address.ip()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(options: &[(&str, &str)]) -> Description {
        let driver_opts = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Description { name: "v".into(), driver_opts, ..Description::default() }
    }

    #[test]
    fn options_become_flags_and_data() {
        assert_eq!(call(&description(&[])).unwrap(), None);
        let bind = call(&description(&[("type", "none"), ("o", "bind,ro"), ("device", "/srv")])).unwrap().unwrap();
        assert!(bind.bind && bind.flags == MountFlags::RDONLY && bind.data.is_empty());
        let nfs = description(&[("type", "nfs"), ("o", "addr=localhost,rw,nfsvers=4"), ("device", ":/export")]);
        let mut nfs = call(&nfs).unwrap().unwrap();
        resolve_server(&mut nfs, "v").unwrap();
        let address = nfs.data[0].strip_prefix("addr=").unwrap().parse::<IpAddr>().unwrap();
        assert!(address.is_loopback() && nfs.data[1] == "nfsvers=4");
        let mut by_device = Call::new("nfs", "10.0.0.1:/export");
        resolve_server(&mut by_device, "v").unwrap();
        assert_eq!(by_device.data, ["addr=10.0.0.1"]);
        let mut cifs = Call::new("cifs", "//10.0.0.2/share");
        resolve_server(&mut cifs, "v").unwrap();
        assert_eq!(cifs.data, ["ip=10.0.0.2"]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let error = |description: &Description| check(description).unwrap_err().to_string();
        assert!(error(&description(&[("size", "1g")])).contains("invalid option \"size\""));
        assert_eq!(error(&description(&[("type", "tmpfs")])), "volume v: missing required option: device");
        let other = Description { driver: "rexray".into(), ..description(&[]) };
        assert_eq!(error(&other), "volume v: driver \"rexray\" is not supported: use local");
    }
}
