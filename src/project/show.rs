//! A plan as people and programs read it: the tree and the JSON of `plan`, the
//! lines of `--dry-run`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use umiak_compose::Project;

use super::names;
use super::plan::step::reasons;
use super::plan::{Action, Plan, Reason, Step};
use super::pre_start::Due;
use crate::ui::progress::Progress;

/// What a step is about: `container`, its name, its service.
struct About<'a> {
    kind: &'static str,
    name: &'a str,
    service: Option<&'a str>,
    number: Option<u32>,
}

impl Action {
    /// What is done, in one word.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Pull { .. } => "pull",
            Self::Build { .. } => "build",
            Self::CreateNetwork { .. } | Self::CreateVolume { .. } | Self::Create { .. } => "create",
            Self::RecreateNetwork { .. } | Self::RecreateVolume { .. } | Self::Recreate { .. } => "recreate",
            Self::Roll { .. } => "roll",
            Self::Rename { .. } => "rename",
            Self::Update { .. } => "update",
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::Detach { .. } => "detach",
            Self::Attach { .. } => "attach",
            Self::Remove { .. } => "remove",
        }
    }

    fn about(&self) -> About<'_> {
        let plain = |kind, name| About { kind, name, service: None, number: None };
        match self {
            Self::Pull { image } | Self::Build { image } => plain("image", image),
            Self::CreateNetwork { name, .. } | Self::RecreateNetwork { name, .. } => plain("network", name),
            Self::CreateVolume { name, .. } | Self::RecreateVolume { name, .. } => plain("volume", name),
            Self::Roll { service, .. } => {
                About { kind: "service", name: service, service: Some(service), number: None }
            }
            Self::Create { target, .. }
            | Self::Recreate { target, .. }
            | Self::Rename { target, .. }
            | Self::Update { target, .. }
            | Self::Start { target, .. }
            | Self::Attach { target, .. } => About {
                kind: "container",
                name: &target.name,
                service: Some(&target.service),
                number: Some(target.number),
            },
            Self::Stop { member } | Self::Detach { member } | Self::Remove { member, .. } => About {
                kind: "container",
                name: &member.container.config.name,
                service: Some(&member.service),
                number: Some(member.number),
            },
        }
    }
}

impl Plan {
    /// What runs before the step of this place: before the first one that starts containers of a service.
    fn before(&self, place: usize) -> Option<&Due> {
        fn starts(step: &Step) -> Option<&str> {
            match &step.action {
                Action::Start { target, .. } | Action::Recreate { target, start: true, .. } => Some(&target.service),
                Action::Roll { service, .. } => Some(service),
                _ => None,
            }
        }
        let service = starts(self.steps.get(place)?)?;
        let first = self.steps.iter().position(|step| starts(step) == Some(service));
        self.pre_start.get(service).filter(|_| first == Some(place))
    }
}

/// The steps as JSON, numbered by their places.
pub fn json(project: &Project, plan: &Plan) -> Value {
    let told = |reason: &Reason| json!({ "kind": reason.kind(), "text": reason.to_string() });
    let steps: Vec<Value> = plan
        .steps
        .iter()
        .enumerate()
        .map(|(id, step)| {
            let about = step.action.about();
            let mut value = json!({
                "id": id,
                "kind": about.kind,
                "name": about.name,
                "action": step.action.verb(),
                "reasons": step.reasons.iter().map(told).collect::<Vec<_>>(),
                "after": step.after,
            });
            if let Some(service) = about.service {
                value["service"] = json!(service);
            }
            if let Some(number) = about.number {
                value["number"] = json!(number);
            }
            if let Some(due) = plan.before(id) {
                value["pre_start"] = json!(due.names);
            }
            if let Action::Roll { old, rolling, .. } = &step.action {
                value["order"] = json!(if rolling.start_first { "start-first" } else { "stop-first" });
                value["parallelism"] = json!(rolling.parallelism);
                let containers = old.iter().map(|(member, reasons)| {
                    json!({ "name": member.container.config.name, "number": member.number,
                            "reasons": reasons.iter().map(told).collect::<Vec<_>>() })
                });
                value["containers"] = containers.collect();
            }
            value
        })
        .collect();
    json!({ "project": project.name, "steps": steps, "warnings": plan.warnings, "volumes_differ": plan.volumes_differ })
}

/// The steps as a tree: what belongs to no service first, then by service.
pub fn tree(project: &Project, plan: &Plan) -> String {
    if plan.is_empty() {
        return format!("Project {}: nothing to do", project.name);
    }
    let mut lines = vec![format!("Project {}", project.name)];
    let mut top: Vec<String> = Vec::new();
    let mut by_service: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for (id, step) in plan.steps.iter().enumerate() {
        let about = step.action.about();
        let Some(service) = about.service else {
            top.push(line(step));
            continue;
        };
        if !order.contains(&service) {
            order.push(service);
        }
        let below = by_service.entry(service).or_default();
        let before = plan.before(id).into_iter().flat_map(|due| &due.names);
        below.extend(before.map(|name| format!("Container {name}  run (pre_start)")));
        match &step.action {
            Action::Roll { old, rolling, .. } => {
                let order = if rolling.start_first { "start-first" } else { "stop-first" };
                for (member, why) in old {
                    let name = &member.container.config.name;
                    below.push(format!("Container {name}  recreate, {order} ({})", reasons(why)));
                }
            }
            _ => below.push(line(step)),
        }
    }
    let count = top.len() + order.len();
    for (index, text) in top.iter().enumerate() {
        lines.push(format!("{}{text}", if index + 1 == count { "└─ " } else { "├─ " }));
    }
    for (index, service) in order.iter().enumerate() {
        let last = top.len() + index + 1 == count;
        lines.push(format!("{}Service {service}", if last { "└─ " } else { "├─ " }));
        let below = by_service.remove(service).unwrap_or_default();
        for (index, text) in below.iter().enumerate() {
            let branch = if index + 1 == below.len() { "└─ " } else { "├─ " };
            lines.push(format!("{}{branch}{text}", if last { "   " } else { "│  " }));
        }
    }
    lines.join("\n")
}

fn line(step: &Step) -> String {
    let about = step.action.about();
    let kind = match about.kind {
        "image" => "Image",
        "network" => "Network",
        "volume" => "Volume",
        _ => "Container",
    };
    format!("{kind} {}  {} ({})", about.name, step.action.verb(), reasons(&step.reasons))
}

/// The lines that carrying the plan out would show, without carrying it out.
pub fn dry_run(project: &Project, plan: &Plan, progress: &Progress) {
    for member in &plan.kept {
        let container = &member.container;
        progress.done(&format!("Container {}", container.config.name), container.state.status.title());
    }
    for (id, step) in plan.steps.iter().enumerate() {
        let about = step.action.about();
        let why = reasons(&step.reasons);
        for name in plan.before(id).into_iter().flat_map(|due| &due.names) {
            let what = format!("Container {name}");
            progress.working(&what, "Starting");
            progress.done(&what, "Exited");
        }
        let show = |kind: &str, doing: &str, did: &str| {
            let what = format!("{kind} {}", about.name);
            progress.working(&what, doing);
            progress.done(&what, did);
        };
        match &step.action {
            Action::Pull { .. } => show("Image", "Pulling", "Pulled"),
            Action::Build { .. } => show("Image", "Building", "Built"),
            Action::CreateNetwork { .. } => show("Network", "Creating", "Created"),
            Action::RecreateNetwork { .. } => show("Network", "Recreating", &format!("Recreated ({why})")),
            Action::CreateVolume { .. } => show("Volume", "Creating", "Created"),
            Action::RecreateVolume { .. } => show("Volume", "Recreating", &format!("Recreated ({why})")),
            Action::Create { .. } => show("Container", "Creating", "Created"),
            Action::Recreate { start, .. } => {
                show("Container", &format!("Recreating ({why})"), &format!("Recreated ({why})"));
                if *start {
                    show("Container", "Starting", "Started");
                }
            }
            Action::Roll { service, old, .. } => {
                for (member, why) in old {
                    let Some(model) = project.services.get(service) else { continue };
                    let what = format!("Container {}", names::container(project, model, member.number));
                    progress.working(&what, &format!("Updating ({})", reasons(why)));
                    progress.done(&what, &format!("Updated ({})", reasons(why)));
                }
            }
            Action::Rename { .. } => progress.done(&format!("Container {}", about.name), "Renamed"),
            Action::Update { .. } => show("Container", "Updating", &format!("Updated ({why})")),
            Action::Start { .. } => show("Container", "Starting", "Started"),
            Action::Stop { .. } => show("Container", "Stopping", &format!("Stopped ({why})")),
            Action::Detach { .. } | Action::Attach { .. } => {}
            Action::Remove { .. } => show("Container", &format!("Removing ({why})"), &format!("Removed ({why})")),
        }
    }
}
