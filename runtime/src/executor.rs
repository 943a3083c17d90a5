//! What happens in the container's first process between libcontainer's set-up
//! and the program. It takes over as root with all capabilities, and steps down
//! in this order:
//!
//! 1. a session keyring of its own, the working directory (made where missing,
//!    and verified to be inside the root: CVE-2024-21626), owner of stdio;
//! 2. bounding set, groups, user; effective and permitted sets are the final
//!    ones but for `CAP_SYS_ADMIN`, which loading a filter takes where
//!    `no_new_privs` is not wanted;
//! 3. the program is looked up, with the rights it will run with;
//! 4. (`start`) the seccomp filter, then the final capability sets, then
//!    `execve`; with `init`, in a child of the reaper that stays as PID 1.
//!
//! Nothing that is compiled, parsed or read happens after the clone.

use std::cell::RefCell;
use std::ffi::CString;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use rustix::fs::{Access, AtFlags, CWD, Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::capabilities::{CapSet, Capability};
use crate::report::{Failure, Pipe};
use crate::seccomp::Instruction;
use crate::{init, sys};

/// The program and the rights it runs with; plain data, ready before any process is cloned.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Program and arguments.
    pub args: Vec<CString>,
    /// Environment.
    pub env: Vec<CString>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Make the working directory where it is missing.
    pub make_cwd: bool,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Bounding set, and what root holds.
    pub caps: CapSet,
    /// Set `no_new_privs`.
    pub no_new_privileges: bool,
    /// The compiled filter.
    pub filter: Option<Rc<[Instruction]>>,
    /// Stay as PID 1 and reap.
    pub init: bool,
    /// Stay between the caller and the program, collect what the program leaves behind, and write its exit code to this
    /// descriptor (see `init.rs`).
    pub collect: Option<i32>,
    /// Stdio is a terminal of the container.
    pub tty: bool,
}

/// libcontainer's executor, as described above.
#[derive(Debug, Clone)]
pub struct Program {
    launch: Rc<Launch>,
    report: Arc<Pipe>,
    found: Rc<RefCell<Option<CString>>>,
}

impl Program {
    /// Failures are written to `report` before they are returned: libcontainer keeps one line of them.
    #[must_use]
    pub fn new(launch: Launch, report: Arc<Pipe>) -> Self {
        Self { launch: Rc::new(launch), report, found: Rc::new(RefCell::new(None)) }
    }
}

impl Executor for Program {
    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        match self.launch.prepare() {
            Ok(program) => {
                self.found.replace(Some(program));
                Ok(())
            }
            Err(failure) => {
                let text = failure.to_string();
                self.report.failure(&failure);
                Err(ExecutorValidationError::ArgValidationError(text))
            }
        }
    }

    // The environment goes to execve as it is: set here, it would lose its order and pass through the C library.
    fn setup_envs(&self, _: std::collections::HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, _spec: &Spec) -> Result<(), ExecutorError> {
        let found = self.found.take();
        let failure = match found {
            Some(program) => self.launch.run(&program, &self.report),
            None => Failure::Step { step: "start the program".to_owned(), reason: "it was not looked up".to_owned() },
        };
        self.report.failure(&failure);
        sys::exit_now(failure.exit_code())
    }
}

fn step<T>(name: &str, result: Result<T, impl Into<io::Error>>) -> Result<T, Failure> {
    result.map_err(|error| Failure::Step { step: name.to_owned(), reason: reason(&error.into()) })
}

/// The kernel's words, without Rust's "(os error N)".
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

impl Launch {
    /// Steps 1 to 3; returns the path of the program.
    fn prepare(&self) -> Result<CString, Failure> {
        step("get a session keyring", sys::new_session_keyring())?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        self.enter_cwd()?;
        self.own_stdio();
        self.drop_bounding()?;
        step("set the supplementary groups", self.set_groups())?;
        step("become the user", self.become_user())?;
        let waiting = if self.needs_admin() { self.held().with(Capability::SysAdmin) } else { self.held() };
        step("drop capabilities", set_capabilities(self.held(), waiting))?;
        self.look_up()
    }

    /// What the program's process holds: everything its container may for root, nothing for others (as Docker).
    const fn held(&self) -> CapSet {
        if self.uid == 0 { self.caps } else { CapSet(0) }
    }

    const fn needs_admin(&self) -> bool {
        self.filter.is_some() && !self.no_new_privileges
    }

    fn enter_cwd(&self) -> Result<(), Failure> {
        let failed = |what: &str, error: &io::Error| Failure::Cwd {
            path: self.cwd.display().to_string(),
            reason: format!("{what}{}", reason(error)),
        };
        if let Err(error) = rustix::process::chdir(&self.cwd) {
            if error != Errno::NOENT || !self.make_cwd {
                return Err(failed("", &error.into()));
            }
            std::fs::create_dir_all(&self.cwd).map_err(|error| failed("mkdir: ", &error))?;
            rustix::process::chdir(&self.cwd).map_err(|error| failed("", &error.into()))?;
        }
        // A directory outside the root, reached through a leaked descriptor, has no path here.
        match rustix::process::getcwd(Vec::new()) {
            Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
            Ok(_) => Err(failed("it lies outside the container's root", &io::Error::other(""))),
            Err(error) => Err(failed("it lies outside the container's root: ", &error.into())),
        }
    }

    /// Pipes and the container's terminal belong to the user, or a program could not open /dev/stdout. Nothing else is touched:
    /// a descriptor may be a file or terminal of the host.
    fn own_stdio(&self) {
        const PIPEFS: u64 = 0x5049_5045;
        const DEVPTS: u64 = 0x1cd1;
        for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
            // The type of `f_type` differs between C libraries and architectures.
            #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, trivial_numeric_casts)]
            let kind = rustix::fs::fstatfs(fd).map_or(0, |stat| stat.f_type as u64);
            if kind == PIPEFS || (kind == DEVPTS && self.tty) {
                // Failing to (a read-only or foreign file system) leaves the descriptor usable as it is.
                let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(self.uid)), None);
            }
        }
    }

    fn drop_bounding(&self) -> Result<(), Failure> {
        let host = step("read the bounding set", CapSet::host())?;
        let mut surplus = host.0 & !self.caps.0;
        while surplus != 0 {
            let number = surplus.trailing_zeros();
            surplus &= surplus - 1;
            let cap = CapabilitySet::from_bits_retain(1 << number);
            step("drop the bounding set", rustix::thread::remove_capability_from_bounding_set(cap))?;
        }
        step("clear the ambient set", rustix::thread::clear_ambient_capability_set())
    }

    fn set_groups(&self) -> rustix::io::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        rustix::thread::set_thread_groups(&groups)?;
        let gid = Gid::from_raw(self.gid);
        rustix::thread::set_thread_res_gid(gid, gid, gid)
    }

    fn become_user(&self) -> rustix::io::Result<()> {
        rustix::thread::set_keep_capabilities(true)?;
        let uid = Uid::from_raw(self.uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        rustix::thread::set_keep_capabilities(false)
    }

    /// Docker's rules and words: a name with a slash is a path, another is searched in the PATH the container gets.
    fn look_up(&self) -> Result<CString, Failure> {
        let name = self.args.first().map_or(c"".to_owned(), Clone::clone);
        let shown = String::from_utf8_lossy(name.as_bytes()).into_owned();
        let refused = |reason: &str| Failure::NotExecutable { name: shown.clone(), reason: reason.to_owned() };
        if name.as_bytes().contains(&b'/') {
            return match usable(&name) {
                Ok(()) => Ok(name),
                Err(Unusable::Stat(error)) => {
                    let text = format!("stat {shown}: {}", reason(&error.into()));
                    let missing = matches!(error, Errno::NOENT | Errno::NOTDIR);
                    Err(if missing { Failure::NotFound { name: shown, reason: text } } else { refused(&text) })
                }
                Err(Unusable::Directory) => Err(refused("is a directory: permission denied")),
                Err(Unusable::Mode) => Err(refused("permission denied")),
            };
        }
        let found = self.search_path().split(|byte| *byte == b':').find_map(|directory| {
            // Relative entries would run what lies in the working directory: skipped, as Go does.
            let relative = !directory.starts_with(b"/") || name.is_empty();
            let path = CString::new([directory, b"/", name.as_bytes()].concat()).ok().filter(|_| !relative)?;
            usable(&path).is_ok().then_some(path)
        });
        found.ok_or(Failure::NotFound { name: shown, reason: "executable file not found in $PATH".to_owned() })
    }

    fn search_path(&self) -> &[u8] {
        let entry = self.env.iter().rev().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
        entry.unwrap_or_default()
    }

    /// Step 4. Returns only when it failed.
    fn run(&self, program: &CString, report: &Pipe) -> Failure {
        match self.finish() {
            Ok(()) => {}
            Err(failure) => return failure,
        }
        if self.stays() {
            if self.collect.is_some() {
                // Before the fork: only children born under it come back to it.
                let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
            }
            let line = init::command_line(&self.args);
            match (step("fork the program", sys::fork()), self.collect) {
                (Err(failure), _) => return failure,
                (Ok(0), _) => init::become_foreground(self.tty),
                (Ok(child), None) => init::reap_until_gone(child, &line),
                (Ok(child), Some(status)) => init::collect_all(child, status),
            }
        } else {
            sys::reset_signals();
        }
        let error = match nix::unistd::execve(program, &self.args, &self.env) {
            Ok(never) => match never {},
            Err(error) => io::Error::from(error),
        };
        let path = String::from_utf8_lossy(program.as_bytes()).into_owned();
        let failure = Failure::Exec { path, reason: reason(&error) };
        if self.stays() {
            report.failure(&failure);
            sys::exit_now(failure.exit_code());
        }
        failure
    }

    /// Whether this process becomes the program's parent rather than the program.
    const fn stays(&self) -> bool {
        self.init || self.collect.is_some()
    }

    fn finish(&self) -> Result<(), Failure> {
        if self.stays() {
            sys::block_signals();
        }
        if self.no_new_privileges {
            step("set no_new_privs", rustix::thread::set_no_new_privs(true))?;
        }
        if let Some(filter) = &self.filter {
            if self.needs_admin() {
                let admin = self.held().with(Capability::SysAdmin);
                step("raise CAP_SYS_ADMIN for the filter", set_capabilities(admin, admin))?;
            }
            step("load the seccomp filter", sys::load_filter(filter))?;
        }
        step("drop capabilities", set_capabilities(self.held(), self.held()))
    }
}

enum Unusable {
    Stat(Errno),
    Directory,
    Mode,
}

fn usable(path: &CString) -> Result<(), Unusable> {
    let stat = rustix::fs::stat(path).map_err(Unusable::Stat)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
        return Err(Unusable::Directory);
    }
    // Some mode bit first: root may "execute" anything otherwise.
    let executable = stat.st_mode & 0o111 != 0;
    let allowed = rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok();
    if executable && allowed { Ok(()) } else { Err(Unusable::Mode) }
}

fn set_capabilities(effective: CapSet, permitted: CapSet) -> rustix::io::Result<()> {
    let set = |caps: CapSet| CapabilitySet::from_bits_retain(caps.0);
    let sets =
        CapabilitySets { effective: set(effective), permitted: set(permitted), inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}
