//! What peers publish is seen by the next question, and nothing else disturbs.

use simple_dns::{RCODE, TYPE};
use umiak_netns::dns::{forget_network, publish, withdraw};

use crate::support::*;

#[test]
fn each_publication_is_seen_by_the_next_question() {
    let lab = lab();
    // Faster than any file time stamp changes, with the size and the name of the file unchanged.
    lab.container.run(|| {
        for round in 0..300_u16 {
            let address = format!("10.7.{}.{}", 100 + round % 100, 100 + round % 7);
            lab.publish(&record("ab", "web", &[], &address));
            assert_eq!(exchange(&question("web", TYPE::A)).unwrap().data(), [address], "round {round}");
        }
    });
}

#[test]
fn peers_come_and_go_and_no_question_is_lost() {
    let lab = lab();
    lab.publish(&record("aa", "steady", &[], "10.0.0.1"));
    let script = upstream(&lab.host, "127.0.0.1", |one| vec![answer_with(&one.message, RCODE::NameError, &[])]);
    lab.container.run(|| {
        for round in 0..200 {
            lab.publish(&record("bb", "guest", &[], "10.0.0.2"));
            assert_eq!(exchange(&question("guest", TYPE::A)).unwrap().data(), ["10.0.0.2"], "round {round}");
            assert_eq!(exchange(&question("steady", TYPE::A)).unwrap().data(), ["10.0.0.1"], "round {round}");
            withdraw(lab.records(), "n1", &"bb".repeat(32)).unwrap();
            assert_eq!(exchange(&question("guest", TYPE::A)).unwrap().code(), RCODE::NameError, "round {round}");
            assert_eq!(exchange(&question("steady", TYPE::A)).unwrap().data(), ["10.0.0.1"], "round {round}");
        }
    });
    assert_eq!(script.received().len(), 200);
}

#[test]
fn a_damaged_record_takes_no_other_name_away() {
    let lab = lab();
    lab.publish(&record("aa", "sound", &[], "10.0.0.1"));
    lab.publish(&record("bb", "hurt", &[], "10.0.0.2"));
    assert_eq!(lab.addresses("hurt"), ["10.0.0.2"]);
    let directory = lab.records().join("n1");
    for (name, content) in [
        (format!("{}.json", "bb".repeat(32)), "{\"version\":1,\"contai"),
        ("future.json".into(), "{\"version\":99}"),
        (".half.json.tmp".into(), "x"),
        ("notes.txt".into(), "x"),
        ("empty.json".into(), ""),
    ] {
        let aside = lab.directory.path().join("aside");
        std::fs::write(&aside, content).unwrap();
        std::fs::rename(&aside, directory.join(name)).unwrap();
    }
    std::fs::create_dir(directory.join("dir.json")).unwrap();
    std::os::unix::fs::symlink("nowhere", directory.join("link.json")).unwrap();
    assert_eq!(lab.addresses("sound"), ["10.0.0.1"]);
    assert_eq!(lab.ask("hurt", TYPE::A).code(), RCODE::ServerFailure);
    lab.publish(&record("bb", "hurt", &[], "10.0.0.3"));
    assert_eq!(lab.addresses("hurt"), ["10.0.0.3"], "mended");
}

#[test]
fn a_network_may_be_removed_and_made_again() {
    let lab = lab();
    assert_eq!(lab.ask("web", TYPE::A).code(), RCODE::ServerFailure, "no directory yet");
    for address in ["10.0.0.1", "10.0.0.2"] {
        lab.publish(&record("ab", "web", &[], address));
        assert_eq!(lab.addresses("web"), [address]);
        forget_network(lab.records(), "n1").unwrap();
        assert_eq!(lab.ask("web", TYPE::A).code(), RCODE::ServerFailure);
    }
}

#[test]
fn joining_and_leaving_networks_takes_effect_at_once() {
    let mut lab = lab();
    publish(lab.records(), "n2", &record("ab", "far", &[], "10.2.0.1")).unwrap();
    assert_eq!(lab.ask("far", TYPE::A).code(), RCODE::ServerFailure);
    let alone = lab.config.clone();
    let mut both = alone.clone();
    both.networks.push(network("n2", true));
    lab.reconfigure(both);
    assert_eq!(lab.addresses("far"), ["10.2.0.1"]);
    assert_eq!(lab.addresses("far.n2_net"), ["10.2.0.1"]);
    lab.reconfigure(alone);
    assert_eq!(lab.ask("far", TYPE::A).code(), RCODE::ServerFailure);
}
