//! What lists and `inspect` print: names, types and what is empty, as Docker has them.

use serde_json::{Value, json};

use crate::harness::{Host, finish, tool};
use crate::registry::own_store;

const STACK: &str = "services:
  web: {image: busybox, command: sleep 1000, scale: 2, stop_grace_period: 0s, volumes: ['data:/data']}
  idle: {image: busybox, command: 'true', ports: ['127.0.0.1:0:80']}
volumes: {data: {}}
";

#[test]
fn the_lists_of_a_project_have_docker_compose_s_flags() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", STACK);
    host.ok(&["up", "-d"]);
    let id = host.inspect("demo-idle-1")["Id"].as_str().unwrap().to_owned();
    host.ok(&["container", "wait", &id]);
    let rows = |args: &[&str]| host.ok(args).lines().count() - 1;
    assert_eq!(rows(&["ps"]), 2);
    assert_eq!(rows(&["ps", "--filter", "status=exited"]), 1);
    assert_eq!(rows(&["ps", "--status", "exited", "--status", "running"]), 3);
    assert!(host.fails(1, &["ps", "--filter", "foo=bar"]).contains("unknown filter foo"));
    assert_eq!(host.ok(&["ps", "-a", "--services"]), "idle\nweb");
    assert_eq!(host.ok(&["ps", "--format", "{{.Name}} {{.Service}}"]), "demo-web-1 web\ndemo-web-2 web");
    assert_eq!(host.ok(&["ps", "--format", "table {{.Name}}"]), "NAME\ndemo-web-1\ndemo-web-2");
    assert_eq!(host.lines(&["ps", "--format", "json"])[0]["Service"], "web");
    host.write("compose.yaml", &STACK.replace("  idle:", "  other:"));
    assert_eq!(rows(&["ps", "-a"]), 3);
    assert_eq!(rows(&["ps", "-a", "--orphans=false"]), 2);
    host.write("compose.yaml", STACK);

    let table = host.ok(&["images"]);
    let header = "CONTAINER           REPOSITORY          TAG                 PLATFORM            IMAGE ID            SIZE                CREATED";
    assert_eq!(table.lines().next(), Some(header));
    assert_eq!(host.ok(&["images", "-q"]).len(), 64, "each image once");
    let listed = host.json(&["images", "--format", "json"]);
    assert_eq!((&listed[0]["ContainerName"], &listed[0]["Platform"]), (&json!("demo-idle-1"), &json!("linux/amd64")));

    assert!(host.ok(&["volumes"]).ends_with("demo_data"));
    assert_eq!(host.ok(&["volumes", "-q", "web"]), "demo_data");
    assert_eq!(host.lines(&["volumes", "--format", "json"])[0]["Name"], "demo_data");
    assert!(host.fails(1, &["volumes", "nope"]).contains("no such service: nope"));

    let listed = host.ok(&["ls", "--filter", "name=dem"]);
    assert!(
        listed.starts_with("NAME                STATUS              CONFIG FILES\ndemo                running(2)"),
        "{listed}"
    );
    assert_eq!(host.ok(&["ls", "--filter", "name=nothing", "-q"]), "");
    assert!(host.fails(1, &["ls", "--filter", "foo=x"]).contains("invalid filter 'foo'"));
    assert!(host.fails(1, &["port", "web", "80"]).contains("no port 80/tcp for container demo-web-1"));
    host.ok(&["down", "-v"]);
}

/// The members of an object whose value has this type.
fn members(object: &Value, is: fn(&Value) -> bool) -> Vec<String> {
    object.as_object().unwrap().iter().filter(|(_, value)| is(value)).map(|(key, _)| key.clone()).collect()
}

#[test]
fn inspect_has_docker_s_members_and_is_empty_as_docker_s_is() {
    // All names of the image are shown, and others give it some in the store that is shared.
    let Some(host) = own_store() else { return };
    host.ok(&["network", "create", "net"]);
    host.ok(&["container", "run", "-d", "--name", "plain", "busybox", "sleep", "1000"]);
    host.ok(&[
        "container",
        "run",
        "-d",
        "--name",
        "full",
        "--network",
        "net",
        "--network-alias",
        "al",
        "-v",
        "vol:/v:ro",
        "-v",
        "/anonymous",
        "--tmpfs",
        "/t:size=1m",
        "--cap-add",
        "net_admin",
        "--security-opt",
        "no-new-privileges",
        "busybox",
        "sleep",
        "1000",
    ]);
    let (plain, full) = (host.inspect("plain"), host.inspect("full"));
    for key in [
        "Id",
        "Created",
        "Path",
        "Args",
        "State",
        "Image",
        "ResolvConfPath",
        "HostnamePath",
        "HostsPath",
        "LogPath",
        "Name",
        "RestartCount",
        "Driver",
        "Platform",
        "MountLabel",
        "ProcessLabel",
        "AppArmorProfile",
        "ExecIDs",
        "HostConfig",
        "GraphDriver",
        "Mounts",
        "Config",
        "NetworkSettings",
    ] {
        assert!(plain.get(key).is_some(), "{key}");
    }
    assert_eq!((&plain["Path"], &plain["Args"], &plain["Name"]), (&json!("sleep"), &json!(["1000"]), &json!("/plain")));
    let null = members(&plain["HostConfig"], Value::is_null);
    assert_eq!(
        null,
        [
            "Binds",
            "VolumesFrom",
            "CapAdd",
            "CapDrop",
            "ExtraHosts",
            "GroupAdd",
            "Links",
            "SecurityOpt",
            "DeviceCgroupRules",
            "DeviceRequests",
            "MemorySwappiness"
        ]
    );
    let null = members(&plain["Config"], Value::is_null);
    assert_eq!(null, ["Volumes", "Entrypoint", "OnBuild"]);
    // The default network's address is shown twice.
    let settings = &plain["NetworkSettings"];
    assert_eq!(settings["IPAddress"], settings["Networks"]["bridge"]["IPAddress"]);
    assert!(settings["IPAddress"].as_str().is_some_and(|address| !address.is_empty()));
    let wanted = json!([["vol:/v:ro"], { "/t": "size=1048576" }, ["CAP_NET_ADMIN"], ["no-new-privileges"]]);
    let of = |key: &str| full["HostConfig"][key].clone();
    assert_eq!(json!([of("Binds"), of("Tmpfs"), of("CapAdd"), of("SecurityOpt")]), wanted);
    assert_eq!(full["Config"]["Volumes"], json!({ "/anonymous": {} }));
    let endpoint = &full["NetworkSettings"]["Networks"]["net"];
    assert_eq!((&endpoint["Aliases"], endpoint["DNSNames"].as_array().unwrap().len()), (&json!(["al"]), 3));
    let network = host.json(&["network", "inspect", "net"])[0].take();
    let member = &network["Containers"][full["Id"].as_str().unwrap()];
    assert_eq!((&member["Name"], &member["EndpointID"]), (&json!("full"), &endpoint["EndpointID"]));
    let volume = host.json(&["volume", "inspect", "vol"])[0].take();
    assert_eq!((&volume["Labels"], &volume["Options"]), (&Value::Null, &Value::Null));
    assert_eq!(volume["CreatedAt"].as_str().map(str::len), Some("2026-11-21T06:02:15Z".len()));
    let image = host.json(&["image", "inspect", "busybox"])[0].take();
    assert_eq!(members(&image["Config"], Value::is_null), ["Entrypoint", "Labels", "OnBuild", "Volumes"]);
    assert_eq!((&image["RepoTags"], &image["Parent"]), (&json!(["busybox:latest"]), &json!("")));
}

#[test]
fn a_root_file_system_is_exported_and_imported() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let name = format!("imported:{}", std::process::id());
    host.ok(&["container", "run", "--name", "box", "busybox", "sh", "-c", "echo kept >/kept"]);
    host.ok(&["container", "export", "-o", "root.tar", "box"]);
    let file = host.project().join("root.tar");
    tool("gzip", &["-k", file.to_str().unwrap()]);
    for archive in ["root.tar", "root.tar.gz"] {
        let id = host.ok(&["image", "import", "-c", r#"CMD ["cat", "/kept"]"#, "-m", "why", archive, &name]);
        assert_eq!(host.json(&["image", "inspect", &name])[0]["Id"], id.as_str());
        assert_eq!(host.ok(&["container", "run", "--rm", &name]), "kept");
        host.ok(&["image", "rm", &name]);
    }
    let script = format!("\"$0\" image import - {name} < root.tar");
    let piped = host.other("sh", &["-c", &script, crate::harness::binary().to_str().unwrap()]);
    assert_eq!(finish(piped, b"", "image import -").code, 0);
    host.ok(&["image", "rm", &name]);
    host.write("damaged", "this is no archive, though it is long enough to be taken for the beginning of one");
    assert!(host.fails(1, &["image", "import", "damaged", &name]).contains("layer"));
    assert!(host.fails(1, &["image", "import", "-c", "RUN x", "root.tar"]).contains("RUN"));
}

#[test]
fn mounts_streams_and_the_cgroup_are_told_as_they_were_asked_for() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let dir = host.project();
    let dir = dir.to_str().unwrap();
    let (short, long) = (format!("{dir}:/b:ro"), format!("type=bind,source={dir},target=/b2,readonly"));
    let mut args = vec!["container", "create", "--name", "asked", "-i", "-P", "--cgroup-parent", "/umiak-e2e-asked"];
    args.extend(["--tmpfs", "/t:size=1m", "-v", "asked-vol:/v", "-v", &short, "--mount", &long]);
    args.extend([
        "--mount",
        "type=volume,source=asked-vol2,target=/v2",
        "--mount",
        "type=tmpfs,target=/t2,tmpfs-size=4096",
    ]);
    host.ok(&[&args[..], &["--network", "none", "busybox", "true"]].concat());
    let shown = host.inspect("asked");
    let config = &shown["HostConfig"];
    assert_eq!(config["Binds"], json!(["asked-vol:/v", format!("{dir}:/b:ro")]));
    assert_eq!(
        config["Mounts"],
        json!([
            { "Type": "bind", "Source": dir, "Target": "/b2", "ReadOnly": true },
            { "Type": "volume", "Source": "asked-vol2", "Target": "/v2" },
            { "Type": "tmpfs", "Target": "/t2", "TmpfsOptions": { "SizeBytes": 4096 } },
        ])
    );
    assert_eq!(config["Tmpfs"], json!({ "/t": "size=1048576" }));
    assert_eq!((&config["CgroupParent"], &config["PublishAllPorts"]), (&json!("/umiak-e2e-asked"), &json!(true)));
    let of = |key: &str| shown["Config"][key].as_bool().unwrap();
    let streams = ["AttachStdin", "AttachStdout", "AttachStderr", "OpenStdin", "StdinOnce"].map(of);
    assert_eq!(streams, [true; 5]);
    let modes: Vec<(&str, &str)> = shown["Mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| (mount["Destination"].as_str().unwrap(), mount["Mode"].as_str().unwrap()))
        .collect();
    assert_eq!(modes, [("/v", "z"), ("/b", "ro"), ("/b2", ""), ("/v2", "z"), ("/t2", "")]);
    // The order of Docker's structs.
    let keys: Vec<&String> = config.as_object().unwrap().keys().collect();
    let place = |key: &str| keys.iter().position(|other| *other == key).unwrap();
    for (key, before) in [("Tmpfs", "SecurityOpt"), ("Mounts", "IOMaximumBandwidth"), ("Init", "ReadonlyPaths")] {
        if keys.iter().any(|other| *other == key) {
            assert_eq!(place(key), place(before) + 1, "{key}");
        }
    }
    host.ok(&["container", "rm", "asked"]);
    host.ok(&["volume", "rm", "asked-vol", "asked-vol2"]);
    host.write(
        "compose.yaml",
        "services:\n  web: { image: busybox, command: 'true', network_mode: none, volumes: ['.:/a', 'data:/d:ro', { type: tmpfs, target: /t }] }\nvolumes: { data: }\n",
    );
    host.ok(&["create"]);
    let shown = host.inspect("demo-web-1");
    assert_eq!(shown["HostConfig"]["Binds"], json!([format!("{dir}:/a:rw"), "demo_data:/d:ro"]));
    assert_eq!(shown["HostConfig"]["Mounts"], json!([{ "Type": "tmpfs", "Target": "/t" }]));
    assert_eq!((&shown["Config"]["AttachStdin"], &shown["Config"]["AttachStdout"]), (&json!(false), &json!(true)));
    host.ok(&["down", "-v"]);
}
