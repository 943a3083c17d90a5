//! `env_file` and `label_file`: read for the services that are meant, merged below `environment` and `labels`.

use std::collections::HashSet;
use std::path::Path;

use super::environment::read_file;
use super::interpolate::Environment;
use super::load::display_name;
use super::model::{Project, Service};
use super::node::Problems;

/// Reads the files of the named services and of what they depend on; of all services when none is named.
pub(crate) fn resolve(project: &mut Project, named: &[String], current_dir: &Path, problems: &mut Problems) {
    let wanted: HashSet<String> = match project.select(named, true) {
        Ok(services) => services.into_iter().map(|service| service.name.clone()).collect(),
        // the command says which service is unknown
        Err(_) => HashSet::new(),
    };
    let environment = std::mem::take(&mut project.environment);
    let mut reader = Reader { environment: &environment, current_dir, problems };
    for service in project.services.values_mut() {
        // what is passed through takes its value from the project's environment
        for (name, value) in service.environment.iter_mut().filter(|(_, value)| value.is_none()) {
            *value = environment.get(name).cloned();
        }
        if wanted.contains(&service.name) {
            reader.env_files(service);
            reader.label_files(service);
        }
    }
    project.environment = environment;
}

struct Reader<'a> {
    environment: &'a Environment,
    current_dir: &'a Path,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn env_files(&mut self, service: &mut Service) {
        if service.env_file.is_empty() {
            return;
        }
        let own = &service.environment;
        let set = own.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        let mut vars: Environment = set.collect();
        let lookup = |name: &str| {
            let project = self.environment.get(name).cloned();
            project.or_else(|| own.get(name).cloned().flatten())
        };
        for file in std::mem::take(&mut service.env_file) {
            let name = display_name(&file.path, self.current_dir);
            match self.problems.disk.exists(&file.path) {
                true => {
                    // what is wrong has been reported
                    let _ = read_file(&file.path, &name, file.raw, &mut vars, &lookup, self.problems);
                }
                false if file.required => {
                    self.problems.error(service.at("env_file"), format!("env file {name} not found")).help =
                        Some("with `required: false` it may be missing".to_owned());
                }
                false => {}
            }
        }
        let own = std::mem::take(&mut service.environment);
        service.environment = vars.into_iter().map(|(name, value)| (name, Some(value))).collect();
        service.environment.extend(own);
    }

    fn label_files(&mut self, service: &mut Service) {
        if service.label_file.is_empty() {
            return;
        }
        let mut labels = Environment::new();
        for file in std::mem::take(&mut service.label_file) {
            let name = display_name(&file, self.current_dir);
            if !self.problems.disk.exists(&file) {
                self.problems.error(service.at("label_file"), format!("label file {name} not found"));
                continue;
            }
            let seen = labels.clone();
            let lookup = |name: &str| seen.get(name).cloned();
            let _ = read_file(&file, &name, false, &mut labels, &lookup, self.problems);
        }
        let own = std::mem::take(&mut service.labels);
        service.labels = labels.into_iter().collect();
        service.labels.extend(own);
    }
}
