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
