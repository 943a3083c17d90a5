//! A real registry: the distribution project's `docker-registry`.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use umiak_images::digest::Digest;
use umiak_images::manifest::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};

/// How long a program may take to start.
const START: Duration = Duration::from_secs(20);

/// Whether the programs are installed. Without them a test says so and ends,
/// unless `UMIAK_MUST_RUN=1` makes that a failure.
pub fn installed(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &&&str| !std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    let Some(missing) = programs.iter().find(there) else { return true };
    assert!(std::env::var("UMIAK_MUST_RUN").as_deref() != Ok("1"), "{missing} is not installed");
    eprintln!("skipped: {missing} is not installed");
    false
}

/// Runs a program to its end.
pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
}

/// How a registry is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Open,
    /// Basic authentication as `who` with `secret`.
    Password,
    /// TLS with a certificate of the CA in [`Server::ca_file`].
    Tls,
    /// TLS with a certificate that is its own CA, for the host in it.
    SelfSigned(&'static str),
}

/// A running registry with its files; ends and goes when dropped.
pub struct Server {
    directory: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    access: Access,
}

impl Server {
    pub fn start(access: Access) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { directory, port, child: None, access };
        server.configure();
        server.resume();
        server
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn ca_file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configure(&self) {
        let root = self.directory.path().display();
        let mut text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {root}/data}}}}\nhttp:\n  addr: {}\n",
            self.host()
        );
        match self.access {
            Access::Open => {}
            Access::Password => {
                let users = self.path("users").display().to_string();
                run("htpasswd", &["-Bbc", &users, "who", "secret"]);
                text.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {users}}}}}\n"));
            }
            Access::Tls | Access::SelfSigned(_) => {
                self.certificates();
                text.push_str(&format!("  tls: {{certificate: {root}/server.pem, key: {root}/server.key}}\n"));
            }
        }
        std::fs::write(self.path("config.yml"), text).unwrap();
    }

    fn certificates(&self) {
        let at = |name: &str| self.path(name).display().to_string();
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-batch"];
        let (ca, ca_key, key, request, server) =
            (at("ca.pem"), at("ca.key"), at("server.key"), at("server.csr"), at("server.pem"));
        let names = at("names");
        std::fs::write(&names, "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
        let mut make_ca = vec!["req", "-x509", "-days", "2", "-subj", "/CN=test CA", "-keyout", &ca_key, "-out", &ca];
        make_ca.extend(new_key);
        let subject;
        if let Access::SelfSigned(name) = self.access {
            subject = format!("subjectAltName=IP:{name}");
            make_ca = vec!["req", "-x509", "-days", "2", "-subj", "/CN=registry", "-addext", &subject];
            make_ca.extend(["-keyout", &key, "-out", &ca]);
            make_ca.extend(new_key);
            run("openssl", &make_ca);
            std::fs::copy(&ca, &server).unwrap();
            return;
        }
        run("openssl", &make_ca);
        let mut make_request = vec!["req", "-new", "-subj", "/CN=registry", "-keyout", &key, "-out", &request];
        make_request.extend(new_key);
        run("openssl", &make_request);
        run(
            "openssl",
            &[
                "x509",
                "-req",
                "-days",
                "2",
                "-in",
                &request,
                "-CA",
                &ca,
                "-CAkey",
                &ca_key,
                "-CAcreateserial",
                "-extfile",
                &names,
                "-out",
                &server,
            ],
        );
    }

    /// Starts the program, again after [`Server::stop`] on the same port.
    pub fn resume(&mut self) {
        let child = Command::new("docker-registry")
            .args([Path::new("serve"), &self.path("config.yml")])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.path("log")).unwrap())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + START;
        while TcpStream::connect(self.host()).is_err() {
            let ended = self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
            if ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
                panic!("docker-registry does not start: {log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the program.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Pushes an index with one image for `linux/amd64` and one for
    /// `linux/arm64`, each of one layer with `content`, as `name`.
    pub fn push(&self, name: &str, content: &[u8]) {
        let layout = self.path("layout");
        write_layout(&layout, content);
        let (from, to) = (format!("oci:{}:it", layout.display()), format!("docker://{}/{name}", self.host()));
        let mut arguments = vec!["copy", "--quiet", "--all", "--preserve-digests", "--insecure-policy"];
        match self.access {
            Access::Open => arguments.push("--dest-tls-verify=false"),
            Access::Password => arguments.extend(["--dest-tls-verify=false", "--dest-creds", "who:secret"]),
            Access::Tls | Access::SelfSigned(_) => arguments.push("--dest-tls-verify=false"),
        }
        arguments.extend([from.as_str(), to.as_str()]);
        run("skopeo", &arguments);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An OCI image layout whose index leads to an index of two images.
fn write_layout(layout: &Path, content: &[u8]) {
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let layer = put(OCI_LAYER, content);
    let image = |architecture: &str| {
        let config = json!({"os": "linux", "architecture": architecture, "config": {},
                            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
        let config = put(OCI_CONFIG, config.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]});
        let mut entry = put(OCI_MANIFEST, manifest.to_string().as_bytes());
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [image("arm64"), image("amd64")]});
    let mut top = put(OCI_INDEX, index.to_string().as_bytes());
    top["annotations"] = json!({"org.opencontainers.image.ref.name": "it"});
    std::fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [top]}).to_string()).unwrap();
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
}
