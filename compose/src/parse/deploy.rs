//! `deploy`, `blkio_config` and device requests.

use super::fields::{Context, Fields};
use crate::model::{
    BlkioConfig, Deploy, DeviceRequest, GenericResource, Limits, Placement, PlacementPreference, Reservations,
    Resources, RestartPolicyConfig, ThrottleDevice, UpdateConfig, WeightDevice,
};
use crate::node::{Node, Value};

/// `deploy`; null is as good as nothing.
pub(super) fn deploy(f: &Fields<'_, '_>) -> Option<Deploy> {
    if f.raw("deploy")?.is_null() {
        return None;
    }
    f.object("deploy", |f| Deploy {
        mode: f.word("mode"),
        replicas: f.number("replicas"),
        labels: f.text_map("labels"),
        update_config: f.object("update_config", update_config),
        rollback_config: f.object("rollback_config", update_config),
        resources: f.object("resources", resources).unwrap_or_default(),
        restart_policy: f.object("restart_policy", |f| RestartPolicyConfig {
            condition: f.word("condition"),
            delay: f.duration("delay"),
            max_attempts: f.number("max_attempts"),
            window: f.duration("window"),
            extensions: f.extensions(),
        }),
        placement: f.object("placement", placement).unwrap_or_default(),
        endpoint_mode: f.word("endpoint_mode"),
        extensions: f.extensions(),
    })
}

fn update_config(f: &Fields<'_, '_>) -> UpdateConfig {
    let orders = ["start-first", "stop-first"].map(|word| (word, word.to_owned()));
    UpdateConfig {
        parallelism: f.number("parallelism"),
        delay: f.duration("delay").filter(|delay| !delay.is_zero()),
        failure_action: f.word("failure_action"),
        monitor: f.duration("monitor").filter(|monitor| !monitor.is_zero()),
        max_failure_ratio: f.float("max_failure_ratio").filter(|ratio| *ratio != 0.0),
        order: f.one_of("order", &orders),
        extensions: f.extensions(),
    }
}

fn resources(f: &Fields<'_, '_>) -> Resources {
    Resources {
        limits: f.object("limits", |f| Limits {
            cpus: f.float("cpus").filter(|cpus| *cpus != 0.0),
            memory: f.text_bytes("memory").filter(|memory| *memory != 0),
            pids: f.int("pids").filter(|pids| *pids != 0),
            extensions: f.extensions(),
        }),
        reservations: f.object("reservations", |f| Reservations {
            cpus: f.float("cpus").filter(|cpus| *cpus != 0.0),
            memory: f.text_bytes("memory").filter(|memory| *memory != 0),
            devices: device_requests(f, "devices", true),
            generic_resources: f.list("generic_resources", |node, path| generic_resource(f.cx, node, path)),
            extensions: f.extensions(),
        }),
        extensions: f.extensions(),
    }
}

fn generic_resource(cx: &Context, node: &Node, path: &str) -> Option<GenericResource> {
    Fields::new(cx, node, path)?.finish_with(|f| {
        Some(GenericResource {
            discrete_resource_spec: f.object("discrete_resource_spec", |f| crate::model::DiscreteResource {
                kind: f.word("kind").unwrap_or_default(),
                value: f.int("value").unwrap_or_default(),
            }),
        })
    })
}

fn placement(f: &Fields<'_, '_>) -> Placement {
    Placement {
        constraints: f.texts("constraints"),
        preferences: f.list("preferences", |node, path| {
            let read =
                |f: &Fields<'_, '_>| PlacementPreference { spread: f.word("spread"), extensions: f.extensions() };
            Fields::new(f.cx, node, path).map(|f| f.finish_with(read))
        }),
        max_replicas_per_node: f.number("max_replicas_per_node").filter(|count: &u64| *count != 0),
        extensions: f.extensions(),
    }
}

/// Device requests of `gpus` or of a reservation.
pub(super) fn device_requests(f: &Fields<'_, '_>, key: &'static str, need_capabilities: bool) -> Vec<DeviceRequest> {
    f.list(key, |node, path| {
        Fields::new(f.cx, node, path)?.finish_with(|f| {
            if need_capabilities && f.raw("capabilities").is_none() {
                f.missing(node.span, "capabilities");
            }
            if f.raw("count").is_some() && f.raw("device_ids").is_some() {
                f.cx.error(node.span, format!("{path}: \"count\" and \"device_ids\" attributes are exclusive"));
            }
            let count = match f.raw("count").map(|node| &node.value) {
                None if f.raw("device_ids").is_some() => None,
                None => Some(-1),
                Some(Value::Text(text)) if text.eq_ignore_ascii_case("all") => Some(-1),
                Some(_) => f.int("count"),
            };
            Some(DeviceRequest {
                capabilities: f.unique_texts("capabilities"),
                driver: f.word("driver"),
                count: count.filter(|count| *count != 0),
                device_ids: f.unique_texts("device_ids"),
                options: f.text_map("options"),
                extensions: f.extensions(),
            })
        })
    })
}

/// `blkio_config`.
pub(super) fn blkio(f: &Fields<'_, '_>) -> Option<BlkioConfig> {
    f.object("blkio_config", |f| {
        let throttled = |key: &'static str| {
            f.list(key, |node, path| {
                Fields::new(f.cx, node, path)?.finish_with(|f| {
                    let (path, rate) = (f.word("path"), f.bytes("rate"));
                    Some(ThrottleDevice { path: path?, rate: rate? })
                })
            })
        };
        BlkioConfig {
            weight: f.plain_number("weight").filter(|weight: &u16| *weight != 0),
            weight_device: f.list("weight_device", |node, path| {
                Fields::new(f.cx, node, path)?.finish_with(|f| {
                    let (path, weight) = (f.word("path"), f.plain_number("weight"));
                    Some(WeightDevice { path: path?, weight: weight? })
                })
            }),
            device_read_bps: throttled("device_read_bps"),
            device_read_iops: throttled("device_read_iops"),
            device_write_bps: throttled("device_write_bps"),
            device_write_iops: throttled("device_write_iops"),
            extensions: f.extensions(),
        }
    })
}
