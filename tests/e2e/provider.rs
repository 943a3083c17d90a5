//! Services that an external provider gives.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Done, Host, finish};

const FILE: &str = r#"
services:
  my-db:
    provider: {type: cloud, options: {size: small, zone: [a, b]}}
  web:
    image: busybox
    command: sleep 1000
    depends_on: [my-db]
  other: {image: busybox, command: sleep 1000}
"#;

/// Tells what it was called with, and fails where the project says so.
const CLOUD: &str = r#"#!/bin/sh
if [ "$2" = metadata ]; then
  cat metadata
  exit
fi
echo "$*" >> calls
if [ -e broken ]; then
  echo '{"type":"error","message":"out of clouds"}'
  exit 1
fi
[ "$3" = up ] || exit 0
echo '{"type":"debug","message":"asked"}'
echo '{"type":"info","message":"Provisioning"}'
echo '{"type":"setenv","message":"URL=db://cloud/?a=b"}'
echo '{"type":"rawsetenv","message":"REGION=north"}'
"#;

const CALL: &str = "--size=small --zone=a --zone=b my-db";

fn umiak(host: &Host, args: &[&str]) -> Done {
    let mut command = host.command(args);
    command.env("PATH", format!("{}:/usr/bin:/bin", host.project().join("bin").display()));
    finish(command, b"", &format!("umiak {}", args.join(" ")))
}

fn ok(host: &Host, args: &[&str]) -> Done {
    let done = umiak(host, args);
    assert_eq!(done.code, 0, "umiak {}\n{}{}", args.join(" "), done.out, done.err);
    done
}

/// What the provider was called with since the last time.
fn calls(host: &Host) -> String {
    let path = host.project().join("calls");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    text
}

#[test]
fn a_provider_gives_a_service_and_its_dependents_their_variables() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", FILE);
    let program = host.write("bin/docker-cloud", CLOUD);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    host.write("broken", "");
    let failed = umiak(&host, &["up", "-d", "-t", "0"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    assert!(failed.err.contains("service my-db: out of clouds"), "{}", failed.err);
    assert!(host.ids().is_empty());
    fs::remove_file(host.project().join("broken")).unwrap();
    calls(&host);

    ok(&host, &["up", "-d", "-t", "0"]);
    assert_eq!(calls(&host), format!("compose --project-name=demo up {CALL}\n"));
    let variables = |service: &str| {
        let script = "echo \"$MY_DB_URL $REGION\"";
        ok(&host, &["exec", "-T", service, "sh", "-c", script]).out.trim().to_owned()
    };
    assert_eq!(variables("web"), "db://cloud/?a=b north");
    assert_eq!(variables("other"), "");
    let before = host.ids();
    assert_eq!(before.len(), 2);

    // The same variables make no other container, and a plan asks nobody.
    ok(&host, &["up", "-d", "-t", "0"]);
    assert_eq!(host.ids(), before);
    calls(&host);
    let plan = umiak(&host, &["plan"]);
    assert_eq!((plan.code, calls(&host).as_str()), (0, ""), "{}{}", plan.out, plan.err);
    ok(&host, &["up", "-d", "-t", "0", "other"]);
    assert_eq!(calls(&host), "");
    assert_eq!(ok(&host, &["run", "--rm", "-T", "web", "sh", "-c", "echo $REGION"]).out.trim(), "north");
    assert_eq!(calls(&host), format!("compose --project-name=demo up {CALL}\n"));

    // Another value does.
    host.write("bin/docker-cloud", &CLOUD.replace("north", "south"));
    let changed = ok(&host, &["up", "-d", "-t", "0"]);
    assert!(changed.err.contains("environment REGION changed"), "{}", changed.err);
    assert_eq!(variables("web"), "db://cloud/?a=b south");
    calls(&host);

    ok(&host, &["down", "-t", "0"]);
    assert_eq!(calls(&host), format!("compose --project-name=demo down {CALL}\n"));
    assert!(host.ids().is_empty());
}

#[test]
fn a_provider_gets_the_options_that_it_says_it_knows() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", FILE);
    host.write(".env", "PLACE=here\n");
    let program =
        host.write("bin/docker-cloud", &CLOUD.replace("cat metadata", "echo asked $PLACE >> calls; cat metadata"));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let known = |up: &str, down: &str| {
        let text =
            format!(r#"{{"description":"clouds","up":{{"parameters":[{up}]}},"down":{{"parameters":[{down}]}}}}"#);
        host.write("metadata", &text);
    };
    known(r#"{"name":"size","required":true}"#, r#"{"name":"zone"}"#);
    ok(&host, &["up", "-d", "-t", "0"]);
    assert_eq!(calls(&host), "asked here\ncompose --project-name=demo up --size=small my-db\n");
    ok(&host, &["down", "-t", "0"]);
    assert_eq!(calls(&host), "asked here\ncompose --project-name=demo down --zone=a --zone=b my-db\n");
    known(r#"{"name":"region","required":true}"#, "");
    let failed = umiak(&host, &["up", "-d"]);
    assert_eq!(failed.code, 1);
    assert!(failed.err.contains("required parameter \"region\" is missing from provider \"cloud\""), "{}", failed.err);
    assert_eq!(calls(&host), "asked here\n");
    ok(&host, &["down"]);
}

#[test]
fn a_provider_may_stand_between_containers() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    // What the container has done by then is told; what is there when it is taken away, too.
    let cloud = CLOUD.replace("echo \"$*\" >> calls", "echo \"$3 $(cat out/base) $(ls out)\" >> calls");
    let program = host.write("bin/docker-cloud", &cloud);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    host.write(
        "compose.yaml",
        r#"
services:
  base:
    image: busybox
    stop_grace_period: 5s
    volumes: ["./out:/out"]
    command: sh -c "trap 'rm /out/base; exit' TERM; sleep 1; echo ready > /out/base; while :; do sleep 0.1; done"
    healthcheck: {test: 'test -e /out/base', interval: 1h}
  cloud:
    provider: {type: cloud}
    depends_on: {base: {condition: service_healthy}}
  top:
    image: busybox
    stop_grace_period: 5s
    volumes: ["./out:/out"]
    command: sh -c "trap 'rm /out/top; exit' TERM; echo $$CLOUD_URL > /out/top; while :; do sleep 0.1; done"
    depends_on: [cloud]
"#,
    );
    ok(&host, &["up", "-d"]);
    assert_eq!(calls(&host), "up ready base\n");
    let ids = host.ids();
    ok(&host, &["up", "-d"]);
    assert_eq!(host.ids(), ids, "nothing has changed");
    let forced = ok(&host, &["up", "-d", "--force-recreate"]);
    assert_eq!(forced.err.matches("demo-base-1  Recreated (forced)").count(), 1, "{}", forced.err);
    let done = ok(&host, &["run", "--rm", "-T", "top", "sh", "-c", "echo $CLOUD_URL"]);
    assert_eq!(done.out, "db://cloud/?a=b\n");
    calls(&host);
    ok(&host, &["down"]);
    assert_eq!(calls(&host), "down ready base\n", "dependents are gone by then, what it depends on is not");
    assert!(host.ids().is_empty() && host.network_ids().is_empty());
}
