//! A container of busybox for a test: made, run, and taken away whatever happens.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use rustix::io::{FdFlags, fcntl_setfd};
use umiak_runtime::Config;
use umiak_runtime::cgroup::Cgroup;
use umiak_runtime::config::Rootfs;
use umiak_runtime::exec::Exec;
use umiak_runtime::report::{self, Report};

/// Programs that are links to busybox.
const APPLETS: &str = "[ cat chmod cut date dd echo env false grep head hostname id kill ls mkdir mknod mount nproc ps pwd \
    readlink rm sh sleep sort stat tail tee test touch true tty ulimit umount uname wc yes";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n";
const GROUP: &str = "root:x:0:\nalice:x:1000:\nextra:x:2000:alice\n";

/// One image layer for all tests of this process.
static LAYER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let layer = tempfile::tempdir().unwrap();
    let root = layer.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    for directory in ["bin", "etc", "proc", "sys", "dev", "root", "tmp", "home/alice"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    for applet in APPLETS.split_ascii_whitespace() {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    for (name, text, mode) in [
        ("etc/passwd", PASSWD, 0o644),
        ("etc/group", GROUP, 0o644),
        ("bin/garbage", "neither ELF nor script\n", 0o755),
        ("bin/noexec", "#!/bin/sh\n", 0o644),
    ] {
        fs::write(root.join(name), text).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    layer
});

/// The helper program (`examples/child.rs`).
fn helper() -> PathBuf {
    example("child")
}

/// The program that tries system calls (`examples/probe.rs`).
pub fn probe() -> PathBuf {
    example("probe")
}

/// `cargo test` builds the examples beside the tests.
fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: build it with `cargo build -p umiak-runtime --examples`", path.display());
    path
}

/// A container, not yet running.
pub struct Container {
    directory: tempfile::TempDir,
    /// To be changed before it runs.
    pub config: Config,
}

/// One that was asked to run.
pub struct Running {
    watcher: Child,
    output: File,
    report: Option<Report>,
    console: Option<OwnedFd>,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// The program's exit code.
    pub code: i32,
    /// Its stdout and stderr.
    pub output: String,
    /// Why it did not start, outermost first.
    pub error: Option<Vec<String>>,
}

impl Container {
    /// Runs `args` in busybox.
    pub fn new(args: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("bundle")).unwrap();
        let id = umiak_base::id::new_id().unwrap();
        let rootfs = Rootfs {
            layers: vec![LAYER.path().to_owned()],
            upper: at("upper"),
            work: at("work"),
            merged: at("merged"),
            read_only: false,
        };
        let config = Config {
            cgroup_path: format!("/umiak-test-{}/{id}", std::process::id()),
            id,
            hostname: "box".into(),
            args: args.iter().map(ToString::to_string).collect(),
            rootfs,
            ..Config::default()
        };
        Self { directory, config }
    }

    /// Runs a shell script.
    pub fn script(text: &str) -> Self {
        Self::new(&["sh", "-c", text])
    }

    /// With something changed.
    pub fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// A directory on the host for this test alone.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An image layer of its own, over busybox.
    pub fn layer(mut self, fill: impl FnOnce(&Path)) -> Self {
        let layer = self.path("layer");
        fs::create_dir(&layer).unwrap();
        fill(&layer);
        self.config.rootfs.layers.insert(0, layer);
        self
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> Cgroup {
        Cgroup::new(&self.config.cgroup_path).unwrap()
    }

    /// Runs it to its end.
    pub fn run(self) -> Ended {
        let running = self.start();
        running.wait()
    }

    /// Starts it.
    pub fn start(&self) -> Running {
        let config = self.path("config.json");
        fs::write(&config, serde_json::to_vec(&self.config).unwrap()).unwrap();
        self.watch("create", &[])
    }

    /// Starts one more program in it.
    pub fn exec(&self, running: &Running, request: &Exec) -> Running {
        let request = serde_json::to_string(request).unwrap();
        self.watch("exec", &[running.pid().to_string(), request])
    }

    fn watch(&self, verb: &str, more: &[String]) -> Running {
        let (here, there) = report::socket_pair().unwrap();
        fcntl_setfd(&there, FdFlags::empty()).unwrap();
        let (output, write) = std::io::pipe().unwrap();
        let mut command = Command::new(helper());
        command.args(["watch", verb, &there.as_raw_fd().to_string()]);
        command.args([self.path("config.json"), self.path("bundle"), self.path("state")]);
        command.args(more).stdin(Stdio::null()).stdout(write.try_clone().unwrap()).stderr(write);
        let watcher = command.spawn().unwrap();
        drop((command, there));
        let received = report::receive(here.as_fd()).unwrap();
        let (report, console) = received.map_or((None, None), |(report, console)| (Some(report), console));
        Running { watcher, output: OwnedFd::from(output).into(), report, console }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Ok(cgroup) = Cgroup::new(&self.config.cgroup_path) {
            let _ = cgroup.kill_all();
            let _ = cgroup.remove();
        }
    }
}

impl Running {
    /// Pid of the program.
    pub fn pid(&self) -> u32 {
        match &self.report {
            Some(Report::Started { pid }) => *pid,
            other => panic!("it did not start: {other:?}"),
        }
    }

    /// Its terminal.
    pub fn console(&mut self) -> File {
        self.console.take().expect("it has a terminal").into()
    }

    /// Reads its output until `text` has come.
    pub fn expect(&mut self, text: &str) {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            let mut buffer = [0; 4096];
            let count = self.output.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "ended without {text:?}: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..count]);
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let mut output = Vec::new();
        self.output.read_to_end(&mut output).unwrap();
        let code = self.watcher.wait().unwrap().code().unwrap_or(-1);
        let error = match self.report.take() {
            Some(Report::Failed { chain, .. }) => Some(chain),
            Some(Report::Started { .. }) => None,
            None => Some(vec!["the child ended without a report".to_owned()]),
        };
        Ended { code, output: String::from_utf8_lossy(&output).into_owned(), error }
    }
}

impl Ended {
    /// The output of a program that ended well.
    pub fn ok(self) -> String {
        assert_eq!((self.code, &self.error), (0, &None), "{}", self.output);
        self.output
    }

    /// The outermost reason of one that did not start.
    pub fn reason(&self) -> String {
        self.error.as_ref().unwrap_or_else(|| panic!("it started: {self:?}")).join(": ")
    }
}
