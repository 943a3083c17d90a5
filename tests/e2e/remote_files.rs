//! Compose files that lie in git repositories.

use std::path::Path;

use crate::harness::{Done, Host, finish, tool};

fn git(dir: &Path, words: &[&str]) -> String {
    let dir = dir.display().to_string();
    let fixed = ["-C", &dir, "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"];
    tool("git", &[&fixed, words].concat()).trim().to_owned()
}

fn run(host: &Host, variables: &[(&str, &str)], args: &[&str]) -> Done {
    let mut command = host.command(args);
    command.env("XDG_CACHE_HOME", host.path().join("cache")).envs(variables.iter().copied());
    finish(command, b"", &format!("umiak {}", args.join(" ")))
}

#[test]
fn files_of_git_repositories_are_loaded_included_and_extended() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let repository = host.project().join("stack");
    host.write(
        "stack/compose.yaml",
        "services: { web: { image: busybox, command: sleep 1000, stop_grace_period: 0s, env_file: web.env } }\n",
    );
    host.write("stack/web.env", "WHENCE=repository\n");
    host.write(
        "stack/sub/part.yaml",
        "services: { part: { image: busybox, command: sleep 1000, labels: { from: part } } }\n",
    );
    git(&repository, &["init", "--quiet"]);
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "--quiet", "-m", "one"]);
    git(&repository, &["tag", "-a", "-m", "first", "v1"]);
    let commit = git(&repository, &["rev-parse", "HEAD"]);
    // Another branch whose name ends the same way, and comes first.
    git(&repository, &["checkout", "--quiet", "-b", "fix/main"]);
    git(&repository, &["commit", "--quiet", "--allow-empty", "-m", "two"]);
    git(&repository, &["checkout", "--quiet", "main"]);
    let url = format!("file://{}", repository.display());

    let done = run(&host, &[], &["-p", "demo", "-f", &url, "up", "-d"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(host.ok(&["-p", "demo", "exec", "-T", "web", "sh", "-c", "echo $WHENCE"]), "repository");
    let labels = host.inspect("demo-web-1")["Config"]["Labels"].clone();
    let kept = host.path().join("cache/umiak/compose").join(&commit);
    assert_eq!(labels["com.docker.compose.project.working_dir"], kept.to_str().unwrap());
    host.ok(&["-p", "demo", "down"]);

    host.write(
        "compose.yaml",
        &format!(
            "include: ['{url}#v1:sub/part.yaml']\nservices: {{ own: {{ extends: {{ file: '{url}#main', service: web }} }} }}\n"
        ),
    );
    let done = run(&host, &[], &["config"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("from: part") && done.out.contains("WHENCE: repository"), "{}", done.out);

    // A commit that is there needs no repository any more; a branch is asked for each time.
    std::fs::rename(&repository, host.project().join("gone")).unwrap();
    let done = run(&host, &[], &["-f", &format!("{url}#{commit}"), "config", "--services"]);
    assert_eq!((done.code, done.out.as_str()), (0, "web\n"), "{}", done.err);
    let done = run(&host, &[], &["config"]);
    assert!(done.code == 1 && done.err.contains("compose.yaml:1:11") && done.err.contains(&url), "{}", done.err);
    std::fs::rename(host.project().join("gone"), &repository).unwrap();

    for (file, variables, said) in [
        (format!("{url}#nosuch"), &[][..], "has no nosuch"),
        (format!("{url}#main:none.yaml"), &[], "the repository has no none.yaml"),
        (format!("{url}#main:sub"), &[], "no Compose file there"),
        (
            url.clone(),
            &[("COMPOSE_EXPERIMENTAL_GIT_REMOTE", "false")],
            "disabled by \"COMPOSE_EXPERIMENTAL_GIT_REMOTE\"",
        ),
    ] {
        let done = run(&host, variables, &["-f", &file, "config", "-q"]);
        assert!(done.code == 1 && done.err.contains(said), "{file}: {}", done.err);
    }
    assert_eq!(crate::harness::names_in(&host.path().join("cache/umiak/compose")), [commit], "nothing else is left");
}
