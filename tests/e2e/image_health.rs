//! The health check of an image: run, overridden field by field, and switched off.

use crate::harness::Host;

#[test]
fn an_image_s_health_check_is_run_overridden_by_field_and_switched_off() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let check = ["--health-cmd", "echo from the image", "--health-interval", "200ms", "--health-retries", "4"];
    let run = ["container", "run", "-d", "--name", "made"].into_iter().chain(check).chain(["busybox", "sleep", "1000"]);
    host.ok(&run.collect::<Vec<_>>());
    host.ok(&["container", "commit", "made", "checked:v1"]);
    host.ok(&["container", "rm", "-f", "made"]);
    let image = host.json(&["image", "inspect", "checked:v1"])[0]["Config"]["Healthcheck"].take();
    assert_eq!(image["Test"], serde_json::json!(["CMD-SHELL", "echo from the image"]));
    host.write(
        "compose.yaml",
        "
x-box: &box {image: 'checked:v1', stop_grace_period: 0s}
services:
  plain: {<<: *box}
  fields: {<<: *box, healthcheck: {interval: 1h, retries: 7}}
  test: {<<: *box, healthcheck: {test: [CMD, echo, of the file]}}
  disabled: {<<: *box, healthcheck: {disable: true}}
  none: {<<: *box, healthcheck: {test: [NONE]}}
  web: {image: busybox, command: 'true', depends_on: {plain: {condition: service_healthy}}}
",
    );
    host.ok(&["up", "-d"]);
    let hour = 3_600_000_000_000_u64;
    for (service, said, interval, retries) in [
        ("plain", "from the image\n", 200_000_000, 4),
        ("fields", "from the image\n", hour, 7),
        ("test", "of the file\n", 200_000_000, 4),
    ] {
        let name = format!("demo-{service}-1");
        let shown = host.until(&name, "it is healthy", |state| state["Health"]["Status"] == "healthy");
        assert_eq!(shown["State"]["Health"]["Log"][0]["Output"], said, "{service}");
        let check = &shown["Config"]["Healthcheck"];
        assert_eq!((&check["Interval"], &check["Retries"]), (&interval.into(), &retries.into()), "{service}");
    }
    for service in ["disabled", "none"] {
        let shown = host.inspect(&format!("demo-{service}-1"));
        assert!(shown["State"].get("Health").is_none(), "{}", shown["State"]);
        assert_eq!(shown["Config"]["Healthcheck"]["Test"], serde_json::json!(["NONE"]));
    }
    host.ok(&["down"]);
    host.ok(&["image", "rm", "checked:v1"]);
}
