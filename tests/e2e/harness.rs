//! What tests stand on: a host of their own, commands with a deadline, and the
//! proof that nothing was left.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use umiak_base::FileLock;

/// No command may take longer; a hang fails its test instead of the whole run.
const DEADLINE: Duration = Duration::from_secs(180);
/// For what comes by itself, like a server that starts.
const PATIENCE: Duration = Duration::from_secs(90);
const REGISTRY: &str = "127.0.0.1:5000";

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Data root and run root of one test. Everything in them goes when it is dropped, and nothing may be left then.
#[derive(Debug)]
pub struct Host {
    dir: TempDir,
    mounted: bool,
    program: PathBuf,
    subnets: Reserved,
}

/// A number that no other test has, of whatever process, until it is dropped.
#[derive(Debug)]
struct Reserved {
    number: usize,
    _lock: FileLock,
}

impl Reserved {
    /// The first free one of `range`, begun at a place that differs from test to test; none where all are taken.
    fn of(kind: &str, range: std::ops::Range<usize>) -> Option<Self> {
        let dir = shared_store().join("locks");
        private_dir(&dir);
        let begin = usize::try_from(std::process::id()).unwrap() * 7 % range.len();
        let mut numbers = (begin..range.len()).chain(0..begin).map(|place| range.start + place);
        numbers.find_map(|number| {
            let lock = FileLock::try_exclusive(&dir.join(format!("{kind}-{number}"))).unwrap()?;
            Some(Self { number, _lock: lock })
        })
    }
}

/// The binary under test.
pub fn binary() -> PathBuf {
    match std::env::var_os("UMIAK_BIN") {
        Some(path) => PathBuf::from(path),
        None => option_env!("CARGO_BIN_EXE_umiak").map(PathBuf::from).expect("UMIAK_BIN names the binary"),
    }
}

/// Where images are kept for all tests, so that each is pulled once.
fn shared_store() -> PathBuf {
    std::env::temp_dir().join("umiak-e2e-store")
}

fn registries() -> PathBuf {
    std::env::var_os("UMIAK_REGISTRIES").map_or_else(|| "/var/cache/umiak-images/registries.toml".into(), PathBuf::from)
}

/// A directory that is closed to others: images have setuid files.
fn private_dir(dir: &Path) {
    let mut private = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(private.recursive(true), 0o700).create(dir).unwrap();
}

/// Why end-to-end tests cannot run here.
fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("they need root".into());
    }
    let address = REGISTRY.parse().ok()?;
    let registry = TcpStream::connect_timeout(&address, Duration::from_secs(5));
    registry.err().map(|error| format!("no registry answers on {REGISTRY} ({error}): start it with scripts/images"))
}

impl Host {
    /// A host on which `images` are there already; `None` where the test cannot run, which `UMIAK_MUST_RUN=1` forbids.
    pub fn new(images: &[&str]) -> Option<Self> {
        let host = Self::bare()?;
        let shared = shared_store();
        private_dir(&shared);
        fs::create_dir_all(host.root()).unwrap();
        for part in ["images", "layers"] {
            fs::create_dir_all(shared.join(part)).unwrap();
            std::os::unix::fs::symlink(shared.join(part), host.root().join(part)).unwrap();
        }
        for image in images {
            host.ok(&["image", "pull", "-q", image]);
        }
        Some(host)
    }

    /// As [`Host::new`], with a program that has debug assertions, whatever build the other tests are about.
    pub fn with_debug_assertions(images: &[&str]) -> Option<Self> {
        let program = option_env!("CARGO_BIN_EXE_umiak").map_or_else(binary, PathBuf::from);
        let mut host = Self::new(images)?;
        host.program = program;
        Some(host)
    }

    /// A host with an image store of its own, and nothing in it.
    pub fn bare() -> Option<Self> {
        if let Some(why) = obstacle() {
            assert!(std::env::var("UMIAK_MUST_RUN").is_err(), "end-to-end tests must run, but {why}");
            eprintln!("skipped: {why}");
            return None;
        }
        Some(Self {
            dir: tempfile::Builder::new().prefix("u").rand_bytes(6).tempdir_in("/tmp").unwrap(),
            mounted: false,
            program: binary(),
            subnets: Reserved::of("subnets", 0..256).expect("a range of addresses that no other test has"),
        })
    }

    /// A host whose data root is a file system of `size` (as for `mount -o size=`).
    pub fn small(size: &str) -> Option<Self> {
        let mut host = Self::bare()?;
        fs::create_dir_all(host.root()).unwrap();
        let root = host.root();
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "umiak-e2e"]).arg(&root).status();
        assert!(status.unwrap().success(), "mount a tmpfs");
        host.mounted = true;
        Some(host)
    }

    /// A host whose data root is an ext4 of this size and number of inodes, on a loop device.
    pub fn on_ext4(size: &str, inodes: &str) -> Option<Self> {
        let mut host = Self::bare()?;
        fs::create_dir_all(host.root()).unwrap();
        let (root, file) = (host.root(), host.path().join("disk"));
        let (root, file) = (root.to_str().unwrap(), file.to_str().unwrap());
        tool("truncate", &["-s", size, file]);
        tool("mkfs.ext4", &["-q", "-F", "-m", "0", "-N", inodes, file]);
        tool("mount", &["-o", "loop", file, root]);
        host.mounted = true;
        Some(host)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn root(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn run_root(&self) -> PathBuf {
        self.path().join("run")
    }

    /// Where Compose files lie: the project is named after it.
    pub fn project(&self) -> PathBuf {
        let dir = self.path().join("demo");
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Writes a file of the project.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.project().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// The program with these arguments, in the project's directory, with nothing of the caller's environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        self.prepare(&mut command);
        command.args(args);
        command
    }

    /// The settings of registries: the test's own, where it has written some.
    fn registries(&self) -> PathBuf {
        let own = self.path().join("registries.toml");
        if own.exists() { own } else { registries() }
    }

    /// Ranges of addresses of this host's own: the choices of two that do not know each other would fall on the same.
    /// Where the machine has them already, those that are usual.
    fn pools(&self) -> String {
        let [high, low] = [self.subnets.number / 4, self.subnets.number % 4 * 64];
        format!("10.{}.{low}.0/18,172.16.0.0/12,192.168.0.0/16", 64 + high)
    }

    fn prepare(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path())
            .env("UMIAK_ROOT", self.root())
            .env("UMIAK_RUN_ROOT", self.run_root())
            .env("UMIAK_REGISTRIES", self.registries())
            .env("UMIAK_ADDRESS_POOLS", self.pools())
            .current_dir(self.project())
            .stdin(Stdio::null());
    }

    /// Another program, which finds this host through its environment.
    pub fn other(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        self.prepare(&mut command);
        command.args(args);
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Done {
        finish(self.command(args), b"", &format!("umiak {}", args.join(" ")))
    }

    /// Runs the program with something on its standard input.
    pub fn feed(&self, args: &[&str], input: &[u8]) -> Done {
        finish(self.command(args), input, &format!("umiak {}", args.join(" ")))
    }

    /// Runs the program, which must succeed; its output without the last line's end.
    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "umiak {}\n{}{}", args.join(" "), done.out, done.err);
        done.out.trim_end().to_owned()
    }

    /// Runs the program, which must fail with this code; what it says.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, code, "umiak {}\n{}{}", args.join(" "), done.out, done.err);
        done.err
    }

    /// Runs the program, which must print one JSON document.
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(args);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("umiak {}: {error}\n{text}", args.join(" ")))
    }

    /// Runs the program, which must print one JSON object per line.
    pub fn lines(&self, args: &[&str]) -> Vec<Value> {
        self.ok(args).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// `container inspect` of one container.
    pub fn inspect(&self, name: &str) -> Value {
        self.json(&["container", "inspect", name])[0].take()
    }

    /// Waits for `State` of a container to be as `wanted`; all of what `inspect` shows then.
    pub fn until(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{name}: {what}"), || {
            let shown = self.inspect(name);
            if wanted(&shown["State"]) { Ok(shown) } else { Err(shown["State"].to_string()) }
        })
    }

    /// Waits until a command shows this: what was written a moment ago may still be on its way into a log.
    pub fn shows(&self, args: &[&str], wanted: &str) {
        eventually(&format!("{args:?} shows {wanted:?}"), || match self.ok(args) {
            now if now == wanted => Ok(()),
            now => Err(now),
        });
    }

    /// Waits until nothing is left of what these were; processes may still be on their way out.
    pub fn is_cleared(&self, ids: &BTreeSet<String>, networks: &BTreeSet<String>, when: &str) {
        eventually(&format!("nothing is left, {when}"), || match self.leftovers(ids, networks) {
            left if left.is_empty() => Ok(()),
            left => Err(left.join("\n")),
        });
    }

    /// The address of a container on a network.
    pub fn address(&self, name: &str, network: &str) -> String {
        let inspected = self.inspect(name);
        let address = inspected["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().unwrap_or_default();
        assert!(!address.is_empty(), "{name} has no address on {network}: {}", inspected["NetworkSettings"]);
        address.to_owned()
    }

    /// Ids of all containers.
    pub fn ids(&self) -> BTreeSet<String> {
        let dir = self.root().join("containers");
        // One without a config is gone, and on its way out.
        let is_there = |name: &String| name.len() == 64 && dir.join(name).join("config.json").exists();
        names_in(&dir).into_iter().filter(is_there).collect()
    }

    /// What must not be there once everything has been removed, in words.
    pub fn leftovers(&self, ids: &BTreeSet<String>, networks: &BTreeSet<String>) -> Vec<String> {
        let mut found = Vec::new();
        for dir in ["containers", "networks", "projects"] {
            found.extend(
                names_in(&self.root().join(dir))
                    .into_iter()
                    .filter(|n| n != ".names")
                    .map(|n| format!("data root: {dir}/{n}")),
            );
        }
        let names = self.root().join("containers/.names");
        found.extend(names_in(&names).into_iter().map(|n| format!("data root: the name {n}")));
        for dir in ["containers", "netns", "dns", "state"] {
            found.extend(names_in(&self.run_root().join(dir)).into_iter().map(|n| format!("run root: {dir}/{n}")));
        }
        let mine = self.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let is_data_root = |line: &&str| self.mounted && line.split(' ').nth(4) == self.root().to_str();
        found.extend(mounts.lines().filter(|l| l.contains(mine) && !is_data_root(l)).map(|l| format!("mount: {l}")));
        let own = self.root();
        found.extend(processes_of(&own).into_iter().map(|process| format!("process: {process}")));
        for id in ids {
            found.extend(cgroups_of(id).into_iter().map(|path| format!("cgroup: {}", path.display())));
        }
        let links = tool("ip", &["-d", "-o", "link"]);
        for network in networks {
            found.extend(
                links.lines().filter(|l| l.contains(&format!("umiak network {network}"))).map(|l| format!("link: {l}")),
            );
        }
        for id in ids {
            let link = format!("uv-{}", &id[..8]);
            found.extend(links.lines().filter(|l| l.contains(&link)).map(|l| format!("link: {l}")));
        }
        found
    }

    /// Ids of all networks.
    pub fn network_ids(&self) -> BTreeSet<String> {
        let dir = self.root().join("networks");
        let read = |name: &String| fs::read(dir.join(name)).ok();
        let id = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).ok()?["id"].as_str().map(str::to_owned);
        names_in(&dir).iter().filter(|name| name.ends_with(".json")).filter_map(read).filter_map(id).collect()
    }

    /// What monitors had nobody else to tell.
    fn complaints(&self, ids: &BTreeSet<String>) -> String {
        let log = |id: &String| fs::read_to_string(self.root().join("containers").join(id).join("monitor.log")).ok();
        ids.iter().filter_map(log).collect()
    }

    fn remove_all(&self) {
        let ids = self.ids();
        if !ids.is_empty() {
            let mut args = vec!["container", "rm", "-f", "-v"];
            args.extend(ids.iter().map(String::as_str));
            let done = self.run(&args);
            assert_eq!(done.code, 0, "removing what the test left: {}", done.err);
        }
        let networks: Vec<String> = names_in(&self.root().join("networks"));
        // The default network goes with its last container, without being told to.
        for network in networks.iter().filter_map(|name| name.strip_suffix(".json")).filter(|name| *name != "bridge") {
            let done = self.run(&["network", "rm", network]);
            assert_eq!(done.code, 0, "removing the network {network}: {}", done.err);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let (ids, networks) = (self.ids(), self.network_ids());
        let panicking = std::thread::panicking();
        let complaints = self.complaints(&ids);
        if panicking {
            eprintln!("{complaints}");
            if !ids.is_empty() {
                eprintln!("{}", self.run(&["container", "ls", "-a"]).out);
            }
        }
        let removed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.remove_all()));
        // The last of a container's processes may still be on its way out.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut left = self.leftovers(&ids, &networks);
        while !left.is_empty() && removed.is_ok() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
            left = self.leftovers(&ids, &networks);
        }
        if self.mounted {
            let _ = Command::new("umount").args(["-l"]).arg(self.root()).status();
        }
        let left = left.join("\n");
        if panicking {
            eprintln!("left after the failed test: {left}");
            return;
        }
        if let Err(panic) = removed {
            std::panic::resume_unwind(panic);
        }
        assert!(left.is_empty(), "something was left:\n{left}");
        assert!(complaints.is_empty(), "monitors complained:\n{complaints}");
    }
}

/// Runs a command to its end, or kills it at the deadline.
pub fn finish(mut command: Command, input: &[u8], what: &str) -> Done {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
    finish_child(child, input, what)
}

/// As [`finish`], for a command that runs already with both its outputs piped.
pub fn finish_child(mut child: Child, input: &[u8], what: &str) -> Done {
    let pid = child.id();
    let (sender, receiver) = mpsc::channel();
    let stdin = child.stdin.take();
    let input = input.to_vec();
    std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // One who does not read all of it has closed the pipe, which is theirs to decide.
            let _ = stdin.write_all(&input);
        }
    });
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(DEADLINE) else {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        panic!("{what}: still running after {DEADLINE:?}");
    };
    let output = output.unwrap();
    use std::os::unix::process::ExitStatusExt as _;
    let code = output.status.code().unwrap_or_else(|| 1000 + output.status.signal().unwrap_or(0));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Done { code, out: text(&output.stdout), err: text(&output.stderr) }
}

/// The output of one of the system's own tools.
pub fn tool(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let done = finish(command, b"", &format!("{program} {}", args.join(" ")));
    assert_eq!(done.code, 0, "{program} {}: {}", args.join(" "), done.err);
    done.out
}

/// Asks until there is an answer: for what comes by itself, at a time that nobody announces.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) => assert!(Instant::now() < deadline, "{what}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One HTTP request: the status code and the body.
pub fn http(method: &str, address: &str, path: &str, body: &str) -> Result<(u16, String), String> {
    let target = address.parse().map_err(|error| format!("{address}: {error}"))?;
    let connected = TcpStream::connect_timeout(&target, Duration::from_secs(5));
    let mut stream = connected.map_err(|error| format!("connect to {address}: {error}"))?;
    let io = |error: std::io::Error| format!("{method} {address}{path}: {error}");
    stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(io)?;
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).map_err(io)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(io)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no HTTP answer: {answer:?}"))?;
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| format!("no status: {head}"))?;
    Ok((status, body.to_owned()))
}

/// A GET that must be answered with 200 and JSON, once the server is up.
pub fn get_json(address: &str, path: &str) -> Value {
    eventually(&format!("GET {address}{path}"), || match http("GET", address, path, "")? {
        (200, body) => serde_json::from_str(&body).map_err(|error| format!("{error}: {body}")),
        (status, body) => Err(format!("{status}: {body}")),
    })
}

/// A TCP port of the host on which nobody listens, below those that the kernel gives away; no other test gets it.
pub fn free_port() -> u16 {
    static HELD: Mutex<Vec<Reserved>> = Mutex::new(Vec::new());
    loop {
        let reserved = Reserved::of("port", 20_000..28_000).expect("a port that no other test has");
        let port = u16::try_from(reserved.number).unwrap();
        let is_free = std::net::TcpListener::bind(("0.0.0.0", port)).is_ok();
        // Also one that is not free is held: the next is another.
        HELD.lock().unwrap().push(reserved);
        if is_free {
            return port;
        }
    }
}

/// The first address of this host that is not its loopback.
pub fn own_address() -> Option<String> {
    let text = tool("ip", &["-o", "-4", "address", "show", "scope", "global"]);
    let foreign =
        |line: &&str| !["ub-", "docker", "br-", "podman"].iter().any(|name| line.contains(&format!(": {name}")));
    let line = text.lines().find(foreign)?;
    line.split_whitespace().nth(3)?.split('/').next().map(str::to_owned)
}

/// The directories of a container in every cgroup hierarchy.
pub fn cgroups_of(id: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let mut all: Vec<PathBuf> = names_in(root).into_iter().map(|name| root.join(name).join("umiak").join(id)).collect();
    all.push(root.join("umiak").join(id));
    all.retain(|path| path.exists());
    all
}

/// The entries of a directory; none if it is not there.
pub fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Processes whose mounts or open files lie below `root`: containers, monitors and their children.
pub fn processes_of(root: &Path) -> Vec<String> {
    let root = root.to_str().unwrap();
    let mut found = Vec::new();
    for pid in names_in(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) {
        let dir = Path::new("/proc").join(&pid);
        let mounted = fs::read_to_string(dir.join("mountinfo"))
            .is_ok_and(|text| text.lines().any(|line| line.contains("upperdir=") && line.contains(root)));
        let logs = fs::read_link(dir.join("fd/2")).is_ok_and(|path| path.to_string_lossy().starts_with(root));
        if mounted || logs {
            let cmdline = fs::read_to_string(dir.join("cmdline")).unwrap_or_default().replace('\0', " ");
            found.push(format!("{pid} {cmdline}"));
        }
    }
    found
}

/// The stored state of a container.
pub fn stored_state(host: &Host, name: &str) -> Value {
    let id = host.inspect(name)["Id"].as_str().unwrap().to_owned();
    let state = fs::read(host.root().join("containers").join(id).join("state.json")).unwrap();
    serde_json::from_slice(&state).unwrap()
}

/// The pid of a container's monitor, by its state.
pub fn monitor_pid(host: &Host, name: &str) -> u32 {
    u32::try_from(stored_state(host, name)["monitor"]["pid"].as_u64().unwrap()).unwrap()
}

/// The pid of the keeper behind it.
pub fn keeper_pid(host: &Host, name: &str) -> u32 {
    u32::try_from(stored_state(host, name)["keeper"]["pid"].as_u64().unwrap()).unwrap()
}

/// Kills a container's monitor and its keeper.
pub fn kill_supervision(host: &Host, name: &str) {
    let (keeper, monitor) = (keeper_pid(host, name), monitor_pid(host, name));
    // One that stands still brings up no other monitor.
    signal(keeper, "STOP");
    signal(monitor, "KILL");
    signal(keeper, "KILL");
    eventually("both are gone", || {
        let alive = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.contains("(umiak-") && !stat.contains(") Z ")
        };
        if [keeper, monitor].iter().any(alive) { Err(format!("{keeper} {monitor}")) } else { Ok(()) }
    });
}

/// Sends a signal to one process.
pub fn signal(pid: u32, name: &str) {
    tool("kill", &[&format!("-{name}"), &pid.to_string()]);
}
