//! `deploy.update_config`: in which order, how fast, and what happens when a new container fails.

use std::collections::BTreeSet;

use crate::harness::Host;

/// Each container tells when it starts and when it is stopped.
fn file(version: &str, config: &str) -> String {
    format!(
        r#"
services:
  web:
    image: busybox
    environment: {{VERSION: "{version}"}}
    volumes: ["./out:/out"]
    stop_grace_period: 10s
    command:
      - sh
      - -c
      - |
        echo start $$VERSION $$(date +%s) >> /out/log
        [ $$VERSION != broken ] || exit 3
        trap 'echo stop $$VERSION $$(date +%s) >> /out/log; exit' TERM
        touch /ready
        while :; do sleep 0.1; done
    healthcheck: {{test: 'test -e /ready', interval: 1h}}
    deploy: {{replicas: 2, update_config: {{{config}}}}}
"#
    )
}

/// What was told since the last time: the words, and the seconds.
fn told(host: &Host) -> Vec<(String, u64)> {
    let path = host.project().join("out/log");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    let entry = |line: &str| {
        let (words, seconds) = line.rsplit_once(' ').unwrap();
        (words.to_owned(), seconds.parse().unwrap())
    };
    text.lines().map(entry).collect()
}

fn words(told: &[(String, u64)]) -> Vec<&str> {
    told.iter().map(|(words, _)| words.as_str()).collect()
}

#[test]
fn a_rolling_update_stops_first_and_pauses_between_batches() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let config = "parallelism: 1, delay: 3s, monitor: 100ms";
    host.write("compose.yaml", &file("one", config));
    host.ok(&["up", "-d", "--wait"]);
    assert_eq!(words(&told(&host)), ["start one", "start one"]);
    host.write("compose.yaml", &file("two", config));
    host.ok(&["up", "-d"]);
    let seen = told(&host);
    assert_eq!(words(&seen), ["stop one", "start two", "stop one", "start two"]);
    assert!(seen[2].1 - seen[1].1 >= 2, "the delay lies between the batches: {seen:?}");
    let config = config.replace("delay: 3s", "order: start-first");
    host.write("compose.yaml", &file("three", &config));
    host.ok(&["up", "-d"]);
    assert_eq!(words(&told(&host)), ["start three", "stop two", "start three", "stop two"]);
    host.ok(&["down"]);
}

#[test]
fn an_update_that_fails_pauses_goes_on_or_goes_back() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("compose.yaml", &file("one", "parallelism: 1"));
    host.ok(&["up", "-d", "--wait"]);
    let before = host.ids();
    told(&host);
    let running = || -> BTreeSet<String> {
        assert_eq!(host.lines(&["ps", "--format", "json"]).len(), 2, "all run");
        host.ids()
    };
    for (config, tried, said) in [
        ("", 1, "the update of service web failed, the rest stays as it was"),
        ("failure_action: pause", 1, "the update of service web failed, the rest stays as it was"),
        ("failure_action: continue", 2, "2 containers of service web were not updated"),
        ("failure_action: rollback", 1, "the update of service web failed, it was rolled back"),
    ] {
        host.write("compose.yaml", &file("broken", &format!("parallelism: 1, monitor: 20s, {config}")));
        let err = host.fails(1, &["up", "-d"]);
        assert!(err.contains(said) && err.contains("exited (3)"), "{config}: {err}");
        let seen = told(&host);
        assert_eq!(words(&seen).iter().filter(|words| **words == "start broken").count(), tried, "{config}: {seen:?}");
        assert_eq!(running(), before, "{config}");
    }
    host.ok(&["down"]);
}
