//! A service.

use indexmap::IndexMap;

use super::fields::{Context, Fields};
use super::{build, deploy, mounts, network};
use crate::diagnostic::Span;
use crate::model::{
    Condition, CredentialSpec, Dependency, Device, EnvFile, Healthcheck, Hook, Logging, Namespace, PreStart, Provider,
    PullPolicy, RestartPolicy, Service, ServiceModel, Ulimit,
};
use crate::node::{Node, Value};
use crate::units::{parse_duration, shell_words};

/// Reads one service.
pub(super) fn service(cx: &Context, name: &str, node: &Node, key: Span, path: &str) -> Option<Service> {
    let fields = Fields::new(cx, node, path)?;
    let key_spans = node.as_map().into_iter().flatten().map(|(key, entry)| (key.clone(), entry.key)).collect();
    Some(fields.finish_with(|f| {
        let mut service = Service { name: name.to_owned(), span: key, key_spans, ..Service::default() };
        image_and_process(f, &mut service);
        identity(f, &mut service);
        resources(f, &mut service);
        security(f, &mut service);
        networking(f, &mut service);
        storage(f, &mut service);
        lifecycle(f, &mut service);
        rare(f, &mut service);
        service.extensions = f.extensions();
        service
    }))
}

fn image_and_process(f: &Fields<'_, '_>, service: &mut Service) {
    service.image = f.word("image");
    service.build = build::build(f, "build");
    service.pull_policy = pull_policy(f);
    service.pull_refresh_after = f.word("pull_refresh_after");
    service.platform = f.word("platform");
    service.command = command(f, "command");
    service.entrypoint = command(f, "entrypoint");
    service.environment = environment(f, "environment");
    service.env_file = f.list("env_file", |node, path| env_file(f.cx, node, path));
    service.working_dir = f.word("working_dir");
    service.user = f.word("user");
    service.init = f.bool("init");
    service.tty = f.bool("tty").filter(|on| *on);
    service.stdin_open = f.bool("stdin_open").filter(|on| *on);
    service.attach = f.bool("attach");
}

fn identity(f: &Fields<'_, '_>, service: &mut Service) {
    service.container_name = f.text("container_name");
    if let Some(name) = &service.container_name
        && !is_container_name(name)
        && let Some(node) = f.raw("container_name")
    {
        f.cx.error(
            node.span,
            format!("{} does not match pattern '[a-zA-Z0-9][a-zA-Z0-9_.-]+'", f.path("container_name")),
        );
    }
    service.hostname = f.word("hostname");
    service.domainname = f.word("domainname");
    service.labels = f.text_map("labels");
    service.label_file = f.text_or_texts("label_file").into_iter().map(Into::into).collect();
    service.annotations = f.text_map("annotations");
    service.profiles = f.unique_texts("profiles");
    service.logging = f.object("logging", |f| Logging {
        driver: f.word("driver"),
        options: f.options("options", "a null, number or string", |value| {
            matches!(value, Value::Null | Value::Text(_) | Value::Int(_) | Value::Float(_))
        }),
        extensions: f.extensions(),
    });
}

/// The pattern is not anchored in the schema: it is enough that some part fits. The engine wants all of it to fit.
fn is_container_name(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.len() > 1 && name.as_bytes()[0].is_ascii_alphanumeric() && name.bytes().all(rest)
}

fn resources(f: &Fields<'_, '_>, service: &mut Service) {
    service.mem_limit = f.bytes("mem_limit").filter(|size| *size != 0);
    service.mem_reservation = f.bytes("mem_reservation").filter(|size| *size != 0);
    service.memswap_limit = f.bytes("memswap_limit").filter(|size| *size != 0);
    service.mem_swappiness = f.bytes("mem_swappiness").filter(|value| *value != 0);
    service.cpus = f.float("cpus").filter(|cpus| *cpus != 0.0);
    service.cpu_shares = f.int("cpu_shares").filter(|value| *value != 0);
    service.cpu_quota = f.int("cpu_quota").filter(|value| *value != 0);
    service.cpu_period = f.int("cpu_period").filter(|value| *value != 0);
    service.cpu_rt_period = f.int("cpu_rt_period").filter(|value| *value != 0);
    service.cpu_rt_runtime = f.int("cpu_rt_runtime").filter(|value| *value != 0);
    service.cpuset = f.word("cpuset");
    service.pids_limit = f.int("pids_limit").filter(|value| *value != 0);
    service.oom_kill_disable = f.bool("oom_kill_disable").filter(|on| *on);
    service.oom_score_adj = f.int("oom_score_adj").filter(|value| *value != 0);
    if let (Some(value), Some(node)) = (service.oom_score_adj, f.raw("oom_score_adj"))
        && !(-1000..=1000).contains(&value)
    {
        f.cx.error(node.span, format!("{} must be between -1000 and 1000", f.path("oom_score_adj")));
    }
    service.shm_size = f.bytes("shm_size").filter(|size| *size != 0);
    service.ulimits = ulimits(f, "ulimits");
    service.blkio_config = deploy::blkio(f);
    service.deploy = deploy::deploy(f);
    service.scale = f.number("scale");
    service.cgroup_parent = f.word("cgroup_parent");
    service.gpus = deploy::device_requests(f, "gpus", false);
}

fn security(f: &Fields<'_, '_>, service: &mut Service) {
    service.cap_add = f.unique_texts("cap_add");
    service.cap_drop = f.unique_texts("cap_drop");
    service.privileged = f.bool("privileged").filter(|on| *on);
    service.read_only = f.bool("read_only").filter(|on| *on);
    service.security_opt = f.unique_texts("security_opt");
    service.sysctls = f.text_map("sysctls");
    service.group_add = f.unique_scalars("group_add");
    service.devices = f.list("devices", |node, path| device(f.cx, node, path));
    service.device_cgroup_rules = f.unique_texts("device_cgroup_rules");
    service.userns_mode = f.word("userns_mode");
    service.pid = namespace(f, "pid", true);
    service.ipc = namespace(f, "ipc", false);
    service.uts = namespace(f, "uts", false);
    service.cgroup = f.one_of("cgroup", &[("host", Namespace::Host), ("private", Namespace::Private)]);
}

fn networking(f: &Fields<'_, '_>, service: &mut Service) {
    service.ports = f.list("ports", |node, path| network::port(f.cx, node, path));
    service.expose = f.unique_scalars("expose");
    service.networks = network::service_networks(f);
    service.network_mode = network::mode(f);
    service.mac_address = f.word("mac_address");
    service.extra_hosts = network::extra_hosts(f, "extra_hosts");
    // a single empty text is none, where `dns_search: ""` means something
    service.dns = f.text_or_texts("dns");
    if service.dns.iter().all(String::is_empty) {
        service.dns.clear();
    }
    service.dns_opt = f.unique_texts("dns_opt");
    service.dns_search = f.text_or_texts("dns_search");
    service.links = f.unique_texts("links");
    service.external_links = f.unique_texts("external_links");
}

fn storage(f: &Fields<'_, '_>, service: &mut Service) {
    service.volumes = f.list("volumes", |node, path| mounts::volume(f.cx, node, path));
    service.volumes_from = f.unique_texts("volumes_from");
    service.tmpfs = f.text_or_texts("tmpfs");
    service.secrets = mounts::files(f, "secrets");
    service.configs = mounts::files(f, "configs");
    service.storage_opt =
        f.options("storage_opt", "a string", |value| matches!(value, Value::Text(_) | Value::Int(_) | Value::Null));
}

fn lifecycle(f: &Fields<'_, '_>, service: &mut Service) {
    let read = |_: &str, node: &Node, at: Span, path: &str| dependency(f.cx, node, at, path);
    service.depends_on = f.named("depends_on", read).into_iter().collect();
    service.healthcheck = f.object("healthcheck", healthcheck);
    service.restart = restart(f);
    service.stop_signal = f.word("stop_signal");
    service.stop_grace_period = f.duration("stop_grace_period");
    service.post_start = f.list("post_start", |node, path| hook(f.cx, node, path));
    service.pre_start = f.list("pre_start", |node, path| pre_start(f.cx, node, path));
    service.pre_stop = f.list("pre_stop", |node, path| hook(f.cx, node, path));
    service.develop = build::develop(f);
}

fn rare(f: &Fields<'_, '_>, service: &mut Service) {
    service.runtime = f.word("runtime");
    service.isolation = f.word("isolation");
    service.cpu_count = f.number("cpu_count").map(u32::into).filter(|value| *value != 0);
    service.cpu_percent = cpu_percent(f).filter(|value| *value != 0.0);
    service.credential_spec = f.object("credential_spec", |f| CredentialSpec {
        config: f.word("config"),
        file: f.word("file"),
        registry: f.word("registry"),
        extensions: f.extensions(),
    });
    service.use_api_socket = f.plain_flag("use_api_socket");
    service.provider = f.object("provider", |f| {
        let kind = f.word("type");
        if kind.is_none() {
            f.missing(service.at("provider"), "type");
        }
        let read = |_: &str, node: &Node, _: Span, path: &str| match &node.value {
            Value::List(list) => {
                let texts: Option<Vec<String>> = list.iter().map(Node::scalar_text).collect();
                if texts.is_none() {
                    f.cx.error(node.span, format!("{path} must be a list of booleans, numbers or strings"));
                }
                texts
            }
            _ => match node.scalar_text() {
                Some(text) => Some(vec![text]),
                None => {
                    f.cx.error(node.span, format!("{path} must be a string, number, boolean or list"));
                    None
                }
            },
        };
        let options = f.named("options", read).into_iter().collect();
        Provider { kind: kind.unwrap_or_default(), options, extensions: f.extensions() }
    });
    let read = |_: &str, node: &Node, _: Span, path: &str| match node.is_null() {
        true => Some(None),
        false => Fields::new(f.cx, node, path).map(|f| Some(f.finish_with(service_model))),
    };
    service.models = f.named("models", read).into_iter().collect();
    // read by `extends`, which leaves it behind when the base has nothing
    f.raw("extends");
}

/// A whole number of percents.
fn cpu_percent(f: &Fields<'_, '_>) -> Option<f64> {
    let percent = f.float("cpu_percent")?;
    if percent.fract() != 0.0 || !(0.0..=100.0).contains(&percent) {
        f.cx.error(
            f.raw("cpu_percent")?.span,
            format!("{} must be a whole number from 0 to 100", f.path("cpu_percent")),
        );
    }
    Some(percent)
}

fn service_model(f: &Fields<'_, '_>) -> ServiceModel {
    ServiceModel { endpoint_var: f.word("endpoint_var"), model_var: f.word("model_var"), extensions: f.extensions() }
}

/// A command: null, a shell-like line, or a list.
pub(super) fn command(f: &Fields<'_, '_>, key: &'static str) -> Option<Vec<String>> {
    let node = f.raw(key).filter(|node| !node.is_null())?;
    match &node.value {
        Value::Text(text) => {
            let words = shell_words(text);
            if words.is_none() {
                f.cx.error(node.span, format!("{}: invalid command line string", f.path(key)));
            }
            words
        }
        Value::List(_) => Some(f.texts(key)),
        _ => {
            f.cx.error(node.span, format!("{} must be null, a string or a list", f.path(key)));
            None
        }
    }
}

/// An environment; null values stay `None`.
pub(super) fn environment(f: &Fields<'_, '_>, key: &'static str) -> IndexMap<String, Option<String>> {
    let values = f.key_values(key);
    for (name, _) in &values {
        if name.ends_with(char::is_whitespace) {
            let at = f.raw(key).and_then(|node| node.as_map()?.get(name)).map_or_else(Span::default, |entry| entry.key);
            f.cx.error(at, format!("environment variable {name} is declared with a trailing space"));
        }
    }
    values.into_iter().collect()
}

fn env_file(cx: &Context, node: &Node, path: &str) -> Option<EnvFile> {
    let fields = Fields::new(cx, node, path)?;
    fields.finish_with(|f| {
        let file = f.text("path");
        if file.is_none() {
            f.missing(node.span, "path");
        }
        let required = f.bool("required").unwrap_or(true);
        let extension = node.as_map().and_then(|map| map.iter().find(|(key, _)| key.starts_with("x-")));
        if let Some((key, entry)) = extension {
            cx.error(entry.key, format!("{path} additional properties '{key}' not allowed"));
        }
        let raw = match f.text("format").as_deref() {
            None | Some("") => false,
            Some("raw") => true,
            Some(other) => {
                let at = f.raw("format").map_or(node.span, |node| node.span);
                cx.error(at, format!("unsupported env_file format \"{other}\""));
                false
            }
        };
        Some(EnvFile { path: file?.into(), required, raw })
    })
}

fn pull_policy(f: &Fields<'_, '_>) -> Option<PullPolicy> {
    let text = f.text("pull_policy")?;
    match text.as_str() {
        "always" => return Some(PullPolicy::Always),
        "never" => return Some(PullPolicy::Never),
        "missing" | "if_not_present" => return Some(PullPolicy::Missing),
        "build" => return Some(PullPolicy::Build),
        "daily" => return Some(PullPolicy::Daily),
        "weekly" => return Some(PullPolicy::Weekly),
        "refresh" => return Some(PullPolicy::Refresh),
        _ => {}
    }
    if let Some(Ok(period)) = text.strip_prefix("every_").map(parse_duration) {
        return Some(PullPolicy::Every(text, period));
    }
    let message = format!(
        "{} must be one of 'always', 'never', 'missing', 'if_not_present', 'build', 'daily', 'weekly', 'refresh', 'every_<duration>'",
        f.path("pull_policy")
    );
    f.cx.error(f.raw("pull_policy")?.span, message);
    None
}

fn restart(f: &Fields<'_, '_>) -> Option<RestartPolicy> {
    let node = f.raw("restart")?;
    // `restart: no` without quotes is text here, as it is for Docker Compose
    let text = f.text("restart")?;
    let policy = match text.split_once(':') {
        None => match text.as_str() {
            "" => return None,
            "no" => Some(RestartPolicy::No),
            "always" => Some(RestartPolicy::Always),
            "on-failure" => Some(RestartPolicy::OnFailure(None)),
            "unless-stopped" => Some(RestartPolicy::UnlessStopped),
            _ => None,
        },
        Some(("on-failure", times)) => times.parse().ok().map(|times| RestartPolicy::OnFailure(Some(times))),
        Some(_) => None,
    };
    if policy.is_none() {
        let help = "use \"no\", always, on-failure[:max-retries] or unless-stopped";
        f.cx.error_with_help(node.span, format!("{}: invalid restart policy '{text}'", f.path("restart")), help);
    }
    policy
}

fn namespace(f: &Fields<'_, '_>, key: &'static str, may_be_null: bool) -> Option<Namespace> {
    let node = f.raw(key)?;
    if may_be_null && node.is_null() {
        return None;
    }
    let text = f.word(key)?;
    let mode = match text.split_once(':') {
        None => match (text.as_str(), key) {
            ("host", _) => Some(Namespace::Host),
            ("private", "ipc") => Some(Namespace::Private),
            ("shareable", "ipc") => Some(Namespace::Shareable),
            ("none", "ipc") => Some(Namespace::None),
            _ => None,
        },
        Some((_, "")) => None,
        Some(("service", name)) if key != "uts" => Some(Namespace::Service(name.to_owned())),
        Some(("container", name)) if key != "uts" => Some(Namespace::Container(name.to_owned())),
        Some(_) => None,
    };
    if mode.is_none() {
        let help = match key {
            "uts" => "use host",
            "ipc" => "use host, private, shareable, none, service:NAME or container:NAME",
            _ => "use host, service:NAME or container:NAME",
        };
        f.cx.error_with_help(node.span, format!("{}: invalid mode '{text}'", f.path(key)), help);
    }
    mode
}

fn dependency(cx: &Context, node: &Node, at: Span, path: &str) -> Option<Dependency> {
    const CONDITIONS: [(&str, Condition); 3] = [
        ("service_started", Condition::Started),
        ("service_healthy", Condition::Healthy),
        ("service_completed_successfully", Condition::CompletedSuccessfully),
    ];
    let fields = Fields::new(cx, node, path)?;
    fields.finish_with(|f| {
        if f.raw("condition").is_none() {
            f.missing(at, "condition");
        }
        let condition = f.one_of("condition", &CONDITIONS);
        let (required, restart) = (f.plain_bool("required").unwrap_or(true), f.flag("restart"));
        Some(Dependency { condition: condition?, required, restart })
    })
}

fn healthcheck(f: &Fields<'_, '_>) -> Healthcheck {
    let test = match f.raw("test").map(|node| (node, &node.value)) {
        Some((_, Value::Text(text))) => Some(vec!["CMD-SHELL".to_owned(), text.clone()]),
        Some((node, Value::List(_))) => {
            let words = f.texts("test");
            if words.first().is_some_and(|word| !matches!(word.as_str(), "CMD" | "CMD-SHELL" | "NONE")) {
                let message = "healthcheck.test must start either by \"CMD\", \"CMD-SHELL\" or \"NONE\"";
                f.cx.error(node.span, message);
            }
            Some(words)
        }
        Some((node, _)) => {
            f.cx.error(node.span, format!("{} must be a string or a list", f.path("test")));
            None
        }
        None => None,
    };
    Healthcheck {
        test: test.filter(|test| !test.is_empty()),
        interval: f.duration("interval"),
        timeout: f.duration("timeout"),
        retries: f.number("retries"),
        start_period: f.duration("start_period"),
        start_interval: f.duration("start_interval"),
        disable: f.flag("disable"),
        extensions: f.extensions(),
    }
}

/// `ulimits` of a build: numbers only.
pub(super) fn plain_ulimits(f: &Fields<'_, '_>, key: &'static str) -> IndexMap<String, Ulimit> {
    for (name, entry) in f.raw(key).and_then(Node::as_map).into_iter().flatten() {
        if matches!(entry.node.value, Value::Text(_)) {
            f.cx.error(entry.node.span, format!("{}.{name} must be an integer or a mapping", f.path(key)));
        }
    }
    ulimits(f, key)
}

/// `ulimits` of a service.
fn ulimits(f: &Fields<'_, '_>, key: &'static str) -> IndexMap<String, Ulimit> {
    let read = |name: &str, node: &Node, at: Span, path: &str| {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
            f.cx.error(at, format!("{} additional properties '{name}' not allowed", f.path(key)));
            return None;
        }
        if !matches!(node.value, Value::Map(_)) {
            let value = match &node.value {
                Value::Int(value) => i64::try_from(*value).ok(),
                Value::Text(text) => text.parse().ok(),
                _ => None,
            };
            let Some(value) = value else {
                f.cx.error(node.span, format!("{path} must be an integer or a mapping"));
                return None;
            };
            return Some(Ulimit { soft: value, hard: value, single: true });
        }
        Fields::new(f.cx, node, path)?.finish_with(|f| {
            for key in ["soft", "hard"] {
                if f.raw(key).is_none() {
                    f.missing(at, key);
                }
            }
            let (soft, hard) = (f.int("soft"), f.int("hard"));
            Some(Ulimit { soft: soft?, hard: hard?, single: false })
        })
    };
    f.named(key, read).into_iter().collect()
}

fn device(cx: &Context, node: &Node, path: &str) -> Option<Device> {
    Fields::new(cx, node, path)?.finish_with(|f| {
        let source = f.word("source");
        if source.is_none() {
            f.missing(node.span, "source");
        }
        let (target, permissions) = (f.word("target"), f.word("permissions"));
        if target.is_none() {
            cx.error(node.span, format!("service device {path} is missing a mount target"));
        }
        if permissions.as_deref().is_some_and(|letters| !letters.chars().all(|letter| "rwm".contains(letter))) {
            cx.error(node.span, format!("{path}.permissions must be made of 'r', 'w' and 'm'"));
        }
        Some(Device { source: source?, target: target?, permissions, extensions: f.extensions() })
    })
}

/// A command run in a container at a moment of its life.
pub(super) fn hook(cx: &Context, node: &Node, path: &str) -> Option<Hook> {
    Fields::new(cx, node, path)?.finish_with(|f| {
        if f.raw("command").is_none() {
            f.missing(node.span, "command");
        }
        Some(Hook {
            command: command(f, "command").unwrap_or_default(),
            user: f.word("user"),
            privileged: f.flag("privileged"),
            working_dir: f.word("working_dir"),
            environment: environment(f, "environment"),
            extensions: f.extensions(),
        })
    })
}

/// A container that runs before the service's own.
fn pre_start(cx: &Context, node: &Node, path: &str) -> Option<PreStart> {
    Fields::new(cx, node, path)?.finish_with(|f| {
        Some(PreStart {
            command: command(f, "command"),
            image: f.word("image"),
            user: f.word("user"),
            privileged: f.flag("privileged"),
            working_dir: f.word("working_dir"),
            environment: environment(f, "environment"),
            per_replica: f.flag("per_replica"),
            extensions: f.extensions(),
        })
    })
}
