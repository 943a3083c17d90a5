//! The labels that say which project, service and replica a container, network
//! or volume belongs to. Docker's names, because other tools go by them.

pub const PROJECT: &str = "com.docker.compose.project";
pub const SERVICE: &str = "com.docker.compose.service";
pub const NUMBER: &str = "com.docker.compose.container-number";
pub const ONEOFF: &str = "com.docker.compose.oneoff";
pub const CONFIG_HASH: &str = "com.docker.compose.config-hash";
pub const VERSION: &str = "com.docker.compose.version";
pub const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
pub const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
pub const ENVIRONMENT_FILE: &str = "com.docker.compose.project.environment_file";
pub const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// Which hook of a service a container was made for, the place of its step, and the replica if it is for one alone.
pub const HOOK: &str = "com.docker.compose.hook";
pub const HOOK_INDEX: &str = "com.docker.compose.hook.index";
pub const HOOK_REPLICA: &str = "com.docker.compose.hook.replica";
/// What makes a container of `run` unique.
pub const SLUG: &str = "com.docker.compose.slug";
pub const IMAGE: &str = "com.docker.compose.image";
pub const NETWORK: &str = "com.docker.compose.network";
pub const VOLUME: &str = "com.docker.compose.volume";
