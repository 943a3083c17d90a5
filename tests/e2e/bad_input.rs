//! What is wrong is named, nothing half made is left, and the next try works.

use crate::harness::{Host, finish, free_port, names_in};
use crate::proxy;

/// A project of one service with these lines below it.
fn service(lines: &str) -> String {
    format!("services:\n  web:\n    image: busybox\n    command: sleep 1000\n    stop_grace_period: 0s\n{lines}")
}

/// `up` must fail, say all of these words, and leave nothing; with a good file it must work right after.
fn refused(host: &Host, file: &str, words: &[&str]) {
    host.write("compose.yaml", file);
    let said = host.fails(1, &["up", "-d"]);
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert!(host.ids().is_empty() && host.network_ids().is_empty(), "something was left after:\n{said}");
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "", "a volume was left after:\n{said}");
}

fn works(host: &Host) {
    host.write("compose.yaml", &service(""));
    host.ok(&["up", "-d"]);
    assert_eq!(host.ok(&["ps", "-q"]).lines().count(), 1);
    host.ok(&["down"]);
}

#[test]
fn mistakes_in_the_file_are_shown_where_they_are() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let cases: &[(String, &[&str])] = &[
        (service("    imagee: nginx\n"), &["compose.yaml:6:5", "imagee", "did you mean `image`?"]),
        (service("    ports: [\"80:eighty\"]\n"), &["compose.yaml:6", "80:eighty"]),
        (service("    ports: [\"99999:80\"]\n"), &["compose.yaml:6", "99999"]),
        (service("    depends_on: [nobody]\n"), &["nobody"]),
        (service("    mem_limit: much\n"), &["much"]),
        (service("    networks: [unknown]\n"), &["unknown"]),
        (service("    environment: {A: ${B?set B}}\n"), &["set B"]),
        ("services: [\n".to_owned(), &["compose.yaml"]),
        ("services:\n  web: {}\n".to_owned(), &["web", "image"]),
    ];
    for (file, words) in cases {
        refused(&host, file, words);
    }
    works(&host);
}

#[test]
fn what_is_not_there_is_named() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let missing =
        "    volumes:\n      - {type: bind, source: ./missing, target: /d, bind: {create_host_path: false}}\n";
    refused(&host, &service(missing), &["bind source path does not exist", "demo/missing"]);
    refused(&host, &service("    env_file: gone.env\n"), &["gone.env"]);
    refused(
        &host,
        &service("    networks: [out]\nnetworks:\n  out: {external: true}\n"),
        &["network out declared as external, but could not be found"],
    );
    refused(
        &host,
        &service("    volumes: [\"out:/d\"]\nvolumes:\n  out: {external: true}\n"),
        &["external volume \"out\" not found"],
    );
    refused(&host, &service("").replace("image: busybox", "image: busybox:no-such-tag"), &["busybox:no-such-tag"]);
    refused(&host, &service("").replace("image: busybox", "image: no/such/image"), &["no/such/image"]);
    refused(
        &host,
        &service("").replace("image: busybox", "image: BAD//name"),
        &["BAD//name", "invalid reference format"],
    );
    refused(&host, &service("    user: nobody-here\n"), &["nobody-here"]);
    works(&host);
    host.write("compose.yaml", &service(""));
    let said = host.fails(1, &["exec", "nosuch", "true"]);
    assert!(said.contains("nosuch"), "{said}");
    let said = host.fails(1, &["-f", "elsewhere.yaml", "up", "-d"]);
    assert!(said.contains("elsewhere.yaml"), "{said}");
    std::fs::remove_file(host.project().join("compose.yaml")).unwrap();
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains("no configuration file"), "{said}");
}

#[test]
fn a_taken_name_or_port_is_named_with_its_holder() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let id = host.ok(&["container", "run", "-d", "--name", "taken", "--network", "none", "busybox", "sleep", "1000"]);
    host.write("compose.yaml", &service("    container_name: taken\n"));
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains("\"/taken\" is already in use") && said.contains(&id), "{said}");
    assert_eq!((host.ids().len(), host.network_ids().len()), (1, 0));
    let port = free_port();
    let listener = std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
    host.write("compose.yaml", &service(&format!("    ports: [\"{port}:80\"]\n")));
    let said = host.fails(1, &["up", "-d"]);
    assert!(said.contains(&port.to_string()) && said.contains(&std::process::id().to_string()), "{said}");
    assert_eq!((host.ids().len(), host.network_ids().len()), (1, 0));
    drop(listener);
    host.ok(&["up", "-d"]);
    host.ok(&["down"]);
}

#[test]
fn a_registry_that_is_down_is_named() {
    let Some(host) = Host::bare() else { return };
    let port = free_port();
    proxy::point_to(&host, port);
    refused(&host, &service(""), &["busybox", &format!("127.0.0.1:{port}"), "refused"]);
    std::fs::remove_file(host.path().join("registries.toml")).unwrap();
    works(&host);
}

#[test]
fn a_layer_that_is_cut_off_or_altered_is_not_kept() {
    let Some(host) = Host::bare() else { return };
    let is_layer = |path: &str, reply: &[u8]| path.contains("/blobs/") && reply.len() > 100_000;
    proxy::serve(&host, move |path, mut reply| {
        if is_layer(path, &reply) {
            let middle = proxy::body(&reply) + reply.len() / 2;
            reply[middle] ^= 0xff;
        }
        reply
    });
    refused(&host, &service(""), &["busybox", "sha256:"]);
    proxy::serve(&host, move |path, mut reply| {
        if is_layer(path, &reply) {
            reply.truncate(proxy::body(&reply) + 1000);
        }
        reply
    });
    refused(&host, &service(""), &["busybox"]);
    let unpacked = names_in(&host.root().join("layers"));
    assert!(unpacked.iter().all(|name| name.starts_with('.')), "{unpacked:?}");
    std::fs::remove_file(host.path().join("registries.toml")).unwrap();
    works(&host);
}

#[test]
fn wrong_credentials_are_told_from_a_missing_image() {
    let Some(host) = Host::bare() else { return };
    proxy::serve(&host, |_, _| {
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        let head = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"\r\nContent-Type: application/json\r\nConnection: close";
        format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    });
    refused(&host, &service(""), &["busybox", "pull access denied", "authentication required"]);
    let settings = std::fs::read_to_string(host.path().join("registries.toml")).unwrap();
    let registry = settings.split('"').find_map(|part| part.strip_prefix("http://")).unwrap().to_owned();
    std::fs::create_dir(host.path().join(".docker")).unwrap();
    // user:wrong
    let auths = format!("{{\"auths\": {{\"{registry}\": {{\"auth\": \"dXNlcjp3cm9uZw==\"}}}}}}");
    std::fs::write(host.path().join(".docker/config.json"), auths).unwrap();
    refused(&host, &service(""), &["busybox", &registry, "credentials"]);
    assert!(host.ids().is_empty());
    std::fs::remove_file(host.path().join("registries.toml")).unwrap();
    works(&host);
}

#[test]
fn without_root_it_says_so_and_how() {
    let Some(host) = Host::new(&[]) else { return };
    host.write("compose.yaml", &service(""));
    // Somewhere that anybody may read and run, as an installed program is.
    let binary =
        std::path::Path::new("/tmp").join(format!("{}-umiak", host.path().file_name().unwrap().to_str().unwrap()));
    std::fs::copy(crate::harness::binary(), &binary).unwrap();
    let mut command = host
        .other("setpriv", &["--reuid=65534", "--regid=65534", "--clear-groups", binary.to_str().unwrap(), "up", "-d"]);
    command.current_dir("/");
    let done = finish(command, b"", "umiak up as nobody");
    std::fs::remove_file(&binary).unwrap();
    assert_eq!(done.code, 1, "{}", done.err);
    assert!(done.err.contains("needs root") && done.err.contains("sudo umiak up -d"), "{}", done.err);
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let Some(host) = Host::small("1m") else { return };
    refused(&host, &service(""), &["busybox", "No space left on device"]);
    let unpacked = names_in(&host.root().join("layers"));
    assert!(unpacked.iter().all(|name| name.starts_with('.')), "{unpacked:?}");
    let status =
        std::process::Command::new("mount").args(["-o", "remount,size=64m"]).arg(host.root()).status().unwrap();
    assert!(status.success());
    works(&host);
    // A container that fills it is told so, and the host's commands go on.
    host.write(
        "compose.yaml",
        &service("").replace("sleep 1000", "sh -c 'dd if=/dev/zero of=/big bs=1M count=100; sleep 1000'"),
    );
    host.ok(&["up", "-d"]);
    crate::harness::eventually("the disk is full", || {
        // More each time: a block that was had before the disk was full would be had again.
        let told = host.run(&["exec", "web", "sh", "-c", "cat /bin/busybox >> /y"]).err;
        if told.contains("No space left on device") { Ok(()) } else { Err(told) }
    });
    assert!(host.ok(&["ps"]).contains("demo-web-1"));
    host.ok(&["down"]);
    works(&host);
}
