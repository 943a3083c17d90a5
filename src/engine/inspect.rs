//! What is shown of objects, in Docker's shapes and words, because scripts
//! read them. Types, names and what is null or empty are Docker's, too.

mod container;
mod host;
mod mounts;
mod objects;

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use umiak_runtime::config::{Mount, MountKind};

use super::container::{Container, NetworkMode, PublishedPort, Status};
use super::health::HealthStatus;
use crate::project::labels;
use crate::template::quote;
use crate::ui::human;

pub use self::container::{container, state};
pub use self::objects::{image, network, volume};

/// A moment as Docker writes one; the zero time where there is none.
fn time(moment: Option<jiff::Timestamp>) -> String {
    moment.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |moment| moment.to_string())
}

/// `Up 3 minutes`, `Exited (0) 2 hours ago`, `Created`.
pub fn status(container: &Container) -> String {
    let state = &container.state;
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => {
            let since = state.started_at.map(human::since).unwrap_or_default();
            match container.health.as_ref().map(|health| health.status) {
                None => format!("Up {since}"),
                Some(HealthStatus::Starting) => format!("Up {since} (health: starting)"),
                Some(known) => format!("Up {since} ({})", known.as_str()),
            }
        }
        Status::Restarting => {
            let (code, since) = (state.exit_code.unwrap_or(0), state.finished_at.map(human::ago).unwrap_or_default());
            format!("Restarting ({code}) {since}").trim_end().to_owned()
        }
        Status::Paused => format!("Up {} (Paused)", state.started_at.map(human::since).unwrap_or_default()),
        Status::Exited => {
            let code = state.exit_code.unwrap_or(0);
            let since = state.finished_at.map(human::ago).unwrap_or_default();
            format!("Exited ({code}) {since}").trim_end().to_owned()
        }
    }
}

/// The command line in quotes, shortened as Docker does. An argument with a space stands in quotes of its own; the
/// program does not.
pub fn command(container: &Container, full: bool) -> String {
    let mut words = container.config.runtime.args.iter();
    let program = words.next().cloned().unwrap_or_default();
    let argument = |word: &String| if word.contains(' ') { format!(" '{word}'") } else { format!(" {word}") };
    let text = program + &words.map(argument).collect::<String>();
    match full || text.chars().count() <= 20 {
        true => quote(&text),
        false => quote(&format!("{}…", text.chars().take(19).collect::<String>())),
    }
}

fn address(ip: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

/// Address of the host, protocol, first and last port.
type Range = (Option<IpAddr>, String, u16, u16);

/// `443/tcp, 0.0.0.0:8080->80/tcp`: first ports that are not published or have the same number on the host, ranges of
/// them as one, then the others.
pub fn ports(container: &Container) -> String {
    if container.state.status == Status::Restarting {
        return String::new();
    }
    let published = &container.state.ports;
    // Port, address, port of the host, protocol.
    let mut all: Vec<(u16, Option<IpAddr>, u16, String)> = published
        .iter()
        .map(|port| (port.container_port, Some(port.host_ip), port.host_port, port.protocol.clone()))
        .collect();
    if container.state.status.is_up() {
        let is_published = |exposed: &String| published.iter().any(|port| *exposed == target(port));
        let exposed = container.config.exposed.iter().filter(|exposed| !is_published(exposed));
        let split =
            |text: &String| text.split_once('/').and_then(|(port, kind)| Some((port.parse().ok()?, kind.to_owned())));
        all.extend(exposed.filter_map(split).map(|(port, kind)| (port, None, 0, kind)));
    }
    all.sort();
    let (mut ranges, mut mapped): (Vec<Range>, Vec<String>) = (Vec::new(), Vec::new());
    for (port, ip, host, kind) in all {
        match ip {
            Some(ip) if host != port => mapped.push(format!("{}->{port}/{kind}", address(ip, host))),
            _ => match ranges.iter_mut().rev().find(|range| range.0 == ip && range.1 == kind) {
                Some(range) if range.3.checked_add(1) == Some(port) => range.3 = port,
                _ => ranges.push((ip, kind, port, port)),
            },
        }
    }
    let range = |(ip, kind, first, last): Range| match (ip, first == last) {
        (None, true) => format!("{first}/{kind}"),
        (None, false) => format!("{first}-{last}/{kind}"),
        (Some(ip), true) => format!("{}->{first}/{kind}", address(ip, first)),
        (Some(ip), false) => format!("{}-{last}->{first}-{last}/{kind}", address(ip, first)),
    };
    ranges.into_iter().map(range).chain(mapped).collect::<Vec<_>>().join(", ")
}

fn target(port: &PublishedPort) -> String {
    format!("{}/{}", port.container_port, port.protocol)
}

/// One line of `ps --format json`.
pub fn summary(container: &Container) -> Value {
    let config = &container.config;
    let publishers: Vec<Value> = container
        .state
        .ports
        .iter()
        .map(|port| {
            json!({
                "URL": port.host_ip.to_string(), "TargetPort": port.container_port,
                "PublishedPort": port.host_port, "Protocol": port.protocol,
            })
        })
        .collect();
    let all_labels: Vec<String> = config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let networks: Vec<&str> = config.network.attachments().iter().map(|a| a.network.as_str()).collect();
    let mounted: Vec<String> = config.runtime.mounts.iter().filter_map(mount_name).collect();
    json!({
        "ID": container.short_id(),
        "Name": config.name,
        "Names": config.name,
        "Image": config.image,
        "Command": command(container, false),
        "Project": container.label(labels::PROJECT).unwrap_or_default(),
        "Service": container.label(labels::SERVICE).unwrap_or_default(),
        "Created": config.created.as_second(),
        "CreatedAt": config.created.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string(),
        "RunningFor": human::ago(config.created),
        "State": container.state.status.as_str(),
        "Status": status(container),
        "Health": container.health.as_ref().filter(|_| container.state.status.is_up()).map_or("", |health| health.status.as_str()),
        "ExitCode": exit_code(container),
        "Publishers": publishers,
        "Ports": ports(container),
        "Labels": all_labels.join(","),
        "Mounts": mounted.join(","),
        "Networks": networks.join(","),
        "LocalVolumes": config.runtime.mounts.iter().filter(|m| matches!(m.kind, MountKind::Volume(_))).count().to_string(),
        "Size": "0B",
    })
}

/// What a mount shows of itself in a list.
pub fn mount_name(mount: &Mount) -> Option<String> {
    match &mount.kind {
        MountKind::Bind(bind) => Some(bind.source.display().to_string()),
        MountKind::Volume(volume) => Some(volume.name.clone()),
        MountKind::File(file) => Some(file.source.display().to_string()),
        MountKind::Image(image) => Some(image.image.clone()),
        MountKind::Tmpfs(_) => None,
    }
}

/// That of the last run; none while another runs.
fn exit_code(container: &Container) -> i32 {
    let runs = matches!(container.state.status, Status::Running | Status::Paused);
    container.state.exit_code.filter(|_| !runs).unwrap_or(0)
}

/// `bridge`, `none`, `host`, `container:ID`, or the name of the first network.
pub fn network_mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container(id) => format!("container:{id}"),
        NetworkMode::Networks(all) => all.first().map(|first| first.network.clone()).unwrap_or_default(),
    }
}

/// An object with these members, in this order.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Puts a member behind another, or at the end.
fn put_behind(map: &mut Map<String, Value>, key: &str, before: &str, value: Value) {
    let place = map.keys().position(|other| other == before).map_or(map.len(), |place| place + 1);
    map.shift_insert(place, key.to_owned(), value);
}

/// A list, or null where it is empty: what Go makes of a slice that was never filled.
fn or_null(list: &[String]) -> Value {
    if list.is_empty() { Value::Null } else { json!(list) }
}

/// The word for a container's health: `none` where nothing checks it.
pub fn health(container: &Container) -> &'static str {
    container.health.as_ref().map_or("none", |health| health.status.as_str())
}
