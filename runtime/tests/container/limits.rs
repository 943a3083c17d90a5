//! Limits, enforced by the kernel of this host.

use std::time::{Duration, Instant};

use crate::support::Container;
use umiak_runtime::cgroup::Version;
use umiak_runtime::config::{DeviceRate, Ulimit};

const MIB: u64 = 1 << 20;

#[test]
fn memory_is_limited_and_the_kill_is_known() {
    let container = Container::new(&["dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=60"])
        .with(|c| (c.limits.memory, c.limits.memory_swap) = (Some(32 * MIB), Some(32 << 20)));
    let ended = container.start().wait();
    assert_eq!((ended.code, &ended.error), (137, &None), "{}", ended.output);
    assert!(container.cgroup().oom_killed());
    let free = Container::new(&["true"]);
    assert_eq!(free.start().wait().code, 0);
    assert!(!free.cgroup().oom_killed());
}

#[test]
fn processes_are_limited() {
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; wait";
    let ended = Container::script(script).with(|c| c.limits.pids = 5).run();
    assert!(ended.output.contains("can't fork"), "{ended:?}");
}

#[test]
fn cpu_time_is_throttled_and_everything_is_counted() {
    let script = "echo begun; while :; do :; done";
    let container = Container::script(script).with(|c| {
        c.limits.nano_cpus = Some(50_000_000);
        c.limits.memory = Some(64 * MIB);
    });
    let mut running = container.start();
    running.expect("begun");
    // On a machine that has other work, it takes a while until it has had more than its share.
    let deadline = Instant::now() + Duration::from_secs(60);
    let stats = loop {
        let stats = container.cgroup().stats().unwrap();
        if stats.throttled_periods > 0 && stats.throttled_ns > 0 {
            break stats;
        }
        assert!(Instant::now() < deadline, "{stats:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(stats.cpu_ns > 0 && stats.memory > 0 && stats.memory <= stats.memory_with_cache, "{stats:?}");
    assert_eq!((stats.memory_limit, stats.pids, stats.pids_limit), (Some(64 * MIB), 1, Some(2048)));
    assert_eq!(container.cgroup().processes().unwrap(), [running.pid().cast_signed()]);
    container.cgroup().kill_all().unwrap();
    assert_eq!(running.wait().code, 137);
    assert!(container.cgroup().processes().unwrap().is_empty());
    container.cgroup().remove().unwrap();
    assert!(!container.cgroup().exists());
}

#[test]
fn kill_all_takes_what_forks_and_hides() {
    let container = Container::script(
        "(sh -c 'while :; do sleep 0.001; done' &) ; trap '' TERM INT; echo up; while :; do sleep 1; done",
    );
    let mut running = container.start();
    running.expect("up");
    container.cgroup().kill_all().unwrap();
    assert_eq!(running.wait().code, 137);
}

#[test]
fn a_limit_that_cannot_be_applied_stops_the_start_and_leaves_nothing() {
    let refused = |change: &dyn Fn(&mut umiak_runtime::Config)| {
        let container = Container::new(&["true"]).with(change);
        let ended = container.start().wait();
        assert_eq!(ended.code, 125, "{ended:?}");
        assert!(!container.cgroup().exists(), "{ended:?}");
        ended.reason()
    };
    assert!(refused(&|c| c.limits.cpuset_cpus = "4095".into()).contains("cpuset CPUs"));
    assert!(refused(&|c| c.limits.memory = Some(1)).contains("minimum is 6 MiB"));
    assert!(refused(&|c| c.limits.nano_cpus = Some(u64::MAX)).contains("CPU limit"));
    let rate = DeviceRate { path: "/dev/nosuch".into(), rate: 1 };
    assert!(refused(&|c| c.limits.blkio_read_bps = vec![rate.clone()]).contains("/dev/nosuch"));
    if Container::new(&["true"]).cgroup().version() == Version::V2 {
        assert!(refused(&|c| c.limits.swappiness = Some(5)).contains("no swappiness"));
    }
}

#[test]
fn every_asked_value_is_in_the_kernel() {
    let container = Container::new(&["sleep", "60"]).with(|c| {
        c.limits.memory = Some(64 * MIB + 1);
        c.limits.memory_reservation = Some(32 * MIB);
        c.limits.cpu_shares = Some(512);
        c.limits.nano_cpus = Some(1_000_000_000);
        c.limits.cpuset_cpus = "0".into();
        c.limits.pids = 77;
    });
    let running = container.start();
    let cgroup = container.cgroup();
    let settings = umiak_runtime::cgroup::limits::plan(&container.config.limits, cgroup.version()).unwrap();
    let applied = cgroup.read_back(&settings).unwrap();
    assert!(applied.len() >= 6, "{applied:?}");
    assert!(applied.iter().any(|value| value.file == "pids.max" && value.found == "77"));
    cgroup.kill_all().unwrap();
    running.wait();
}

#[test]
fn rlimits_are_fixed_or_as_asked() {
    let script = "ulimit -Sn; ulimit -Sc; ulimit -s";
    assert_eq!(Container::script(script).run().ok(), "1024\nunlimited\n8192\n");
    let nofile = |soft, hard| vec![Ulimit { name: "nofile".into(), soft, hard }];
    let output = Container::script("ulimit -Sn; ulimit -Hn").with(|c| c.ulimits = nofile(100, 200)).run().ok();
    assert_eq!(output, "100\n200\n");
    let ended = Container::new(&["true"]).with(|c| c.ulimits = nofile(200, 100)).run();
    assert!(ended.reason().contains("must not exceed"), "{ended:?}");
}

#[test]
fn oom_score_adj_is_set() {
    let output = Container::new(&["cat", "/proc/self/oom_score_adj"]).with(|c| c.limits.oom_score_adj = 321).run().ok();
    assert_eq!(output, "321\n");
}
