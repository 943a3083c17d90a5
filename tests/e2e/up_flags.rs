//! How `up` waits, ends and attaches: exit codes and words as Docker Compose has them.

use crate::harness::Host;

const STACK: &str = "
x-box: &box {image: busybox, stop_grace_period: 0s}
services:
  fails: {<<: *box, command: sh -c 'echo failing; exit 5'}
  fine: {<<: *box, command: echo fine}
  long: {<<: *box, command: sh -c 'echo long; sleep 1000', depends_on: [fine]}
";

#[test]
fn containers_that_end_stop_the_others_and_give_their_exit_code() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", STACK);
    // Those that are not selected, or not attached to, do not count.
    for (args, code, shown) in [
        (vec!["--abort-on-container-failure"], 5, vec!["fails-1", "fine-1", "long-1"]),
        (vec!["--abort-on-container-exit", "fails", "long"], 5, vec!["fails-1", "long-1"]),
        (vec!["--abort-on-container-exit", "--attach", "fails"], 5, vec!["fails-1"]),
        (vec!["--abort-on-container-exit", "--no-attach", "fine"], 5, vec!["fails-1", "long-1"]),
        (
            vec!["--abort-on-container-exit", "--attach-dependencies", "long", "fails"],
            5,
            vec!["fails-1", "fine-1", "long-1"],
        ),
        (vec!["--exit-code-from", "long"], 137, vec!["fails-1", "fine-1", "long-1"]),
        (vec!["--exit-code-from", "fails", "fails", "long"], 5, vec!["fails-1", "long-1"]),
        (vec!["--exit-code-from", "fine", "--abort-on-container-failure"], 5, vec!["fails-1", "fine-1", "long-1"]),
    ] {
        let args: Vec<&str> = ["up"].into_iter().chain(args).collect();
        let done = host.run(&args);
        assert_eq!(done.code, code, "{args:?}: {}{}", done.out, done.err);
        let attached = done.err.lines().find_map(|line| line.strip_prefix("Attaching to ")).unwrap_or_default();
        assert_eq!(attached.split(", ").collect::<Vec<_>>(), shown, "{args:?}");
        for line in done.out.lines() {
            assert!(shown.iter().any(|name| line.starts_with(name)), "{args:?}: {line}");
        }
        let up = host.ok(&["ps", "--services"]);
        assert_eq!(up, "", "{args:?}");
        host.ok(&["down", "-t", "0"]);
    }
}

#[test]
fn up_waits_until_all_are_up_or_one_is_not() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let file =
        |more: &str| format!("services:\n  ok: {{image: busybox, command: sleep 1000, stop_grace_period: 0s}}\n{more}");
    let check = |test: &str| {
        format!(
            "command: sleep 1000, stop_grace_period: 0s, healthcheck: {{test: '{test}', interval: 100ms, retries: 2}}"
        )
    };
    for (more, args, code, said) in [
        (String::new(), vec![], 0, ""),
        ("command: 'true'".to_owned(), vec![], 0, ""),
        // One that ends at once was never up.
        ("command: sh -c 'exit 3'".to_owned(), vec![], 1, "container demo-other-1 exited (3)"),
        (check("true"), vec![], 0, ""),
        (check("exit 1"), vec![], 1, "container demo-other-1 is unhealthy"),
        (check("sleep 100"), vec!["--wait-timeout", "1"], 1, "application not healthy after 1s"),
    ] {
        let more = if more.is_empty() { more } else { format!("  other: {{image: busybox, {more}}}\n") };
        host.write("compose.yaml", &file(&more));
        let args: Vec<&str> = ["up", "--wait"].into_iter().chain(args).collect();
        let done = host.run(&args);
        assert!(done.code == code && done.err.contains(said), "{more}: {} {}", done.code, done.err);
        // They are left as they are.
        assert!(host.ok(&["ps", "--services"]).contains("ok"));
        if code == 0 {
            host.ok(&["stop", "-t", "0"]);
            assert_eq!(host.run(&["start", "--wait"]).code, 0, "{more}");
        }
        host.ok(&["down", "-t", "0"]);
    }
}

#[test]
fn flags_that_contradict_each_other_are_refused_before_anything_is_made() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", STACK);
    for (args, said) in [
        ("-d --abort-on-container-exit", "--detach cannot be combined with --abort-on-container-exit"),
        ("-d --attach long", "--detach cannot be combined with"),
        (
            "--abort-on-container-exit --abort-on-container-failure",
            "--abort-on-container-failure cannot be combined with --abort-on-container-exit",
        ),
        ("--wait --exit-code-from long", "--wait cannot be combined with"),
        ("--attach long --attach-dependencies", "cannot combine --attach and --attach-dependencies"),
        ("--exit-code-from nope", "no such service: nope: not found"),
        ("--attach nope", "cannot attach to services not included in up: nope"),
    ] {
        let args: Vec<&str> = std::iter::once("up").chain(args.split(' ')).collect();
        let error = host.fails(1, &args);
        assert!(error.contains(said), "{args:?}: {error}");
    }
    assert!(host.ids().is_empty() && host.network_ids().is_empty());
}
