//! Images in the store: archives, several platforms under a name, lists of them and what they take.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::docker::docker;
use crate::harness::{Host, tool};
use crate::registry::{Registry, own_store};

fn ok(host: &Host, args: &[&str]) -> String {
    let done = docker(host, args);
    assert_eq!(done.code, 0, "{args:?}: {}{}", done.out, done.err);
    done.out
}

/// Serves `body` once at any path but `/none`, for as many requests as come.
fn serve(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap_or_default();
            drop(lines.by_ref().map_while(Result::ok).find(String::is_empty));
            let (status, body) =
                if first.contains("/none") { ("404 Not Found", &b""[..]) } else { ("200 OK", &body[..]) };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    format!("http://{address}")
}

#[test]
fn archives_have_all_tags_and_are_loaded_in_dockers_words() {
    let Some(host) = own_store() else { return };
    for name in ["app:1", "app:2"] {
        host.ok(&["image", "tag", "busybox", name]);
    }
    let archive = host.path().join("app.tar").display().to_string();
    assert_eq!(ok(&host, &["save", "-o", &archive, "app"]), "");
    host.ok(&["image", "rm", "app:1", "app:2"]);
    assert_eq!(ok(&host, &["load", "-i", &archive]), "Loaded image: app:1\nLoaded image: app:2\n");
    assert_eq!(ok(&host, &["load", "-q", "-i", &archive]), "Loaded image: app:1\nLoaded image: app:2\n");
    tool("xz", &["-k", &archive]);
    assert_eq!(ok(&host, &["load", "-i", &format!("{archive}.xz")]), "Loaded image: app:1\nLoaded image: app:2\n");
    let tagged = ok(&host, &["image", "inspect", "-f", "{{.Metadata.LastTagTime}}", "app:1"]);
    assert!(tagged.trim().parse::<jiff::Timestamp>().unwrap() > jiff::Timestamp::UNIX_EPOCH, "{tagged}");
    let id = ok(&host, &["inspect", "-f", "{{.Id}}", "app:1"]).trim().to_owned();
    ok(&host, &["save", "-o", &archive, &id]);
    assert_eq!(ok(&host, &["load", "-i", &archive]), format!("Loaded image ID: {id}\n"));

    let wrong = |args: &[&str]| {
        let done = docker(&host, args);
        assert_eq!(done.code, 1, "{args:?}: {}{}", done.out, done.err);
        done.err
    };
    let other = wrong(&["save", "--platform", "linux/s390x", "-o", &archive, "app:1"]);
    assert_eq!(other, "Error response from daemon: no suitable export target found for platform linux/s390x\n");
    assert!(std::path::Path::new(&archive).exists(), "what was there before a failure stays");
    assert!(wrong(&["load", "--platform", "linux/s390x", "-i", &archive]).contains("linux/s390x"));
    assert!(wrong(&["save", "-o", &archive, "nobody:1"]).contains("nobody:1"));
    assert!(wrong(&["load", "-i", "/nonexistent"]).contains("/nonexistent"));

    let other = "image with reference app:1 was found but its platform (linux/amd64) does not match the specified platform (linux/s390x)";
    let remove = |platform: &str| ["rmi", "--platform", platform, "app:1"].map(str::to_owned);
    let remove = |platform: &str| docker(&host, &remove(platform).each_ref().map(String::as_str));
    let done = remove("linux/s390x");
    assert_eq!((done.code, done.err), (1, format!("Error response from daemon: {other}\n")));
    assert_eq!(remove("linux/amd64").out, "Untagged: app:1\n");
}

#[test]
fn an_archive_is_imported_from_a_url() {
    let Some(host) = Host::bare() else { return };
    let root = host.path().join("rootfs");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/name"), "imported").unwrap();
    let archive = host.path().join("rootfs.tar");
    tool("tar", &["-C", root.to_str().unwrap(), "-czf", archive.to_str().unwrap(), "."]);
    let url = serve(std::fs::read(&archive).unwrap());
    let said = ok(&host, &["import", "-c", "CMD [\"/x\"]", &format!("{url}/rootfs.tar"), "imported:1"]);
    let id = host.json(&["image", "inspect", "imported:1"])[0]["Id"].as_str().unwrap().to_owned();
    assert_eq!(said, format!("Downloading from {url}/rootfs.tar\n{id}\n"));
    let history: Value = serde_json::from_str(&ok(&host, &["history", "--format", "json", "imported:1"])).unwrap();
    assert_eq!(history["Comment"], format!("Imported from {url}/rootfs.tar"));
    assert_eq!(host.json(&["image", "inspect", "imported:1"])[0]["Config"]["Cmd"], json!(["/x"]));
    ok(&host, &["import", archive.to_str().unwrap(), "imported:2"]);
    let plain = host.json(&["image", "inspect", "imported:2"])[0].take();
    assert_eq!((&plain["Config"]["Cmd"], &plain["Config"]["Env"]), (&Value::Null, &Value::Null));
    assert_eq!((&plain["Architecture"], plain.get("Variant")), (&json!("amd64"), None));
    ok(&host, &["rmi", "imported:2"]);
    let missing = docker(&host, &["import", &format!("{url}/none"), "imported:2"]);
    assert!(missing.code == 1 && missing.err.contains("/none"), "{}", missing.err);
    assert_eq!(ok(&host, &["images", "-q", "imported"]).lines().count(), 1);
}

#[test]
fn a_pull_prints_what_docker_prints() {
    let (Some(host), Some(registry)) = (own_store(), Registry::start(false)) else { return };
    let name = |tag: &str| registry.name(&format!("team/app:{tag}"));
    for tag in ["1", "2"] {
        host.ok(&["image", "tag", "busybox", &name(tag)]);
        host.ok(&["image", "push", "-q", &name(tag)]);
    }
    let repository = registry.name("team/app");
    let first = ok(&host, &["pull", &name("1")]);
    let lines: Vec<&str> = first.lines().collect();
    assert_eq!(lines[0], "1: Pulling from team/app");
    let digest = lines[1].strip_prefix("Digest: ").unwrap();
    assert_eq!(lines[2..], [format!("Status: Image is up to date for {}", name("1")), name("1")]);
    let fresh = Host::bare().unwrap();
    let by_digest = format!("{repository}@{digest}");
    let expected = format!(
        "{by_digest}: Pulling from team/app\nDigest: {digest}\nStatus: Downloaded newer image for {by_digest}\n{by_digest}\n"
    );
    assert_eq!(ok(&fresh, &["pull", &by_digest]), expected);
    assert_eq!(ok(&fresh, &["pull", "-q", "-a", &repository]), format!("{repository}\n"));
    let all = ok(&fresh, &["pull", "-a", &repository]);
    assert!(all.contains("1: Pulling from team/app\n") && all.contains("2: Pulling from team/app\n"), "{all}");
    assert!(all.ends_with(&format!("Status: Image is up to date for {repository}\n{repository}\n")), "{all}");
    assert_eq!(ok(&fresh, &["images", "-q", &repository]).lines().count(), 2);
}

#[test]
fn sizes_of_layers_are_told_where_they_belong() {
    let Some(host) = own_store() else { return };
    for (number, size) in [(1, 1000), (2, 50_000)] {
        let command = format!("head -c {size} /dev/zero > /file-{number}");
        let base = if number == 1 { "busybox".to_owned() } else { "app:1".to_owned() };
        host.ok(&["container", "run", "--name", "made", &base, "sh", "-c", &command]);
        ok(&host, &["commit", "made", &format!("app:{number}")]);
        host.ok(&["container", "rm", "made"]);
    }
    let sizes = ok(&host, &["history", "--human=false", "--format", "{{.Size}}", "app:2"]);
    let sizes: Vec<u64> = sizes.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(sizes[..2], [50_000, 1000], "the newest first");
    assert!(sizes[2..].iter().sum::<u64>() > 100_000);

    let table = ok(&host, &["system", "df", "-v"]);
    let mut lines = table.lines().filter(|line| !line.is_empty());
    let heads: Vec<&str> = lines.nth(1).unwrap().split("  ").map(str::trim).filter(|head| !head.is_empty()).collect();
    assert_eq!(heads, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"]);
    let unique = |tag: &str| {
        let columns = |line: &str| -> Vec<String> {
            line.split("  ").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let mut rows = table.lines().map(columns);
        rows.find(|row| row.len() > 6 && row[0] == "app" && row[1] == tag).unwrap()[6].clone()
    };
    assert_eq!((unique("2").as_str(), unique("1").as_str()), ("50kB", "0B"));
    assert!(table.contains("LOCAL VOLUMES"));
    let whole = ok(&host, &["system", "df", "-v", "--format", "json"]);
    assert_eq!(whole.lines().count(), 1, "{whole}");
    let whole: Value = serde_json::from_str(&whole).unwrap();
    let members: Vec<&String> = whole.as_object().unwrap().keys().collect();
    assert_eq!(members, ["Images", "Containers", "Volumes", "BuildCache"]);
    let image = whole["Images"].as_array().unwrap().iter().find(|image| image["Tag"] == "2").unwrap();
    assert_eq!((&image["Repository"], &image["UniqueSize"]), (&json!("app"), &json!("50kB")));
    let listed = ok(&host, &["system", "df", "-v", "--format", "{{range .Images}}{{.Tag}}={{.UniqueSize}};{{end}}"]);
    assert!(listed.contains("2=50kB;") && listed.contains("1=0B;"), "{listed}");
}
