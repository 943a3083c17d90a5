//! The order of keys: where a mapping has fixed keys, that of Docker Compose's types; where keys are names, sorted.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::Format;

/// Keys of the mappings whose keys are fixed, in the order they are printed. The path of a mapping ends with one of the
/// patterns; of several the first counts.
const ORDER: &[(&str, &str)] = &[
    ("services.*.healthcheck", "test timeout interval retries start_period start_interval disable"),
    ("services.*.logging", "driver options"),
    ("services.*.provider", "type options"),
    ("services.*.credential_spec", "config file registry"),
    ("services.*.depends_on.*", "condition restart required"),
    ("services.*.env_file.*", "path required format"),
    ("services.*.ports.*", "name mode host_ip target published protocol app_protocol"),
    ("services.*.volumes.*", "type source target read_only consistency bind volume tmpfs image"),
    ("services.*.volumes.*.bind", "selinux propagation create_host_path recursive"),
    ("services.*.volumes.*.volume", "labels nocopy subpath"),
    ("services.*.volumes.*.tmpfs", "size mode"),
    ("services.*.volumes.*.image", "subpath"),
    ("services.*.devices.*", "source target permissions"),
    (
        "services.*.blkio_config",
        "weight weight_device device_read_bps device_read_iops device_write_bps device_write_iops",
    ),
    ("services.*.blkio_config.*.*", "path weight rate"),
    ("services.*.secrets.*", "source target uid gid mode"),
    ("services.*.configs.*", "source target uid gid mode"),
    ("services.*.ulimits.*", "soft hard"),
    (
        "services.*.networks.*",
        "aliases driver_opts gw_priority interface_name ipv4_address ipv6_address link_local_ips mac_address priority",
    ),
    ("services.*.models.*", "endpoint_var model_var"),
    ("services.*.gpus.*", "capabilities driver count device_ids options"),
    ("services.*.post_start.*", "command user privileged working_dir environment"),
    ("services.*.pre_stop.*", "command user privileged working_dir environment"),
    ("services.*.pre_start.*", "command image user privileged working_dir environment per_replica"),
    (
        "services.*.build",
        "context dockerfile dockerfile_inline entitlements args provenance sbom ssh labels cache_from cache_to no_cache no_cache_filter additional_contexts pull extra_hosts isolation network target secrets shm_size tags ulimits platforms privileged",
    ),
    ("services.*.build.secrets.*", "source target uid gid mode"),
    ("services.*.build.ulimits.*", "soft hard"),
    ("services.*.develop", "watch"),
    ("services.*.develop.watch.*", "path action target exec include ignore initial_sync"),
    ("services.*.develop.watch.*.exec", "command user privileged working_dir environment"),
    (
        "services.*.deploy",
        "mode replicas labels update_config rollback_config resources restart_policy placement endpoint_mode",
    ),
    ("services.*.deploy.update_config", "parallelism delay failure_action monitor max_failure_ratio order"),
    ("services.*.deploy.rollback_config", "parallelism delay failure_action monitor max_failure_ratio order"),
    ("services.*.deploy.resources", "limits reservations"),
    ("services.*.deploy.resources.*", "cpus memory pids devices generic_resources"),
    ("services.*.deploy.resources.reservations.devices.*", "capabilities driver count device_ids options"),
    ("services.*.deploy.resources.reservations.generic_resources.*", "discrete_resource_spec"),
    ("services.*.deploy.resources.reservations.generic_resources.*.discrete_resource_spec", "kind value"),
    ("services.*.deploy.restart_policy", "condition delay max_attempts window"),
    ("services.*.deploy.placement", "constraints preferences max_replicas_per_node"),
    ("services.*.deploy.placement.preferences.*", "spread"),
    (
        "services.*",
        "profiles annotations attach build develop blkio_config cap_add cap_drop cgroup_parent cgroup cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpus cpuset cpu_shares command configs container_name credential_spec depends_on deploy device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint provider environment env_file expose extends external_links extra_hosts group_add gpus hostname healthcheck image init ipc isolation labels label_file links logging mem_limit mem_reservation memswap_limit mem_swappiness mac_address models network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform ports privileged pull_policy pull_refresh_after read_only restart runtime scale secrets security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user userns_mode uts volumes volumes_from working_dir pre_start post_start pre_stop",
    ),
    ("networks.*", "name driver driver_opts ipam external internal attachable labels enable_ipv4 enable_ipv6"),
    ("networks.*.ipam", "driver config options"),
    ("networks.*.ipam.config.*", "subnet gateway ip_range aux_addresses"),
    ("volumes.*", "name driver driver_opts external labels"),
    ("secrets.*", "name file environment content external labels driver driver_opts template_driver"),
    ("configs.*", "name file environment content external labels driver driver_opts template_driver"),
    ("models.*", "name model context_size runtime_flags"),
    ("", "name services networks volumes secrets configs models"),
];

/// Mappings that are left out of YAML when they are empty.
const LEFT_OUT: [&str; 3] = ["services.*.deploy.placement", "services.*.deploy.resources", "networks.*.ipam"];

/// The keys of the mapping at a path, when they are fixed.
fn keys(path: &[&str]) -> Option<&'static str> {
    let fits = |pattern: &str| {
        let words: Vec<&str> = pattern.split('.').filter(|word| !word.is_empty()).collect();
        words.len() == path.len() && words.iter().zip(path).all(|(word, key)| *word == "*" || word == key)
    };
    ORDER.iter().find(|(pattern, _)| fits(pattern)).map(|(_, keys)| *keys)
}

/// A project's value with its keys in order.
pub(super) fn ordered(value: Value, format: Format) -> Value {
    order(value, &mut Vec::new(), format)
}

/// A value with the keys of all mappings sorted.
pub(super) fn sorted(value: Value, format: Format) -> Value {
    match value {
        Value::Object(map) => {
            let map = map.into_iter().map(|(key, value)| (key, sorted(value, format))).collect();
            Value::Object(sort(map, format))
        }
        Value::Array(list) => list.into_iter().map(|value| sorted(value, format)).collect(),
        scalar => scalar,
    }
}

fn order(value: Value, path: &mut Vec<String>, format: Format) -> Value {
    match value {
        Value::Array(list) => {
            let each = |(index, value): (usize, Value)| below(path, &index.to_string(), value, format);
            list.into_iter().enumerate().map(each).collect()
        }
        Value::Object(map) => {
            let words: Vec<&str> = path.iter().map(String::as_str).collect();
            // the top level of the JSON is a mapping of its own making
            let fixed = keys(&words).filter(|_| !(path.is_empty() && format == Format::Json));
            let map = map.into_iter().map(|(key, value)| (key.clone(), entry(path, &key, value, format)));
            let mut map: Map<String, Value> = map.filter_map(|(key, value)| Some((key, value?))).collect();
            let mut result = Map::new();
            for key in fixed.into_iter().flat_map(|keys| keys.split(' ')) {
                result.extend(map.remove(key).map(|value| (key.to_owned(), value)));
            }
            result.extend(sort(map, format));
            Value::Object(result)
        }
        scalar => scalar,
    }
}

/// An entry of a mapping, unless it is left out.
fn entry(path: &mut Vec<String>, key: &str, value: Value, format: Format) -> Option<Value> {
    if key.starts_with("x-") {
        return Some(sorted(value, format));
    }
    let words: Vec<&str> = path.iter().map(String::as_str).chain([key]).collect();
    let fits = |pattern: &str| {
        pattern.split('.').count() == words.len()
            && pattern.split('.').zip(&words).all(|(word, key)| word == "*" || word == *key)
    };
    let is_empty = value.as_object().is_some_and(Map::is_empty);
    let clears = value.is_null() && fits("services.*.command") || value.is_null() && fits("services.*.entrypoint");
    if format == Format::Yaml && (clears || (is_empty && LEFT_OUT.iter().any(|pattern| fits(pattern)))) {
        return None;
    }
    Some(below(path, key, value, format))
}

fn below(path: &mut Vec<String>, key: &str, value: Value, format: Format) -> Value {
    path.push(key.to_owned());
    let value = order(value, path, format);
    path.pop();
    value
}

pub(super) fn sort(map: Map<String, Value>, format: Format) -> Map<String, Value> {
    let mut entries: Vec<(String, Value)> = map.into_iter().collect();
    match format {
        Format::Json => entries.sort_by(|(a, _), (b, _)| a.cmp(b)),
        Format::Yaml => entries.sort_by(|(a, _), (b, _)| natural(a, b)),
    }
    entries.into_iter().collect()
}

/// The order of keys in Go's yaml package: letters by their code, after everything else unless a number goes on; runs
/// of digits by their value.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut in_number = false;
    for (at, (x, y)) in a.iter().zip(&b).enumerate() {
        if x == y {
            in_number = x.is_numeric();
            continue;
        }
        return match (x.is_alphabetic(), y.is_alphabetic()) {
            (true, true) => x.cmp(y),
            (false, false) => by_number(&a, &b, at),
            (letter, _) if letter == in_number => Ordering::Less,
            _ => Ordering::Greater,
        };
    }
    a.len().cmp(&b.len())
}

/// Compares from the first difference on, where neither has a letter.
fn by_number(a: &[char], b: &[char], at: usize) -> Ordering {
    // a zero within a number counts as a digit, at its start it does not
    let zero = a[at] == '0' || b[at] == '0';
    let started = a[..at].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
    let number = |text: &[char]| {
        let digits: Vec<char> = text[at..].iter().copied().take_while(char::is_ascii_digit).collect();
        let start = u128::from(zero && started);
        let value = digits
            .iter()
            .filter_map(|c| c.to_digit(10))
            .fold(start, |sum, digit| sum.saturating_mul(10).saturating_add(u128::from(digit)));
        (value, digits.len())
    };
    number(a).cmp(&number(b)).then_with(|| a[at].cmp(&b[at]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::support::TABLE;

    #[test]
    fn keys_are_sorted_as_go_does() {
        let mut keys = ["a10", "a2", "b", "B", "a", "A_B", "AB", "1", "a-b", "a.b", "x-10", "x-9", "_x", "a1b", "a01"];
        keys.sort_by(|a, b| natural(a, b));
        let expected = ["_x", "1", "A_B", "AB", "B", "a", "a-b", "a.b", "a1b", "a01", "a2", "a10", "b", "x-9", "x-10"];
        assert_eq!(keys, expected);
    }

    /// Keys that never reach the model.
    const GONE: [&str; 8] = [
        "version",
        "include",
        "services.*.extends",
        "services.*.extends.file",
        "services.*.extends.service",
        "include.*.path",
        "include.*.project_directory",
        "include.*.env_file",
    ];

    #[test]
    fn every_key_has_its_place() {
        let mut missing = BTreeSet::new();
        for (key, _) in TABLE.iter().filter(|(key, _)| !GONE.contains(key) && !key.ends_with(".external.name")) {
            let (parent, last) = key.rsplit_once('.').unwrap_or(("", key));
            let words: Vec<&str> = parent.split('.').filter(|word| !word.is_empty()).collect();
            if !keys(&words).is_some_and(|keys| keys.split(' ').any(|key| key == last)) {
                missing.insert(*key);
            }
        }
        assert!(missing.is_empty(), "{missing:?}");
    }
}
