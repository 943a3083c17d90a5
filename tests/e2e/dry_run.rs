//! `--dry-run`, also after the command: what is shown, and that nothing is done.

use crate::harness::Host;

#[test]
fn commands_of_a_project_are_shown_and_not_run() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write(
        "compose.yaml",
        "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    networks: [front]\n    volumes: ['data:/data']\n  job:\n    image: busybox\n    depends_on: [web]\n    networks: [back]\nnetworks: {front: {}, back: {}}\nvolumes: {data: {}}\n",
    );
    host.ok(&["up", "-d", "web"]);
    let name = host.project().file_name().unwrap().to_str().unwrap().to_owned();
    let before = (host.ids(), host.network_ids(), host.inspect(&format!("{name}-web-1"))["State"].clone());
    let out = host.project().join("out.tar");
    let cases: [(&[&str], &[&str]); 12] = [
        (
            &["run", "--dry-run", "--rm", "job", "true"],
            &["Network NAME_back  Created", "Container NAME-job-run  Removed"],
        ),
        (&["exec", "--dry-run", "-T", "web", "touch", "/made"], &["Container NAME-web-1  Exec touch /made"]),
        (&["cp", "compose.yaml", "web:/copied", "--dry-run"], &["copy compose.yaml to NAME-web-1:/copied Copied"]),
        (&["export", "--dry-run", "-o", out.to_str().unwrap(), "web"], &["export NAME-web-1 to", "Exported"]),
        (&["commit", "--dry-run", "web", "made:1"], &["Commit NAME-web-1 Committed"]),
        (&["pause", "--dry-run"], &["Container NAME-web-1  Paused"]),
        (&["unpause", "--dry-run"], &[]),
        (&["stop", "--dry-run"], &["Container NAME-web-1  Stopped"]),
        (&["kill", "--dry-run"], &["Container NAME-web-1  Killed"]),
        (&["restart", "--dry-run", "-t", "0"], &["Container NAME-web-1"]),
        (&["up", "--dry-run", "-d"], &["Container NAME-job-1"]),
        (&["down", "--dry-run", "-v"], &["Container NAME-web-1  Removed", "Volume NAME_data  Removed"]),
    ];
    for (args, said) in cases {
        let done = host.run(args);
        assert_eq!(done.code, 0, "{args:?}: {}", done.err);
        let shown = done.err.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in said {
            let words = words.replace("NAME", &name).replace("  ", " ");
            assert!(shown.contains(&words), "{args:?}: {words:?} is not in\n{}", done.err);
        }
        assert!(done.err.lines().all(|line| line.contains("DRY-RUN MODE")), "{args:?}: {}", done.err);
    }
    let after = (host.ids(), host.network_ids(), host.inspect(&format!("{name}-web-1"))["State"].clone());
    assert_eq!(before, after);
    assert!(!out.exists());
    host.fails(1, &["image", "inspect", "made:1"]);
    assert_eq!(host.ok(&["exec", "-T", "web", "sh", "-c", "ls /made /copied 2>/dev/null | wc -l"]), "0");
    for args in
        [&["attach", "--dry-run", "web"] as &[&str], &["container", "--dry-run", "ls"], &["--dry-run", "network", "ls"]]
    {
        let done = host.run(args);
        assert!(done.code == 1 && done.err.contains("--dry-run is for commands of projects"), "{args:?}: {}", done.err);
    }
    host.ok(&["down", "-v", "-t", "0"]);
}
