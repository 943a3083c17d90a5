//! `container ls`, which is `docker ps`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use umiak_runtime::config::MountKind;

use crate::commands::Context;
use crate::commands::filters::Filters;
use crate::engine::container::NetworkMode;
use crate::engine::{Container, disk, inspect};
use crate::ui::human;
use crate::ui::listing::{Listing, Row};

/// List containers.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Ls {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    filters: Filters,
    /// Format output: table, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value = "-1",
        allow_hyphen_values = true,
        hide_default_value = true
    )]
    last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

/// The columns, with those that only templates show.
pub const HEADERS: [(&str, &str); 16] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("Health", "HEALTH"),
];

/// Lists of containers.
pub const LISTING: Listing = Listing { type_name: "*formatter.ContainerContext", headers: &HEADERS };

const FILTERS: [&str; 15] = [
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "label!", "name", "network",
    "publish", "since", "status", "volume",
];

impl Ls {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Result<ExitCode> {
        self.filters.only(&FILTERS)?;
        let mut containers = context.engine.containers()?;
        let all = containers.clone();
        let asks_for_states = ["status", "exited"].iter().any(|name| self.filters.values(name).next().is_some());
        let limit = if self.latest { 1 } else { self.last };
        let every = self.all || asks_for_states || limit > 0;
        let keep = Keep::new(&self.filters, &all)?;
        containers.retain(|container| (every || container.state.status.is_up()) && keep.fits(container));
        containers.reverse();
        if let Ok(limit @ 1..) = usize::try_from(limit) {
            containers.truncate(limit);
        }
        let sized = self.size || self.format.as_deref().is_some_and(|format| format.contains(".Size"));
        let row = |container: &Container| row(context, container, self.no_trunc, sized);
        let rows: Vec<Row> = containers.iter().map(row).collect();
        if self.quiet && self.format.is_none() {
            Listing::print_field("ID", &rows);
            return Ok(ExitCode::SUCCESS);
        }
        let mut columns = vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
        columns.extend(self.size.then_some("Size"));
        LISTING.print(self.format.as_deref(), &columns, &rows)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Which containers are shown or pruned.
pub struct Keep<'a> {
    filters: &'a Filters,
    all: &'a [Container],
}

impl<'a> Keep<'a> {
    /// Checks what the filters say; `all` is where they look others up.
    pub fn new(filters: &'a Filters, all: &'a [Container]) -> Result<Self> {
        const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
        if let Some(bad) = filters.values("status").find(|value| !STATES.contains(value)) {
            bail!(
                "invalid filter 'status={bad}': invalid value for state ({bad}): must be one of {}",
                STATES.join(", ")
            );
        }
        if let Some(bad) = filters.values("exited").find(|value| value.parse::<i32>().is_err()) {
            bail!("invalid filter 'exited={bad}': strconv.Atoi: parsing \"{bad}\": invalid syntax");
        }
        const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];
        if let Some(bad) = filters.values("health").find(|value| !HEALTH.contains(value)) {
            bail!(
                "invalid filter 'health={bad}': invalid value for health ({bad}): must be one of {}",
                HEALTH.join(", ")
            );
        }
        if let Some(bad) = filters.values("is-task").find(|value| !["0", "1", "false", "true"].contains(value)) {
            bail!("invalid filter 'is-task=[{bad}]'");
        }
        for name in ["publish", "expose"] {
            let port = |text: &str| text.split('/').next().unwrap_or_default().to_owned();
            let wrong = |text: &&str| port(text).split('-').any(|number| number.parse::<u16>().is_err());
            if let Some(bad) = filters.values(name).find(wrong) {
                let port = port(bad);
                bail!("error while looking up for {name} {bad}: strconv.ParseUint: parsing \"{port}\": invalid syntax");
            }
        }
        for key in filters.values("before").chain(filters.values("since")) {
            if find(all, key).is_none() {
                bail!("No such container: {key}");
            }
        }
        Ok(Self { filters, all })
    }

    /// Whether all filters let it through.
    pub fn fits(&self, container: &Container) -> bool {
        let (filters, config, state) = (self.filters, &container.config, &container.state);
        let created = |key: &str| find(self.all, key).map(|other| other.config.created);
        let port = |text: &str| if text.contains('/') { text.to_owned() } else { format!("{text}/tcp") };
        filters.any("id", |id| config.id.starts_with(id))
            && filters.name(&config.name)
            && filters.labels(&config.labels)
            && filters.any("status", |status| state.status.as_str() == status)
            && filters.any("exited", |code| {
                state.status.as_str() == "exited" && code.parse() == Ok(state.exit_code.unwrap_or(0))
            })
            && filters.any("ancestor", |image| is_image(container, image))
            && filters.any("before", |key| created(key).is_some_and(|created| config.created < created))
            && filters.any("since", |key| created(key).is_some_and(|created| config.created > created))
            && filters.any("volume", |volume| has_volume(container, volume))
            && filters.any("network", |network| {
                let joined = config.network.attachments();
                joined.iter().any(|a| a.network == network || a.network_id.starts_with(network))
                    || inspect::network_mode(&config.network) == network
            })
            && filters.any("health", |health| inspect::health(container) == health)
            && filters.any("is-task", |value| matches!(value, "false" | "0"))
            && filters.any("expose", |text| config.exposed.contains(&port(text)))
            && filters
                .any("publish", |text| config.ports.iter().any(|spec| crate::engine::ports::target(spec) == port(text)))
    }
}

fn find<'a>(all: &'a [Container], key: &str) -> Option<&'a Container> {
    all.iter().find(|container| container.config.name == key || container.config.id.starts_with(key))
}

fn is_image(container: &Container, wanted: &str) -> bool {
    let config = &container.config;
    let tagged = |name: &str| if name.contains(':') { name.to_owned() } else { format!("{name}:latest") };
    let id = config.image_id.strip_prefix("sha256:").unwrap_or(&config.image_id);
    tagged(&config.image) == tagged(wanted)
        || id.starts_with(wanted.strip_prefix("sha256:").unwrap_or(wanted))
        || config.image.split(':').next() == Some(wanted)
}

fn has_volume(container: &Container, wanted: &str) -> bool {
    container.config.runtime.mounts.iter().any(|mount| {
        mount.target == wanted
            || match &mount.kind {
                MountKind::Volume(volume) => volume.name == wanted,
                MountKind::Bind(bind) => bind.source.as_os_str() == wanted,
                _ => false,
            }
    })
}

/// One container of a list: `full` with the whole of each text, `sized` with what it takes.
pub fn row(context: &Context, container: &Container, full: bool, sized: bool) -> Row {
    let config = &container.config;
    let shorten = |text: String| match full || text.chars().count() <= 15 {
        true => text,
        false => text.chars().take(14).collect::<String>() + "…",
    };
    let networks = match &config.network {
        NetworkMode::Networks(all) => all.iter().map(|a| a.network.clone()).collect::<Vec<_>>().join(","),
        mode => inspect::network_mode(mode),
    };
    let mounts: Vec<String> = config.runtime.mounts.iter().filter_map(inspect::mount_name).map(shorten).collect();
    let volumes = config.runtime.mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Volume(_))).count();
    let size = match sized {
        true => disk::container_size(&context.engine, container).to_string(),
        false => "0B".to_owned(),
    };
    let zone = config.created.to_zoned(jiff::tz::TimeZone::system());
    let id = if full { config.id.clone() } else { container.short_id().to_owned() };
    Row::new([
        ("ID", json!(id)),
        ("Image", json!(config.image)),
        ("Command", json!(inspect::command(container, full))),
        ("CreatedAt", json!(zone.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string())),
        ("RunningFor", json!(human::ago(config.created))),
        ("Status", json!(inspect::status(container))),
        ("State", json!(container.state.status.as_str())),
        ("Ports", json!(inspect::ports(container))),
        ("Names", json!(config.name)),
        ("Size", json!(size)),
        ("Mounts", json!(mounts.join(","))),
        ("LocalVolumes", json!(volumes.to_string())),
        ("Networks", json!(networks)),
        ("Platform", json!(null)),
    ])
    .with_labels(&config.labels)
}
