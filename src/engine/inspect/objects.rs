//! `docker network|volume|image inspect`.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use umiak_images::config::RunConfig;
use umiak_images::reference::Reference;
use umiak_images::store::Image;
use umiak_netns::Network;

use super::container::{endpoint_id, mac};
use super::{object, or_null, time};
use crate::engine::container::Container;
use crate::engine::{Engine, volume};

/// `docker network inspect`.
pub fn network(network: &Network, members: &[Container]) -> Value {
    let subnet = |subnet: &umiak_netns::ipam::Subnet| {
        let mut value = json!({ "Subnet": subnet.cidr.to_string() });
        if let Some(map) = value.as_object_mut() {
            map.extend(subnet.ip_range.map(|range| ("IPRange".to_owned(), json!(range.to_string()))));
            map.insert("Gateway".into(), json!(subnet.gateway.to_string()));
            if !subnet.aux.is_empty() {
                map.insert("AuxiliaryAddresses".into(), json!(subnet.aux));
            }
        }
        value
    };
    let config: Vec<Value> = network.subnets.iter().map(subnet).collect();
    let mut containers = Map::new();
    for member in members.iter().filter(|member| member.state.status.is_up()) {
        for a in member.config.network.attachments().iter().filter(|a| a.network_id == network.id) {
            let cidr = |address: Option<(IpAddr, u8)>| {
                address.map(|(ip, prefix)| format!("{ip}/{prefix}")).unwrap_or_default()
            };
            containers.insert(
                member.config.id.clone(),
                json!({
                    "Name": member.config.name,
                    "EndpointID": endpoint_id(member, a),
                    "MacAddress": mac(a).unwrap_or_default(),
                    "IPv4Address": cidr(a.ipv4.map(|(ip, prefix)| (IpAddr::V4(ip), prefix))),
                    "IPv6Address": cidr(a.ipv6.map(|(ip, prefix)| (IpAddr::V6(ip), prefix))),
                }),
            );
        }
    }
    let driver = if network.subnets.is_empty() { "null" } else { "default" };
    // `network create` asks for no options; what Compose and the engine itself make, for none at all.
    let asked = network.name != "bridge" && !network.labels.contains_key("com.docker.compose.network");
    let options = if asked { json!({}) } else { Value::Null };
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": network.created,
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": network.enable_ipv4(),
        "EnableIPv6": network.enable_ipv6,
        "IPAM": { "Driver": driver, "Options": options, "Config": config },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Options": network.options,
        "Labels": network.labels,
    })
}

/// `docker volume inspect`.
pub fn volume(engine: &Engine, found: &volume::Volume) -> Value {
    let map = |map: &std::collections::BTreeMap<String, String>| match map.is_empty() {
        true => Value::Null,
        false => json!(map),
    };
    // To the second, as Docker has it.
    let created = found.created.parse::<jiff::Timestamp>();
    let created = created.map_or_else(|_| found.created.clone(), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    json!({
        "CreatedAt": created,
        "Driver": "local",
        "Labels": map(&found.labels),
        "Mountpoint": volume::data_dir(&engine.roots, &found.name),
        "Name": found.name,
        "Options": map(&found.driver_opts),
        "Scope": "local",
    })
}

/// `docker image inspect`; `tagged` is when it was last given a name.
pub fn image(image: &Image, tagged: Option<std::time::SystemTime>) -> Value {
    let config = &image.config;
    // An image that was built says in its last step what built it.
    let comment = config.comment.clone().filter(|comment| !comment.is_empty());
    let comment = comment.or_else(|| config.history.last().and_then(|step| step.comment.clone()));
    let familiar = |name: &String| name.parse::<Reference>().map_or_else(|_| name.clone(), |r| r.familiar());
    let mut value = object([
        ("Id", json!(image.id.to_string())),
        ("RepoTags", image.names.iter().map(familiar).collect()),
        ("RepoDigests", image.repo_digests.iter().map(familiar).collect()),
        ("Parent", json!("")),
        ("Comment", json!(comment.unwrap_or_default())),
        ("Created", json!(image.created.clone().unwrap_or_else(|| time(None)))),
        ("DockerVersion", json!("")),
        ("Author", json!(config.author.clone().unwrap_or_default())),
        ("Architecture", json!(config.architecture)),
        ("Os", json!(config.os)),
        ("Size", json!(image.size)),
        (
            "RootFS",
            json!({ "Type": "layers", "Layers": image.layers.iter().map(ToString::to_string).collect::<Vec<_>>() }),
        ),
        ("Metadata", json!({ "LastTagTime": time(tagged.and_then(|tagged| jiff::Timestamp::try_from(tagged).ok())) })),
        ("Config", run_config(&config.config)),
    ]);
    if let (Some(map), Some(variant)) = (value.as_object_mut(), &config.variant) {
        map.insert("Variant".into(), json!(variant));
    }
    value
}

/// The config as Docker shows it: some members are null where they are empty, others are left out.
fn run_config(config: &RunConfig) -> Value {
    let mut value = json!(config);
    let always = [
        ("Cmd", Value::Null),
        ("Entrypoint", Value::Null),
        ("Env", Value::Null),
        ("Labels", Value::Null),
        ("OnBuild", Value::Null),
        ("User", json!("")),
        ("Volumes", Value::Null),
        ("WorkingDir", json!("")),
    ];
    if let Some(map) = value.as_object_mut() {
        for (key, empty) in always {
            map.entry(key).or_insert(empty);
        }
        if config.env.is_empty() {
            map.insert("Env".into(), or_null(&config.env));
        }
        // What has no command has an empty one here at times.
        if config.cmd.as_ref().is_some_and(Vec::is_empty) {
            map.insert("Cmd".into(), Value::Null);
        }
        map.sort_keys();
    }
    value
}
