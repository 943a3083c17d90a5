//! Which services take part.

use super::model::{Project, Service};

/// Moves services whose profiles are not active out of the project. Naming a service activates its profiles.
pub(crate) fn activate(project: &mut Project, mut profiles: Vec<String>, named: &[String]) {
    let is_active = |service: &Service, profiles: &[String]| {
        service.profiles.is_empty()
            || profiles.iter().any(|profile| profile == "*" || service.profiles.contains(profile))
    };
    for name in named {
        if let Some(service) = project.services.get(name).filter(|service| !is_active(service, &profiles)) {
            profiles.extend(service.profiles.iter().cloned());
        }
    }
    let (active, disabled) = std::mem::take(&mut project.services)
        .into_iter()
        .partition(|(_, service): &(String, Service)| is_active(service, &profiles));
    profiles.retain(|profile| !profile.is_empty());
    (project.services, project.disabled_services, project.profiles) = (active, disabled, profiles);
}
