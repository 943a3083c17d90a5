//! Plans as data: what is wanted, what is there, and the steps between.

use std::collections::BTreeMap;

use umiak_compose::{Project, Service};
use umiak_runtime::config::{ImageMount, Mount, MountKind};

use super::*;
use crate::engine::Container;
use crate::engine::container::{Config, State, Status};
use crate::project::observe::{Member, Observed};
use crate::project::{hash, labels, service, show};

const STACK: &str = "
services:
  web: { image: web, depends_on: [db], network_mode: none }
  db: { image: db, network_mode: none }
";

fn project(text: &str) -> Project {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("compose.yaml"), text).unwrap();
    let options = umiak_compose::LoadOptions {
        project_name: Some("p".into()),
        current_dir: dir.path().to_owned(),
        ..umiak_compose::LoadOptions::default()
    };
    umiak_compose::load(&options).unwrap()
}

fn wanted(project: &Project) -> Vec<Wanted<'_>> {
    let all: Vec<&Service> = project.services.values().collect();
    let ordered = project.levels(&all).unwrap().into_iter().flatten();
    ordered
        .map(|service| {
            let fingerprint = hash::service(project, service).unwrap();
            Wanted {
                service,
                hash: fingerprint.hash(),
                fingerprint,
                limits: service::limits(service).unwrap(),
                restart: service::restart(service).unwrap(),
                image: service.name.clone(),
                image_id: Some(format!("id of {}", service.name)),
                pull: None,
                builds: Vec::new(),
                step_pulls: Vec::new(),
                mounted_images: BTreeMap::new(),
            }
        })
        .collect()
}

/// A container as an `up` with `wanted` would have left it.
fn member(wanted: &Wanted<'_>, number: u32, status: Status) -> Member {
    let service = wanted.service.name.clone();
    let id = format!("{:0>62}{number:02}", service.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
    let config: Config = serde_json::from_value(serde_json::json!({
        "id": id, "name": format!("p-{service}-{number}"), "created": "2026-01-01T00:00:00Z",
        "image": service, "image_id": wanted.image_id, "network": "none",
        "runtime": { "limits": wanted.limits }, "fingerprint": wanted.fingerprint.keys,
        "labels": { labels::CONFIG_HASH: wanted.hash, labels::IMAGE: wanted.image_id },
    }))
    .unwrap();
    let container = Container { config, state: State { status, ..State::default() }, health: None, lost: false };
    Member { container, service, number }
}

fn running(wanted: &[Wanted<'_>]) -> Observed {
    let members = wanted.iter().map(|wanted| member(wanted, 1, Status::Running)).collect();
    Observed { members, ..Observed::default() }
}

/// The plan as lines: `recreate p-web-1 (image changed)`.
fn lines(project: &Project, wanted: &[Wanted<'_>], there: &Observed, options: &Options) -> Vec<String> {
    let plan = plan(project, &Definitions::default(), wanted, there, options);
    let json = show::json(project, &plan);
    let steps = json["steps"].as_array().unwrap().iter();
    steps
        .map(|step| {
            let reasons = step["reasons"].as_array().unwrap().iter().map(|reason| reason["text"].as_str().unwrap());
            let reasons: Vec<&str> = reasons.collect();
            let (action, name) = (step["action"].as_str().unwrap(), step["name"].as_str().unwrap());
            format!("{action} {name} ({})", reasons.join(", "))
        })
        .collect()
}

#[test]
fn an_empty_host_gets_everything_dependencies_first() {
    let project = project(STACK);
    let wanted = wanted(&project);
    let plan = plan(&project, &Definitions::default(), &wanted, &Observed::default(), &Options::default());
    let told = lines(&project, &wanted, &Observed::default(), &Options::default());
    let names: Vec<&str> = told.iter().map(|line| line.split(" (").next().unwrap()).collect();
    assert_eq!(names, ["create p-db-1", "start p-db-1", "create p-web-1", "start p-web-1"]);
    assert!(plan.steps[2].after.contains(&1), "web is made once db is started: {:?}", plan.steps[2].after);
    assert!(plan.steps.iter().enumerate().all(|(index, step)| step.after.iter().all(|before| *before < index)));
}

#[test]
fn the_second_up_has_nothing_to_do() {
    let project = project(STACK);
    let wanted = wanted(&project);
    assert!(lines(&project, &wanted, &running(&wanted), &Options::default()).is_empty());
}

#[test]
fn only_what_changed_is_recreated_and_the_reason_is_told_key_by_key() {
    let before = project(&STACK.replace("image: db", "image: db, environment: { A: '1', B: '1', C: '1' }"));
    let after = project(&STACK.replace("image: db", "image: db, user: '5', environment: { A: '1', B: '2', D: '1' }"));
    let (old, mut new) = (wanted(&before), wanted(&after));
    let there = running(&old);
    let all = "recreate p-db-1 (environment B changed, environment C removed, environment D added, user added)";
    assert_eq!(lines(&after, &new, &there, &Options::default()), [all]);
    let none = Options { no_recreate: true, ..Options::default() };
    assert!(lines(&after, &new, &there, &none).is_empty());
    let forced = Options { force_recreate: true, named: vec!["web".into()], ..Options::default() };
    assert_eq!(lines(&after, &new, &there, &forced), [all, "recreate p-web-1 (forced)"]);
    let deps = Options { always_recreate_deps: true, named: vec!["web".into()], ..Options::default() };
    assert!(lines(&after, &new, &there, &deps)[0].starts_with("recreate p-db-1 (forced, "));
    new[1].image_id = Some("another".into());
    assert_eq!(lines(&after, &new, &there, &Options::default())[1], "recreate p-web-1 (image changed)");
}

#[test]
fn limits_are_applied_to_the_container_that_is_there() {
    let before = project(&STACK.replace("image: db", "image: db, mem_limit: 64m, restart: 'no'"));
    let after = project(&STACK.replace("image: db", "image: db, mem_limit: 128m, pids_limit: 9"));
    let (old, new) = (wanted(&before), wanted(&after));
    let told = lines(&after, &new, &running(&old), &Options::default());
    assert!(told.len() == 1 && told[0].starts_with("update p-db-1 (memory limit "), "{told:?}");
}

#[test]
fn scaling_removes_outdated_ones_first_and_new_numbers_come_after_the_highest() {
    let project = project(STACK);
    let wanted = wanted(&project);
    let there = |outdated: bool| {
        let mut there = running(&wanted);
        there.members.push(member(&wanted[0], 4, Status::Exited));
        if outdated {
            there.members[0].container.config.labels.insert(labels::IMAGE.into(), "old".into());
        }
        there
    };
    let scaled = |count, outdated| {
        let options = Options { scale: BTreeMap::from([("db".to_owned(), count)]), ..Options::default() };
        lines(&project, &wanted, &there(outdated), &options)
    };
    assert_eq!(scaled(3, false), ["start p-db-4 (exited)", "create p-db-5 (not there)", "start p-db-5 (created)"]);
    assert_eq!(scaled(1, false), ["remove p-db-4 (scaled down)"]);
    assert_eq!(scaled(1, true), ["remove p-db-1 (scaled down)", "start p-db-4 (exited)"]);
}

#[test]
fn orphans_are_removed_when_asked_but_never_those_of_another_directory() {
    let (before, after) = (project(STACK), project("services: { db: { image: db, network_mode: none } }"));
    let (old, new) = (wanted(&before), wanted(&after));
    let mut there = running(&old);
    let planned = |there: &Observed, remove_orphans| {
        let options = Options { remove_orphans, ..Options::default() };
        plan(&after, &Definitions::default(), &new, there, &options)
    };
    let left = planned(&there, false);
    assert!(left.is_empty() && left.warnings[0].contains("orphan containers (p-web-1)"), "{:?}", left.warnings);
    let removed = planned(&there, true);
    assert_eq!(removed.steps[0].reasons, [Reason::Orphan]);
    let web = there.members.iter().find(|member| member.service == "web").unwrap().container.config.id.clone();
    there.elsewhere.insert(web, "/other".into());
    let left = planned(&there, true);
    assert!(left.is_empty() && left.warnings[0].contains("p-web-1 of /other"), "{:?}", left.warnings);
}

#[test]
fn of_two_containers_with_one_number_the_current_one_stays_and_gets_its_name() {
    let (before, after) = (project(STACK), project(&STACK.replace("image: db", "image: db, user: '5'")));
    let (old, new) = (wanted(&before), wanted(&after));
    let mut there = running(&old);
    let mut half = member(&new[0], 1, Status::Created);
    half.container.config.id = "f".repeat(64);
    half.container.config.name = "0123456789ab_p-db-1".into();
    there.members.push(half);
    assert_eq!(
        lines(&after, &new, &there, &Options::default()),
        [
            "remove p-db-1 (left by an interrupted command)",
            "rename p-db-1 (left by an interrupted command)",
            "start p-db-1 (created)"
        ]
    );
}

#[test]
fn who_shares_a_namespace_or_restarts_with_a_dependency_goes_along() {
    let text = "
services:
  app: { image: app, network_mode: none }
  side: { image: side, network_mode: 'service:app' }
  after: { image: after, network_mode: none, depends_on: { app: { condition: service_started, restart: true } } }
";
    let (before, after) = (project(text), project(&text.replace("image: app,", "image: app, user: '5',")));
    let (old, new) = (wanted(&before), wanted(&after));
    let told = lines(&after, &new, &running(&old), &Options::default());
    let expected = [
        "stop p-after-1 (depends on app, which is recreated)",
        "recreate p-app-1 (user added)",
        "recreate p-side-1 (joins a namespace of app, which is recreated)",
        "start p-after-1 (depends on app, which is recreated)",
    ];
    for line in expected {
        assert!(told.iter().any(|told| told == line), "{line} in {told:#?}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
}

#[test]
fn who_mounts_the_volumes_of_another_or_an_image_goes_along_with_it() {
    let text = "
services:
  data: { image: data, network_mode: none, volumes: [/anonymous] }
  user: { image: user, network_mode: none, volumes_from: ['data:ro', 'container:outside'] }
";
    let (before, after) = (project(text), project(&text.replace("image: data,", "image: data, user: '5',")));
    let (old, mut new) = (wanted(&before), wanted(&after));
    let mut there = running(&old);
    let image = ImageMount { image: "tools".into(), image_id: "one".into(), ..ImageMount::default() };
    let mount = Mount { target: "/tools".into(), kind: MountKind::Image(image), read_only: true };
    there.members[1].container.config.runtime.mounts.push(mount);
    let id = |new: &mut [Wanted<'_>], id: &str| new[1].mounted_images = [("tools".to_owned(), id.to_owned())].into();
    id(&mut new, "one");
    assert_eq!(
        lines(&after, &new, &there, &Options::default()),
        ["recreate p-data-1 (user added)", "recreate p-user-1 (mounts the volumes of data, which is recreated)"]
    );
    id(&mut new, "two");
    let told = lines(&after, &new, &there, &Options::default());
    let both = "recreate p-user-1 (mounted image tools changed, mounts the volumes of data, which is recreated)";
    assert_eq!(told[1], both);
}

#[test]
fn a_config_and_a_secret_may_have_one_name() {
    let text = "
services: { web: { image: web, network_mode: none, configs: [same], secrets: [same] } }
configs: { same: { content: one } }
secrets: { same: { environment: NO_SUCH_VARIABLE_HERE } }
";
    let keys = |text: &str| {
        let project = project(text);
        hash::service(&project, &project.services["web"]).unwrap().keys
    };
    let (before, after) = (keys(text), keys(&text.replace("content: one", "content: two")));
    let differ: Vec<&String> = before.keys().filter(|key| before.get(*key) != after.get(*key)).collect();
    assert_eq!(differ, ["config same"]);
    assert!(before.contains_key("secret same"));
}

#[test]
fn what_runs_before_a_service_is_due_once_for_containers_that_have_never_run() {
    let text = "
services:
  web: { image: web, network_mode: none, scale: 2, pre_start: [{ command: a }, { command: b, per_replica: true }] }
";
    let project = project(text);
    let wanted = wanted(&project);
    let due = |there: Vec<Member>| {
        let there = Observed { members: there, ..Observed::default() };
        let planned = plan(&project, &Definitions::default(), &wanted, &there, &Options::default());
        planned.pre_start.get("web").map(|due| due.names.join(" "))
    };
    let one = |number, status| member(&wanted[0], number, status);
    let all = "p-web-pre_start-0 p-web-pre_start-1-1 p-web-pre_start-1-2";
    assert_eq!(due(Vec::new()).unwrap(), all);
    assert_eq!(due(vec![one(1, Status::Created)]).unwrap(), all, "one whose start was interrupted");
    assert_eq!(due(vec![one(1, Status::Exited)]).unwrap(), "p-web-pre_start-1-2");
    assert_eq!(due(vec![one(1, Status::Running), one(2, Status::Exited)]), None);
    let mut left = one(u32::MAX, Status::Running);
    left.container.config.labels.insert(labels::ONEOFF.into(), "True".into());
    left.container.config.labels.insert(labels::HOOK.into(), "pre_start".into());
    let there =
        Observed { members: vec![one(1, Status::Running), one(2, Status::Running), left], ..Observed::default() };
    let told = lines(&project, &wanted, &there, &Options::default());
    assert!(told.len() == 1 && told[0].ends_with("(left by an interrupted command)"), "{told:?}");
}

#[test]
fn update_config_makes_one_rolling_step_and_a_fixed_port_forbids_start_first() {
    let text = |more: &str| {
        format!(
            "services: {{ web: {{ image: web, network_mode: none, scale: 2, user: '{more}', deploy: {{ update_config: \
             {{ order: start-first, parallelism: 2, delay: 1s }} }} }} }}"
        )
    };
    let (before, after) = (project(&text("1")), project(&text("2")));
    let (old, new) = (wanted(&before), wanted(&after));
    let members = vec![member(&old[0], 1, Status::Running), member(&old[0], 2, Status::Running)];
    let there = Observed { members, ..Observed::default() };
    let planned = plan(&after, &Definitions::default(), &new, &there, &Options::default());
    let Action::Roll { old: rolled, rolling, .. } = &planned.steps[0].action else { panic!("{:?}", planned.steps) };
    assert_eq!((planned.steps.len(), rolled.len(), rolling.start_first, rolling.parallelism), (1, 2, true, 2));
}

#[test]
fn hashes_do_not_change_with_the_tool_or_the_order_of_keys() {
    let text = "
services:
  web:
    image: nginx:1.27
    command: [nginx, -g, 'daemon off;']
    environment: { B: '2', A: '1', GONE: null }
    ports: ['8080:80']
    networks: { front: { aliases: [www] }, default: }
    volumes: ['data:/data:ro', './conf:/etc/nginx']
    healthcheck: { test: [CMD, 'true'], interval: 5s }
    labels: { team: web }
    tty: false
    mem_limit: 64m
    configs: [site]
networks: { front: { driver_opts: { com.docker.network.driver.mtu: '1400' } } }
volumes: { data: { driver_opts: { type: tmpfs, device: tmpfs } } }
configs: { site: { content: 'server {}' } }
";
    // The directory of the project stands in bind mounts: fixed, so that the hash is.
    let load = |text: &str| {
        let mut project = project(text);
        for service in project.services.values_mut() {
            for mount in service.volumes.iter_mut().filter(|mount| mount.kind == umiak_compose::VolumeKind::Bind) {
                mount.source = Some("/srv/p/conf".into());
            }
        }
        project
    };
    let hash_of = |text: &str| {
        let project = load(text);
        let service = hash::service(&project, &project.services["web"]).unwrap().hash();
        [service, hash::network(&project.networks["front"]).unwrap(), hash::volume(&project.volumes["data"]).unwrap()]
    };
    let golden = hash_of(text);
    // A change of these means that every container of every project is made anew: only with a new VERSION.
    assert_eq!(golden.each_ref().map(|hash| &hash[..16]), GOLDEN);
    let same = text
        .replace("B: '2', A: '1'", "A: '1', B: '2'")
        .replace("    tty: false\n    mem_limit: 64m\n", "    mem_limit: 9m\n");
    assert_eq!(hash_of(&same), golden, "order, what is off, and limits do not count");
    let other = hash_of(&text.replace("server {}", "server { }"));
    assert!(other[0] != golden[0] && other[1..] == golden[1..], "the content of a config counts");
    let other = hash_of(&text.replace("'1400'", "'1300'"));
    assert!(other[1] != golden[1] && other[0] == golden[0]);
}

const GOLDEN: [&str; 3] = ["2b5ca16af21aff67", "5b079829dc260a1d", "38adbedd5cd63668"];
