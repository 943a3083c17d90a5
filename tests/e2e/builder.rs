//! The build cache: what builds leave in it, and how it goes.

use crate::harness::Host;

/// A host with an image store of its own: what is pruned here is nobody else's.
fn host() -> Option<Host> {
    let host = Host::bare()?;
    host.ok(&["image", "pull", "-q", "busybox"]);
    Some(host)
}

/// A step that runs, with a cache mount, and one that copies.
const DOCKERFILE: &str = "FROM busybox\n\
    COPY file /file\n\
    RUN --mount=type=cache,id=../../notes,target=/c sh -c 'echo again >> /c/seen; cp /c/seen /seen'\n";

fn build(host: &Host, flags: &[&str]) {
    host.write("file", "content\n");
    host.write("Dockerfile", DOCKERFILE);
    let project = host.project();
    host.ok(&[&["image", "build", "-t", "app:1"], flags, &[project.to_str().unwrap()]].concat());
}

fn seen(host: &Host) -> usize {
    host.ok(&["container", "run", "--rm", "app:1", "cat", "/seen"]).lines().count()
}

#[test]
fn the_build_cache_is_shown_and_pruned() {
    let Some(host) = host() else { return };
    assert_eq!(host.ok(&["builder", "prune", "-f"]), "Total:\t0B");
    build(&host, &[]);
    build(&host, &["--no-cache"]);
    assert_eq!(seen(&host), 2, "the cache mount is kept from build to build");
    let rows = host.lines(&["builder", "du", "--format", "json"]);
    let of = |kind: &str| rows.iter().filter(|row| row["Type"] == kind).count();
    assert_eq!(of("exec.cachemount"), 1, "{rows:?}");
    assert!(of("regular") >= 2, "{rows:?}");
    let mount = rows.iter().find(|row| row["Type"] == "exec.cachemount").unwrap();
    assert!(mount["Description"].as_str().unwrap().contains("../../notes"), "{mount}");
    assert_eq!((&mount["Mutable"], &mount["Size"]), (&true.into(), &"12B".into()));
    let table = host.ok(&["builder", "du"]);
    assert!(
        table.starts_with("ID ") && table.contains("\nReclaimable:\t") && table.contains("\nTotal:\t\t"),
        "{table}"
    );
    let verbose = host.ok(&["builder", "du", "--verbose", "--filter", "type=exec.cachemount"]);
    assert!(verbose.contains("Type:         exec.cachemount") && !verbose.contains("Total:"), "{verbose}");
    let df = host.ok(&["system", "df"]);
    let line = df.lines().find(|line| line.starts_with("Build Cache")).unwrap();
    assert_eq!(line.split_whitespace().nth(2), Some(rows.len().to_string().as_str()), "{df}");
    assert!(host.ok(&["system", "df", "-v"]).contains("\nBuild cache usage: "));

    // What images share stays, unless all is asked for; the image works on.
    let pruned = host.ok(&["builder", "prune", "-f"]);
    assert!(pruned.contains("RECLAIMABLE") && pruned.contains("\nTotal:\t"), "{pruned}");
    let left = host.lines(&["builder", "du", "--format", "json"]);
    assert!(!left.is_empty() && left.iter().all(|row| row["Shared"] == true), "{left:?}");
    host.ok(&["builder", "prune", "-af"]);
    assert!(host.lines(&["builder", "du", "--format", "json"]).is_empty());
    assert_eq!(seen(&host), 2);
    build(&host, &[]);
    assert_eq!(seen(&host), 1);
    let said = host.ok(&["system", "prune", "-af"]);
    assert!(said.contains("Deleted build cache objects:"), "{said}");
    assert!(host.lines(&["builder", "du", "--format", "json"]).is_empty());
    let left = crate::harness::names_in(&host.root().join("layers"));
    assert!(left.is_empty(), "no image and no record is left: {left:?} {}", host.ok(&["image", "ls", "-a"]));
}

#[test]
fn a_rebuild_uses_what_an_image_removed_has_left() {
    let Some(host) = host() else { return };
    build(&host, &[]);
    host.ok(&["image", "rm", "app:1"]);
    host.ok(&["image", "prune", "-f"]);
    build(&host, &[]);
    // The step was not run again: its line would be there twice.
    assert_eq!(seen(&host), 1);
    assert!(host.ok(&["system", "check"]).len() < 10_000);
}

#[test]
fn filters_and_limits_of_the_build_cache_choose() {
    let Some(host) = host() else { return };
    build(&host, &[]);
    host.ok(&["image", "rm", "app:1"]);
    let count = || host.lines(&["builder", "du", "--format", "json"]).len();
    let all = count();
    for none in
        [["--filter", "until=24h"], ["--filter", "bogus=1"], ["--reserved-space", "1gb"], ["--keep-storage", "1gb"]]
    {
        assert_eq!(host.ok(&[&["builder", "prune", "-af"], &none[..]].concat()), "Total:\t0B");
    }
    assert_eq!(count(), all);
    let pruned = host.ok(&["builder", "prune", "-f", "--filter", "description~=COPY"]);
    let rows = host.ok(&["builder", "du", "--verbose"]);
    assert_eq!(pruned.lines().filter(|line| line.contains("true")).count(), 1, "{pruned}\n{rows}");
    assert_eq!(count(), all - 1);
    let said = host.fails(1, &["builder", "prune", "-f", "--filter", "until=xx"]);
    assert!(said.contains("until") && said.contains("24h"), "{said}");
    let said = host.fails(1, &["builder", "prune"]);
    assert!(said.contains("all dangling build cache") && said.contains("--force"), "{said}");
}

#[test]
fn docker_has_it_under_its_names() {
    use crate::docker::docker;
    let Some(host) = host() else { return };
    build(&host, &[]);
    host.ok(&["image", "rm", "app:1"]);
    let table = docker(&host, &["buildx", "du"]);
    assert!(table.code == 0 && table.out.starts_with("ID ") && table.out.contains("\nTotal:\t\t"), "{}", table.out);
    let ids = docker(&host, &["buildx", "du", "--filter", "type=regular", "--format", "{{.ID}}"]).out;
    let first = ids.lines().next().unwrap();
    let pruned = docker(&host, &["buildx", "prune", "-f", "--verbose", "--filter", &format!("id={first}")]);
    assert!(pruned.out.starts_with(&format!("ID:\t\t{first}\n")), "{}", pruned.out);
    let rest = docker(&host, &["builder", "prune", "--all", "--force", "--keep-storage", "0"]);
    assert!(rest.code == 0 && rest.out.contains("\nTotal:\t"), "{}{}", rest.out, rest.err);
    assert_eq!(docker(&host, &["builder", "du", "--format", "{{.ID}}"]).out, "");
}
