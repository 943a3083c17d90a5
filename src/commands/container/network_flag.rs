//! `--network`, as Docker's client reads it: a name, a mode, or the long form
//! with the options of one attachment. Pure.

use crate::engine::network;
use crate::engine::request::{Join, NetworkRequest};

/// One `--network`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkFlag {
    /// `none`, `host` or `container:NAME`.
    Mode(String),
    /// A network by name.
    Join(Join),
}

/// Reads one, for clap.
pub fn parse(text: &str) -> Result<NetworkFlag, String> {
    let mut join = Join::default();
    if !text.contains('=') {
        if matches!(text, "none" | "host") || text.starts_with("container:") {
            return Ok(NetworkFlag::Mode(text.to_owned()));
        }
        join.network = if text == "default" { network::DEFAULT.to_owned() } else { text.to_owned() };
        return Ok(NetworkFlag::Join(join));
    }
    for field in text.split(',') {
        let (key, value) =
            field.split_once('=').ok_or_else(|| format!("invalid key/value pair format in field {field}"))?;
        let (key, value) = (key.trim().to_lowercase(), value.trim());
        let wrong = || format!("invalid {key} ({value}): invalid syntax");
        match key.as_str() {
            "name" => value.clone_into(&mut join.network),
            "alias" => join.aliases.push(value.to_owned()),
            "ip" => join.ipv4 = Some(value.parse().map_err(|_| wrong())?),
            "ip6" => join.ipv6 = Some(value.parse().map_err(|_| wrong())?),
            "mac-address" => join.mac = Some(value.to_owned()),
            "link-local-ip" => join.link_local.push(value.parse().map_err(|_| wrong())?),
            "gw-priority" => join.gateway_priority = value.parse().map_err(|_| wrong())?,
            "driver-opt" => {
                let (name, value) = value.split_once('=').ok_or("invalid key value pair format in driver options")?;
                join.driver_opts.push((name.trim().to_lowercase(), value.trim().to_owned()));
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if join.network.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(NetworkFlag::Join(join))
}

/// What all of them ask for together; `defaults` are the flags like `--ip` that hold for networks which do not say
/// otherwise themselves.
pub fn request(flags: &[NetworkFlag], defaults: &Join) -> Result<NetworkRequest, String> {
    let with_defaults = |join: &Join| {
        let mut join = join.clone();
        join.aliases.extend(defaults.aliases.iter().cloned());
        join.link_local.extend(defaults.link_local.iter().copied());
        join.ipv4 = join.ipv4.or(defaults.ipv4);
        join.ipv6 = join.ipv6.or(defaults.ipv6);
        join.mac = join.mac.or_else(|| defaults.mac.clone());
        join
    };
    match flags {
        [] => Ok(NetworkRequest::Networks(vec![with_defaults(&Join {
            network: network::DEFAULT.into(),
            ..Join::default()
        })])),
        [NetworkFlag::Mode(mode)] => Ok(match mode.strip_prefix("container:") {
            Some(container) => NetworkRequest::Container(container.to_owned()),
            None if mode == "host" => NetworkRequest::Host,
            None => NetworkRequest::None,
        }),
        several => {
            let joins = several.iter().map(|flag| match flag {
                NetworkFlag::Join(join) => Ok(with_defaults(join)),
                NetworkFlag::Mode(mode) => Err(format!("--network {mode} cannot be combined with other networks")),
            });
            Ok(NetworkRequest::Networks(joins.collect::<Result<_, _>>()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_name_a_mode_or_has_options() {
        let join = |text: &str| match parse(text) {
            Ok(NetworkFlag::Join(join)) => join,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(join("front").network, "front");
        assert_eq!(parse("container:web"), Ok(NetworkFlag::Mode("container:web".into())));
        let long = join(
            "name=front,alias=a,alias=b,ip=10.77.0.9,gw-priority=3,driver-opt=com.docker.network.endpoint.ifname=lan0",
        );
        assert_eq!((long.aliases.len(), long.gateway_priority, long.driver_opts.len()), (2, 3, 1));
        for (text, said) in [
            ("name=front,foo=1", "invalid field key foo"),
            ("alias=x", "network name/id is not specified"),
            ("name=front,gw-priority=x", "invalid gw-priority (x): invalid syntax"),
            ("name=front,alias", "invalid key/value pair format in field alias"),
        ] {
            assert_eq!(parse(text).unwrap_err(), said);
        }
        let all = [parse("front").unwrap(), parse("host").unwrap()];
        assert!(request(&all, &Join::default()).unwrap_err().contains("host cannot be combined"));
    }
}
