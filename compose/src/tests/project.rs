//! Loading as commands use it: selection, order, profiles, what is opened, what cannot run yet.

use std::collections::BTreeMap;

use crate::{LoadError, LoadOptions, Project, load};

fn project(files: &[(&str, &str)], change: impl FnOnce(&mut LoadOptions)) -> Result<Project, LoadError> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mut options = LoadOptions { current_dir: directory.path().to_path_buf(), ..LoadOptions::default() };
    change(&mut options);
    load(&options)
}

fn names<'a>(services: impl IntoIterator<Item = &'a crate::Service>) -> Vec<&'a str> {
    services.into_iter().map(|service| service.name.as_str()).collect()
}

const STACK: &str = "
services:
  web: {image: x, depends_on: [api, cache]}
  api: {image: x, depends_on: [db]}
  cache: {image: x}
  db: {image: x}
  debug: {image: x, profiles: [debug], depends_on: [db]}
";

#[test]
fn selection_takes_dependencies_along() {
    let project = project(&[("compose.yaml", STACK)], |_| {}).unwrap();
    assert_eq!(names(project.select(&[], false).unwrap()), ["web", "api", "cache", "db"]);
    assert_eq!(names(project.select(&["api".to_owned()], true).unwrap()), ["api", "db"]);
    assert_eq!(names(project.select(&["api".to_owned()], false).unwrap()), ["api"]);
    let unknown = project.select(&["wbe".to_owned()], true).unwrap_err();
    assert_eq!((unknown.to_string(), unknown.nearest.as_deref()), ("no such service: wbe".to_owned(), Some("web")));
}

#[test]
fn levels_put_dependencies_first() {
    let project = project(&[("compose.yaml", STACK)], |_| {}).unwrap();
    let all = project.select(&[], false).unwrap();
    let levels: Vec<Vec<&str>> = project.levels(&all).unwrap().into_iter().map(names).collect();
    assert_eq!(levels, [vec!["cache", "db"], vec!["api"], vec!["web"]]);
    let some = project.select(&["web".to_owned()], false).unwrap();
    assert_eq!(project.levels(&some).unwrap().len(), 1);
}

#[test]
fn naming_a_service_activates_its_profiles() {
    let files = [("compose.yaml", STACK)];
    assert!(project(&files, |_| {}).unwrap().disabled_services.contains_key("debug"));
    let named = project(&files, |options| options.services = vec!["debug".to_owned()]).unwrap();
    assert!(named.services.contains_key("debug"));
    let profile = project(&files, |options| options.profiles = vec!["debug".to_owned()]).unwrap();
    assert_eq!(profile.services.len(), 5);
}

#[test]
fn environment_files_of_other_services_are_not_opened() {
    let text = "services:\n  a: {image: x}\n  b: {image: x, env_file: missing.env}\n";
    assert!(project(&[("compose.yaml", text)], |_| {}).is_err());
    assert!(project(&[("compose.yaml", text)], |options| options.services = vec!["a".to_owned()]).is_ok());
}

#[test]
fn what_cannot_run_is_an_error_only_when_running() {
    let text =
        "services:\n  a: {image: x, use_api_socket: true}\n  b: {image: x, use_api_socket: true, profiles: [never]}\n";
    let shown = project(&[("compose.yaml", text)], |_| {}).unwrap();
    assert_eq!(shown.unsupported.len(), 1);
    let error = project(&[("compose.yaml", text)], |options| options.for_running = true).unwrap_err();
    assert_eq!(error.0, shown.unsupported);
    assert!(error.to_string().starts_with("compose.yaml:2:17: services.a.use_api_socket: "), "{error}");
}

#[test]
fn process_environment_wins_over_env_files() {
    let text = "services: {a: {image: \"${A}-${B}\", environment: [A, B]}}";
    let files = [("compose.yaml", text), (".env", "A=file\nB=file\n")];
    let environment = BTreeMap::from([("A".to_owned(), "process".to_owned())]);
    let project = project(&files, |options| options.environment = environment).unwrap();
    let service = &project.services["a"];
    assert_eq!(service.image.as_deref(), Some("process-file"));
    assert_eq!(service.environment["B"].as_deref(), Some("file"));
}

#[test]
fn unused_resources_are_dropped_unless_asked_for() {
    let text = "services: {a: {image: x}}\nvolumes: {v: {}}\nnetworks: {n: {}}\n";
    let files = [("compose.yaml", text)];
    let used = project(&files, |_| {}).unwrap();
    assert!(used.volumes.is_empty() && used.networks.len() == 1);
    let all = project(&files, |options| options.all_resources = true).unwrap();
    assert_eq!((all.volumes["v"].name.ends_with("_v"), all.networks.len()), (true, 2));
}

#[test]
fn secrets_know_their_content() {
    use crate::FileSource;
    let text = "
services: {a: {image: x, secrets: [e, f, u], configs: [c]}}
secrets: {e: {environment: TOKEN}, f: {file: ./f}, u: {environment: NOT_SET}}
configs: {c: {content: 'a$$b'}}
";
    let project = project(&[("compose.yaml", text), (".env", "TOKEN=t")], |_| {}).unwrap();
    assert_eq!(project.secrets["e"].source(), FileSource::Content("t"));
    assert_eq!(project.secrets["f"].source(), FileSource::File(&project.working_dir.join("f")));
    assert_eq!(project.secrets["u"].source(), FileSource::UnsetVariable("NOT_SET"));
    assert_eq!(project.configs["c"].source(), FileSource::Content("a$b"));
    assert_eq!(project.services["a"].secrets[0].secret_target(), "/run/secrets/e");
    assert_eq!(project.services["a"].configs[0].config_target(), "/c");
}

#[test]
fn nothing_to_load_is_said() {
    let error = project(&[("other.yaml", STACK)], |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "no configuration file provided: not found");
    let error = project(&[], |options| options.files = vec!["nowhere.yaml".into()]).unwrap_err();
    assert_eq!(error.to_string(), "cannot read nowhere.yaml: no such file or directory");
    let error = project(&[], |options| options.env_files = vec!["no.env".into()]).unwrap_err();
    assert!(error.to_string().starts_with("couldn't find env file: /"), "{error}");
}
