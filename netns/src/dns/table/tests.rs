use super::*;
use crate::dns::{Network as Member, Upstreams, publish};

fn table(root: &Path, networks: &[&str]) -> Table {
    let member = |id: &&str| Member { id: (*id).into(), name: format!("{id}.net"), internal: true };
    Table::new(&Config {
        records: root.to_owned(),
        networks: networks.iter().map(member).collect(),
        links: Vec::new(),
        project: Some("demo".into()),
        upstreams: Upstreams::Listed(Vec::new()),
    })
}

fn record(container: &str, name: &str, address: [u8; 4]) -> Record {
    Record {
        container: container.into(),
        container_name: name.into(),
        names: vec!["web".into()],
        ipv4: Some(address.into()),
        ipv6: None,
        network_name: "n1.net".into(),
        project: None,
        service: None,
        healthy: None,
    }
}

fn find(table: &mut Table, name: &str) -> Vec<String> {
    let mut addresses = Vec::new();
    table.refresh();
    table.find(&names::from_dotted(name).unwrap(), [true, false], &mut addresses);
    addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn only_changed_files_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    for (id, address) in [("c1", [10, 0, 0, 1]), ("c2", [10, 0, 0, 2])] {
        publish(dir.path(), "n1", &record(id, id, address)).unwrap();
    }
    let mut table = table(dir.path(), &["n1"]);
    let settle = |table: &mut Table| {
        while table.networks[0].seen.is_none() {
            table.refresh();
        }
    };
    settle(&mut table);
    let entry = |table: &Table, at: usize| Arc::clone(table.networks[0].files[at].entry.as_ref().unwrap());
    let (one, two) = (entry(&table, 0), entry(&table, 1));
    publish(dir.path(), "n1", &record("c2", "c2", [10, 0, 0, 9])).unwrap();
    assert_eq!(find(&mut table, "c2"), ["10.0.0.9"]);
    assert!(Arc::ptr_eq(&one, &entry(&table, 0)) && !Arc::ptr_eq(&two, &entry(&table, 1)));
    // Once it has settled, nothing is read at all.
    settle(&mut table);
    let two = entry(&table, 1);
    table.refresh();
    assert!(Arc::ptr_eq(&two, &entry(&table, 1)) && table.networks[0].seen.is_some());
}

#[test]
fn a_change_in_the_same_tick_is_not_missed() {
    let now = now();
    let stamp = |modified| Stamp { inode: 1, modified, size: 1 };
    assert!(stamp(now).is_fresh(now) && stamp(now - GRAIN + 1).is_fresh(now));
    assert!(!stamp(now - GRAIN).is_fresh(now));
    // A clock set back leaves times of the future behind: no reason to read for ever.
    assert!(!stamp(now + 3_600_000_000_000).is_fresh(now));
}

#[test]
fn network_names_may_have_dots_and_names_of_the_network_too() {
    let dir = tempfile::tempdir().unwrap();
    publish(dir.path(), "n1", &record("c1", "db.main", [10, 0, 0, 1])).unwrap();
    publish(dir.path(), "n2", &record("c1", "db.main", [10, 2, 0, 1])).unwrap();
    let mut table = table(dir.path(), &["n1", "n2"]);
    assert_eq!(find(&mut table, "db.main.n1.net"), ["10.0.0.1"]);
    assert_eq!(find(&mut table, "db.main.n2.net"), ["10.2.0.1"]);
    assert_eq!(find(&mut table, "db.main"), ["10.0.0.1"]);
    assert!(find(&mut table, "db.main.n1").is_empty());
    let name = table.name_of([10, 2, 0, 1].into()).unwrap();
    assert_eq!(Some(name), names::from_dotted("db.main.n2.net"));
    assert_eq!(table.name_of([10, 9, 0, 1].into()), None);
}

#[test]
fn the_turn_goes_on_when_the_table_changes() {
    let dir = tempfile::tempdir().unwrap();
    for number in 1..=2 {
        publish(dir.path(), "n1", &record(&format!("c{number}"), "x", [10, 0, 0, number])).unwrap();
    }
    let mut table = table(dir.path(), &["n1"]);
    let mut firsts = Vec::new();
    for round in 0..4 {
        firsts.push(find(&mut table, "web").remove(0));
        publish(dir.path(), "n1", &record("other", "y", [10, 0, 1, round])).unwrap();
        std::fs::remove_file(dir.path().join("n1/other.json")).unwrap();
    }
    assert_eq!(firsts, ["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2"]);
}

#[test]
fn a_name_leads_to_replicas_that_are_not_unwell_unless_all_are() {
    let dir = tempfile::tempdir().unwrap();
    let with = |id: &str, last: u8, healthy: Option<bool>| {
        publish(dir.path(), "n1", &Record { healthy, ..record(id, id, [10, 0, 0, last]) }).unwrap();
    };
    with("c1", 1, Some(true));
    with("c2", 2, None);
    with("c3", 3, Some(false));
    let mut table = table(dir.path(), &["n1"]);
    let mut sorted = |name: &str| {
        let mut found = find(&mut table, name);
        found.sort();
        found
    };
    assert_eq!(sorted("web"), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(sorted("all.web"), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert_eq!(sorted("c3"), ["10.0.0.3"]);
    assert_eq!(sorted("web.n1.net"), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(sorted("all.web.n1.net").len(), 3);
    with("c1", 1, Some(false));
    with("c2", 2, Some(false));
    assert_eq!(sorted("web").len(), 3);
    assert!(sorted("all").is_empty() && sorted("all.nobody").is_empty());
}
