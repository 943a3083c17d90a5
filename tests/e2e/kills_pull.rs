//! Pulls that are killed after a random number of bytes: the next one succeeds,
//! fetches nothing twice that was whole, goes on where a blob broke off, and
//! leaves a store in which every byte is right and none is too many.
//!
//! `UMIAK_KILLS` sets how many (5), `UMIAK_SEED` repeats a run as far as the machine does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::harness::{Host, eventually, names_in};

const REGISTRY: &str = "127.0.0.1:5000";
const IMAGES: [&str; 3] = ["busybox", "redis", "python"];

/// Marsaglia's xorshift64*.
pub struct Random(pub u64);

impl Random {
    /// From `UMIAK_SEED`, or from the clock; printed.
    pub fn seeded() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
        let seed = setting("UMIAK_SEED").unwrap_or_else(|| u64::from(now) + 1);
        eprintln!("UMIAK_SEED={seed}");
        Self(seed)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % end.max(1)
    }
}

pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// What went through, and where to stop.
#[derive(Default)]
struct Flow {
    bytes: u64,
    /// At this many bytes nothing more goes through until it is raised.
    gate: Option<u64>,
    /// Requests for blobs: hex digest and the first byte asked for.
    blobs: Vec<(String, u64)>,
}

/// A proxy in front of the registry that counts, and stops at a byte.
struct Proxy {
    port: u16,
    flow: Arc<(Mutex<Flow>, Condvar)>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let flow: Arc<(Mutex<Flow>, Condvar)> = Arc::default();
        let shared = Arc::clone(&flow);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let flow = Arc::clone(&shared);
                std::thread::spawn(move || serve(client, &flow));
            }
        });
        Self { port, flow }
    }

    /// Counts anew, up to `gate`.
    fn reset(&self, gate: Option<u64>) {
        *self.flow.0.lock().unwrap() = Flow { gate, ..Flow::default() };
        self.flow.1.notify_all();
    }

    fn bytes(&self) -> u64 {
        self.flow.0.lock().unwrap().bytes
    }

    fn requests(&self) -> Vec<(String, u64)> {
        self.flow.0.lock().unwrap().blobs.clone()
    }

    /// Waits until that many bytes have gone through, or the child has ended.
    fn reached(&self, bytes: u64, child: &mut Child) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.bytes() < bytes && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "only {} of {bytes} bytes have come", self.bytes());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn serve(client: TcpStream, flow: &Arc<(Mutex<Flow>, Condvar)>) {
    let Ok(server) = TcpStream::connect(REGISTRY) else { return };
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let seen = Arc::clone(flow);
    std::thread::spawn(move || {
        let (mut buffer, mut head) = (vec![0; 16 << 10], Vec::new());
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            head.extend_from_slice(&buffer[..count]);
            // Requests have no bodies: each is a head.
            while let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&head[..end]).into_owned();
                seen.0.lock().unwrap().blobs.extend(blob(&text));
                head.drain(..end + 4);
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    let (mut from, mut to) = (server, client);
    let mut buffer = vec![0; 4 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut sent = 0;
        while sent < count {
            let Some(allowed) = allowance(flow, (count - sent) as u64) else { return };
            let allowed = usize::try_from(allowed).unwrap();
            if to.write_all(&buffer[sent..sent + allowed]).is_err() {
                return;
            }
            sent += allowed;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// How many of `wanted` bytes may go through now; waits at the gate, and gives up with it.
fn allowance(flow: &(Mutex<Flow>, Condvar), wanted: u64) -> Option<u64> {
    let mut state = flow.0.lock().unwrap();
    loop {
        let room = state.gate.map_or(wanted, |gate| gate.saturating_sub(state.bytes).min(wanted));
        if room > 0 {
            state.bytes += room;
            return Some(room);
        }
        let before = state.gate;
        state = flow.1.wait(state).unwrap();
        // Whoever waited here belongs to a pull that was killed.
        if state.gate != before || state.bytes == 0 {
            return None;
        }
    }
}

fn blob(head: &str) -> Option<(String, u64)> {
    let hex = head.lines().next()?.strip_prefix("GET ")?.split_once("/blobs/sha256:")?.1.split(' ').next()?.to_owned();
    let range =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let from = range.and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or(0);
    Some((hex, from))
}

struct Store {
    host: Host,
    proxy: Proxy,
}

impl Store {
    fn new() -> Option<Self> {
        let host = Host::bare()?;
        let proxy = Proxy::start();
        let text = format!("[registry.\"docker.io\"]\nmirrors = [\"http://127.0.0.1:{}\"]\n", proxy.port);
        fs::write(host.path().join("registries.toml"), text).unwrap();
        Some(Self { host, proxy })
    }

    fn blobs(&self) -> PathBuf {
        self.host.root().join("images/blobs/sha256")
    }

    /// Blobs that have their names, and how much there is of others.
    fn there(&self) -> (BTreeSet<String>, BTreeMap<String, u64>) {
        let (mut whole, mut partial) = (BTreeSet::new(), BTreeMap::new());
        for name in names_in(&self.blobs()) {
            match name.strip_prefix(".partial-") {
                Some(hex) => {
                    let length = fs::metadata(self.blobs().join(&name)).unwrap().len();
                    partial.insert(hex.to_owned(), length);
                }
                None => drop(whole.insert(name)),
            }
        }
        (whole, partial)
    }

    /// Pulls, and kills the pull at a byte, or some time after the last one; whether it was still at work.
    fn killed(&self, image: &str, at: u64, total: u64, random: &mut Random) -> bool {
        self.proxy.reset(Some(at));
        let mut command = self.host.command(&["image", "pull", "-q", image]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.proxy.reached(at.min(total), &mut child);
        if at >= total {
            std::thread::sleep(Duration::from_millis(random.below(300)));
        }
        let working = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        working
    }

    fn check(&self, when: &str) {
        let done = self.host.run(&["system", "check", "-q", "--format", "json"]);
        assert_eq!(done.code, 0, "{when}: {}{}", done.out, done.err);
        let findings: Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!(findings["problems"].as_array().map(Vec::len), Some(0), "{when}: {findings:#}");
    }

    /// Nothing of the store is left but its own files.
    fn assert_empty(&self, when: &str) {
        let left: Vec<String> =
            [self.blobs(), self.host.root().join("layers")].iter().flat_map(|dir| names_in(dir)).collect();
        assert!(left.is_empty(), "{when}: {left:?}");
    }
}

#[test]
fn a_pull_that_is_killed_at_any_byte_is_gone_on_with() {
    let Some(store) = Store::new() else { return };
    let (host, proxy) = (&store.host, &store.proxy);
    let mut random = Random::seeded();
    let kills = setting("UMIAK_KILLS").unwrap_or(5);
    let mut totals = BTreeMap::new();
    for image in IMAGES {
        proxy.reset(None);
        host.ok(&["image", "pull", "-q", image]);
        totals.insert(image, proxy.bytes());
        host.ok(&["image", "rm", image]);
    }
    let (mut early, mut late, mut resumed, mut spared) = (0, 0, 0_u64, 0_u64);
    for number in 1..=kills {
        let image = IMAGES[usize::try_from(random.below(3)).unwrap()];
        let total = totals[image];
        // One in five comes when all bytes have: while the last layers are unpacked, synced and named.
        let at = if random.below(5) == 0 { total } else { random.below(total) };
        let working = store.killed(image, at, total, &mut random);
        let when = format!("kill {number} at byte {at} of {total} of {image}");
        if working {
            early += 1
        } else {
            late += 1
        }
        // Nothing that is seen is half there.
        store.check(&when);
        let listed = host.ok(&["image", "ls", "-q"]);
        assert!(!working || listed.is_empty() || at >= total, "{when}: {listed}");
        let (whole, partial) = store.there();

        proxy.reset(None);
        host.ok(&["image", "pull", "-q", image]);
        let requests = proxy.requests();
        for (hex, from) in &requests {
            assert!(!whole.contains(hex), "{when}: {hex} was there, and was fetched again");
            let had = partial.get(hex).copied().unwrap_or(0);
            assert_eq!(*from, had, "{when}: {had} bytes of {hex} were there");
            resumed += had;
        }
        spared +=
            whole.iter().map(|hex| fs::metadata(store.blobs().join(hex)).map_or(0, |meta| meta.len())).sum::<u64>();
        // No blob in two pieces: what a kill costs is what was under way between the registry and the disk.
        let distinct: BTreeSet<&String> = requests.iter().map(|(hex, _)| hex).collect();
        assert_eq!(distinct.len(), requests.len(), "{when}: {requests:?}");
        store.check(&when);
        host.ok(&["image", "rm", image]);
        host.ok(&["image", "prune", "-f"]);
        store.assert_empty(&when);
    }
    eprintln!("{kills} kills: {early} at work, {late} too late; {resumed} bytes gone on with, {spared} spared");
    assert!(early > 0);
}

/// Several pulls of one image at once, all killed: the next takes over what each of them had.
#[test]
fn pulls_that_are_killed_together_share_what_they_had() {
    let Some(store) = Store::new() else { return };
    let mut random = Random::seeded();
    store.proxy.reset(None);
    store.host.ok(&["image", "pull", "-q", "python"]);
    let total = store.proxy.bytes();
    store.host.ok(&["image", "rm", "python"]);
    for _ in 0..3 {
        let at = random.below(total);
        store.proxy.reset(Some(at));
        let spawn = || {
            let mut command = store.host.command(&["image", "pull", "-q", "python"]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let mut children = [spawn(), spawn(), spawn()];
        store.proxy.reached(at, &mut children[0]);
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let (whole, _) = store.there();
        store.proxy.reset(None);
        store.host.ok(&["image", "pull", "-q", "python"]);
        assert!(!store.proxy.requests().iter().any(|(hex, _)| whole.contains(hex)));
        store.check("after three pulls were killed");
        store.host.ok(&["image", "rm", "python"]);
        store.host.ok(&["image", "prune", "-f"]);
        store.assert_empty("after three pulls were killed");
    }
}

/// A process's peak of resident memory so far, in KiB.
fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The most that a command has had resident, in KiB; it must succeed.
fn peak_of(host: &Host, args: &[&str], output: Stdio) -> u64 {
    let mut child = host.command(args).stdout(output).stderr(Stdio::piped()).spawn().unwrap();
    let mut highest = 0;
    let deadline = Instant::now() + Duration::from_secs(600);
    let status = loop {
        highest = highest.max(peak(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "{args:?} does not end");
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut said = String::new();
    let _ = child.stderr.take().unwrap().read_to_string(&mut said);
    assert!(status.success(), "{args:?}: {said}");
    highest
}

/// A layer of more than a gigabyte: tar of one file of little entropy, as gzip of stored and repeated blocks.
fn large_layer(path: &Path) -> (String, u64) {
    use std::process::Command;
    let script = "head -c 1200000000 /dev/zero | tr '\\0' 'a' | awk 'BEGIN{RS=\"\\001\"} {printf \"%s\", $0}' >/dev/null; \
                  mkdir -p $1/d; for i in $(seq 1 36); do head -c 1048576 /dev/urandom > $1/r; \
                  for j in $(seq 1 32); do cat $1/r; done; done > $1/d/large; rm $1/r; \
                  tar -C $1/d -cf - large | tee $1/layer.tar | sha256sum | cut -d' ' -f1 > $1/diff; rm -r $1/d";
    let script = script.split_once("; ").unwrap().1;
    let done = Command::new("sh").args(["-ec", script, "sh"]).arg(path).status().unwrap();
    assert!(done.success());
    let diff = fs::read_to_string(path.join("diff")).unwrap().trim().to_owned();
    (diff, fs::metadata(path.join("layer.tar")).unwrap().len())
}

/// However large a layer is, memory stays within 64 MiB: for load, save, pull, check and its repair.
#[test]
fn a_layer_of_a_gigabyte_takes_no_more_memory_than_a_small_one() {
    const LIMIT: u64 = 64 << 10;
    let Some(host) = Host::bare() else { return };
    let work = host.path().join("large");
    fs::create_dir_all(&work).unwrap();
    let (diff, size) = large_layer(&work);
    assert!(size > 1 << 30);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:{diff}"]}}}}"#
    );
    fs::write(work.join("config.json"), config).unwrap();
    let list = r#"[{"Config":"config.json","RepoTags":["large:1"],"Layers":["layer.tar"]}]"#;
    fs::write(work.join("manifest.json"), list).unwrap();
    let image = work.join("image.tar");
    let tar =
        ["-C", work.to_str().unwrap(), "-cf", image.to_str().unwrap(), "manifest.json", "config.json", "layer.tar"];
    crate::harness::tool("tar", &tar);
    fs::remove_file(work.join("layer.tar")).unwrap();
    let mut peaks = Vec::new();
    let mut within = |what: &str, peak: u64| peaks.push((what.to_owned(), peak));
    within("load", peak_of(&host, &["image", "load", "-i", image.to_str().unwrap()], Stdio::null()));
    fs::remove_file(&image).unwrap();
    within("check", peak_of(&host, &["system", "check", "-q"], Stdio::null()));
    within("save", peak_of(&host, &["image", "save", "-o", "/dev/null", "large:1"], Stdio::null()));
    // Served as a registry that knows one image.
    let blobs = host.root().join("images/blobs/sha256");
    let port = serve_store(&host, &blobs);
    host.ok(&["image", "tag", "large:1", "kept:1"]);
    let registries = format!("[registry.\"127.0.0.1:{port}\"]\ninsecure_http = true\n");
    fs::write(host.path().join("registries.toml"), registries).unwrap();
    let second = Host::bare().unwrap();
    fs::copy(host.path().join("registries.toml"), second.path().join("registries.toml")).unwrap();
    let name = format!("127.0.0.1:{port}/large:1");
    within("pull", peak_of(&second, &["image", "pull", "-q", &name], Stdio::null()));
    let layer = second.root().join("layers").join(&diff).join("large");
    fs::OpenOptions::new().append(true).open(layer).unwrap().write_all(b"x").unwrap();
    within("repair", peak_of(&second, &["system", "check", "-q", "--repair"], Stdio::null()));
    eprintln!("peaks in KiB: {peaks:?}");
    for (what, peak) in peaks {
        assert!(peak > 0 && peak <= LIMIT, "{what}: {peak} KiB");
    }
}

/// Answers for the manifest that the index names, and for all blobs, one connection per request.
fn serve_store(host: &Host, blobs: &Path) -> u16 {
    let index: Value = serde_json::from_slice(&fs::read(host.root().join("images/index.json")).unwrap()).unwrap();
    let manifest = index["manifests"][0]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let blobs = blobs.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (blobs, manifest) = (blobs.clone(), manifest.clone());
            std::thread::spawn(move || answer(stream, &blobs, &manifest));
        }
    });
    port
}

fn answer(mut stream: TcpStream, blobs: &Path, manifest: &str) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_exact(&mut byte).is_err() {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let hex = if path.contains("/manifests/") { manifest } else { path.rsplit(':').next().unwrap_or_default() };
    let Ok(mut file) = fs::File::open(blobs.join(hex)) else {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    let length = file.metadata().unwrap().len();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n");
    if stream.write_all(head.as_bytes()).is_ok() && !path.is_empty() {
        let _ = std::io::copy(&mut file, &mut stream);
    }
    let _ = stream.shutdown(Shutdown::Write);
    // Until the other side has it all.
    let _ = stream.read(&mut byte);
}

/// Builds that are killed at any time: the next one succeeds, and the store is whole.
#[test]
fn a_build_that_is_killed_at_any_time_is_gone_on_with() {
    let Some(host) = Host::bare() else { return };
    host.ok(&["image", "pull", "-q", "busybox"]);
    let mut random = Random::seeded();
    let kills = setting("UMIAK_KILLS").unwrap_or(5);
    host.write("ctx/a.txt", "a");
    for number in 0..40 {
        host.write(&format!("ctx/many/{number}"), &"x".repeat(20_000 + number));
    }
    let dockerfile = |round: u64| {
        format!(
            "FROM busybox\nRUN head -c 3000000 /dev/urandom > /noise && echo {round} > /round\nCOPY many /many\n\
             RUN rm -r /many/1* && mkdir /more && cp -a /many /more\nCOPY a.txt /a.txt\nRUN sha256sum /noise > /sum\n"
        )
    };
    let context = host.project().join("ctx");
    let args = ["image", "build", "-q", "-t", "built:1", context.to_str().unwrap()];
    host.write("ctx/Dockerfile", &dockerfile(0));
    let began = Instant::now();
    host.ok(&args);
    let usual = u64::try_from(began.elapsed().as_millis()).unwrap();
    let mut working = 0;
    for round in 1..=kills {
        host.write("ctx/Dockerfile", &dockerfile(round));
        let mut child = host.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let after = random.below(usual + usual / 4);
        std::thread::sleep(Duration::from_millis(after));
        working += u64::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let when = format!("build {round} killed after {after} of {usual} ms");
        let done = host.run(&["system", "check", "-q", "--format", "json"]);
        assert_eq!(done.code, 0, "{when}: {}{}", done.out, done.err);
        host.ok(&args);
        let shown = host.ok(&[
            "container",
            "run",
            "--rm",
            "built:1",
            "sh",
            "-c",
            "cat /round; sha256sum -c /sum; ls /more/many | wc -l",
        ]);
        assert_eq!(shown.lines().collect::<Vec<_>>(), [round.to_string().as_str(), "/noise: OK", "29"], "{when}");
        let done = host.run(&["system", "check", "-q", "--format", "json"]);
        assert_eq!(done.code, 0, "{when}: {}{}", done.out, done.err);
    }
    eprintln!("{kills} kills, {working} of them at work");
    // What the sandbox of a killed RUN left is gone with the next command that cleans up.
    eventually("no process of a build is left", || {
        let left = crate::harness::processes_of(&host.root());
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
}
