//! What people see of a build: lines in a pipe, a live view on a terminal, what is said of a failure, and what is
//! left when it is ended.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Host, binary, eventually, finish_child, signal};
use crate::registry::own_store;
use crate::top::Screen;

const FAILS: &str = "FROM busybox
RUN echo first
WORKDIR /srv
ENV GREETING=hello
RUN for i in $(seq 30); do echo line $i; done; touch /made; \\
    exit 7
RUN echo never
";

/// The lines of a step, by its title, without its number.
fn step<'t>(text: &'t str, title: &str) -> Vec<&'t str> {
    let number = |line: &'t str| line.strip_prefix('#')?.split_once(' ');
    let (found, _) = text
        .lines()
        .filter_map(number)
        .find(|(_, rest)| *rest == title)
        .unwrap_or_else(|| panic!("no step {title:?} in\n{text}"));
    text.lines().filter_map(number).filter(|(number, _)| *number == found).map(|(_, rest)| rest).collect()
}

/// A line of what a step does, without the time that it took, which is told from a twentieth of a second on.
fn timeless(line: &str) -> String {
    let Some((what, last)) = line.strip_suffix(" done").and_then(|line| line.rsplit_once(' ')) else {
        return line.to_owned();
    };
    let is_time = last.strip_suffix('s').is_some_and(|time| time.parse::<f64>().is_ok());
    if is_time { format!("{what} done") } else { line.to_owned() }
}

fn seconds(text: &str) -> f64 {
    text.strip_suffix('s').unwrap_or(text).parse().unwrap_or_else(|_| panic!("{text:?} is no time"))
}

#[test]
fn in_a_pipe_a_build_has_the_lines_of_buildkit() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("hello", "hello\n");
    host.write(".dockerignore", "x\n");
    host.write(
        "Dockerfile",
        "FROM busybox AS base\nRUN echo one; printf '10%%\\r\\033[31mred\\033[0m\\n'\nFROM base\nCOPY hello /\n",
    );
    let args = ["image", "build", "-t", "shown", "."];
    let done = host.run(&args);
    assert_eq!((done.code, done.out.as_str()), (0, ""), "{}", done.err);
    let definition = step(&done.err, "[internal] load build definition from Dockerfile");
    assert!(
        definition[1].starts_with("transferring dockerfile: ") && definition[1].ends_with("B done"),
        "{definition:?}"
    );
    assert!(definition[2].starts_with("DONE "), "{definition:?}");
    for (title, wanted) in [
        ("[internal] load .dockerignore", "transferring context: 2B done"),
        ("[internal] load build context", "transferring context: 6B done"),
    ] {
        let lines: Vec<String> = step(&done.err, title).into_iter().map(timeless).collect();
        assert!(lines.iter().any(|line| line == wanted), "{title}: {lines:?}");
    }
    assert_eq!(step(&done.err, "[base 1/2] FROM docker.io/library/busybox:latest")[1..], ["CACHED"]);
    let run = step(&done.err, "[base 2/2] RUN echo one; printf '10%%\\r\\033[31mred\\033[0m\\n'");
    let said: Vec<(f64, &str)> =
        run[1..3].iter().filter_map(|line| line.split_once(' ')).map(|(time, line)| (seconds(time), line)).collect();
    assert_eq!(said.iter().map(|(_, line)| *line).collect::<Vec<_>>(), ["one", "red"]);
    assert!(seconds(run[3].strip_prefix("DONE ").unwrap()) >= 0.0, "{run:?}");
    let export = step(&done.err, "exporting to image");
    assert!(
        export.iter().any(|line| line.starts_with("writing image sha256:") && line.ends_with(" done")),
        "{export:?}"
    );
    let naming = "naming to docker.io/library/shown:latest done";
    assert!(export.iter().any(|line| timeless(line) == naming), "{export:?}");
    assert!(!done.err.contains('\u{1b}'), "{:?}", done.err);
    // Steps are set off from one another.
    assert!(done.err.contains("\n\n#2 ") && !done.err.contains("\n\n\n"), "{}", done.err);
    let again = host.run(&args);
    assert_eq!(step(&again.err, "[stage-1 1/1] COPY hello /")[1..], ["CACHED"], "{}", again.err);
    assert!(again.err.contains("RUN echo one") && !again.err.contains(" red"), "{}", again.err);
    for quiet in [&["-q"][..], &["--progress=quiet"]] {
        let done = host.run(&[&["image", "build", "."][..], quiet].concat());
        assert!(done.err.is_empty() && done.out.starts_with("sha256:") && done.out.len() == 72, "{done:?}");
    }
    assert_eq!(host.run(&["image", "build", "--progress=none", "."]).out, "");
    assert!(host.fails(1, &["image", "build", "--progress=nice", "."]).contains("invalid progress mode nice"));
}

#[test]
fn the_layers_of_a_base_image_are_shown_as_they_come() {
    let Some(host) = Host::bare() else { return };
    host.write("Dockerfile", "FROM busybox\nENV A=b\n");
    let done = host.run(&["image", "build", "."]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(step(&done.err, "[internal] load metadata for docker.io/library/busybox:latest")[1].starts_with("DONE "));
    let pull = step(&done.err, "[1/1] FROM docker.io/library/busybox:latest");
    assert!(pull.iter().any(|line| line.starts_with("sha256:") && line.contains(" 0B / ")), "{pull:?}");
    assert!(pull.iter().any(|line| line.starts_with("sha256:") && line.ends_with(" done")), "{pull:?}");
    assert!(pull.iter().any(|line| line.starts_with("extracting sha256:") && line.ends_with(" done")), "{pull:?}");
    assert!(pull.last().unwrap().starts_with("DONE "), "{pull:?}");
}

#[test]
fn progress_as_json_has_buildkits_objects() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("Dockerfile", "FROM busybox\nRUN echo out; exit 3\n");
    let mut command = host.command(&["image", "build", "."]);
    command.env("BUILDKIT_PROGRESS", "rawjson");
    let done = crate::harness::finish(command, b"", "build");
    assert_eq!(done.code, 1, "{}", done.err);
    let lines: Vec<Value> = done.err.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let vertexes: Vec<&Value> = lines.iter().filter_map(|line| line["vertexes"].as_array()).flatten().collect();
    let last = |name: &str| *vertexes.iter().rfind(|vertex| vertex["name"] == name).unwrap_or_else(|| panic!("{name}"));
    let from = last("[1/2] FROM docker.io/library/busybox:latest");
    assert!(from["cached"] == true && from["started"].is_string() && from["completed"].is_string(), "{from}");
    let run = last("[2/2] RUN echo out; exit 3");
    assert!(run["error"].as_str().unwrap().ends_with("exit code: 3"), "{run}");
    let log = lines.iter().find_map(|line| line["logs"].as_array()).expect("a line of output");
    assert_eq!((&log[0]["vertex"], log[0]["data"].as_str()), (&run["digest"], Some("b3V0Cg==")));
    let statuses: Vec<&Value> = lines.iter().filter_map(|line| line["statuses"].as_array()).flatten().collect();
    assert!(statuses.iter().any(|status| status["id"].as_str().unwrap().starts_with("transferring dockerfile")));
}

#[test]
fn a_failed_run_shows_its_last_lines_the_command_and_its_line() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("Dockerfile", FAILS);
    let text = host.fails(1, &["image", "build", "."]);
    let (_, after) = text.split_once("\n------\n > [4/5] RUN for i in").unwrap_or_else(|| panic!("{text}"));
    let (lines, after) = after.split_once("\n------\n").unwrap();
    // The others stand above.
    assert!(lines.contains(" line 21\n") && lines.ends_with(" line 30") && !lines.contains(" line 20"), "{lines}");
    assert!(text.contains(" line 1\n"), "{text}");
    let excerpt = "Dockerfile:5\n--------------------\n   3 |     WORKDIR /srv\n   4 |     ENV GREETING=hello\n";
    assert!(after.starts_with(excerpt), "{after}");
    assert!(
        after.contains("   5 | >>> RUN for i in $(seq 30)") && after.contains("   6 | >>>     exit 7\n"),
        "{after}"
    );
    let reason = "failed to solve: process \"/bin/sh -c for i in $(seq 30); do echo line $i; done; touch /made;";
    assert!(after.contains(reason) && after.contains("did not complete successfully: exit code: 7\n"), "{after}");
    assert!(after.contains("--debug-shell"), "{after}");
    // Without the lines above, more of them are shown.
    let quiet = host.fails(1, &["image", "build", "-q", "."]);
    assert!(quiet.contains(" line 1\n") && quiet.contains(" line 30\n") && !quiet.contains('#'), "{quiet}");
    host.write("Long", &format!("FROM busybox\nRUN echo {}; exit 1\n", "x".repeat(9000)));
    let long = host.fails(1, &["image", "build", "-q", "-f", "Long", "."]);
    let reason = long.lines().find(|line| line.contains("did not complete")).unwrap();
    assert!(reason.len() < 2500, "{}", reason.len());
}

#[test]
fn a_terminal_is_redrawn_and_left_clean() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("Dockerfile", "FROM busybox\nRUN echo visible; until [ -e /go ]; do sleep 0.1; done\n");
    host.write("Fails", "FROM busybox\nRUN echo some output; exit 5\n");
    let program = binary();
    let line = format!("{} image build .", program.display());
    let mut screen = Screen::new(&host, &line);
    for shown in
        ["[+] Building ", " => [internal] load build definition", " => [2/2] RUN echo visible", " => => # visible"]
    {
        screen.until(shown);
    }
    // Ctrl-C of the terminal's.
    screen.press("\u{3}");
    screen.until("FINISHED");
    screen.until(" => CANCELED [2/2] RUN echo visible");
    // The shell around it was ended by the same key.
    screen.until("in the cache)");
    let hidden = screen.seen.matches("\u{1b}[?25l").count();
    assert_eq!(hidden, screen.seen.matches("\u{1b}[?25h").count(), "the cursor is shown again");
    finish_child(screen.child, b"", "script");
    // Without colours, and narrow.
    let line = format!("stty cols 40; NO_COLOR=1 {} image build -f Fails .", program.display());
    let mut screen = Screen::new(&host, &line);
    screen.until("FINISHED");
    screen.until(" > [2/2] RUN echo some output; exit 5:");
    screen.until("exit code: 5");
    screen.until(" icanon");
    let frames = screen.seen.split("------").next().unwrap();
    assert!(frames.contains(" => ERROR [2/2] RUN echo some"), "{frames}");
    assert!(!frames.contains("\u{1b}[3") && !frames.contains("\u{1b}[0m"), "{frames:?}");
    let wide = |line: &&str| {
        line.rsplit('\r').next().unwrap_or("").split("\u{1b}[K").next().unwrap_or("").chars().count() > 39
    };
    assert_eq!(frames.lines().map(|line| line.trim_end_matches('\r')).find(|line| wide(line)), None);
    finish_child(screen.child, b"", "script");
}

#[test]
fn a_shell_opens_in_the_state_before_the_run_that_fails() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("Dockerfile", FAILS);
    let program = binary();
    let line = format!("{} image build --debug-shell .; echo code $?", program.display());
    let mut screen = Screen::new(&host, &line);
    screen.until("Opening /bin/sh in the state before this step");
    screen.until("# ");
    screen.press("echo $GREETING from $PWD; test -e /made || echo not-$((1+1))-made; tty\n");
    screen.until("hello from /srv");
    screen.until("not-2-made");
    screen.until("/dev/");
    screen.press("exit\n");
    screen.until("exit code: 7");
    screen.until("code 1");
    screen.until(" icanon");
    let last = screen.seen.rsplit("not-2-made").next().unwrap();
    assert!(last.contains("Dockerfile:5") && !last.contains("debug-shell"), "{last}");
    finish_child(screen.child, b"", "script");
    // Without a terminal there is nobody to ask.
    let text = host.fails(1, &["image", "build", "--debug-shell", "."]);
    assert!(!text.contains("Opening"), "{text}");
}

/// A build whose second RUN waits, once it does.
fn waiting(host: &Host) -> (std::process::Child, BufReader<std::process::ChildStderr>) {
    host.write("Dockerfile", "FROM busybox\nRUN echo made > /made\nRUN echo waits; sleep 1000\n");
    let mut command = host.command(&["image", "build", "."]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.ends_with(" waits\n") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "the build has ended");
    }
    (child, stderr)
}

#[test]
fn an_interrupted_build_leaves_nothing_but_its_cache() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let (mut child, mut stderr) = waiting(&host);
        signal(child.id(), name);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stderr, &mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{text}");
        assert!(text.contains("CANCELED") && text.contains("context canceled"), "{text}");
        assert!(host.ids().is_empty(), "{text}");
    }
    host.write("Dockerfile", "FROM busybox\nRUN echo made > /made\n");
    let again = host.run(&["image", "build", "."]);
    assert_eq!(step(&again.err, "[2/2] RUN echo made > /made")[1..], ["CACHED"], "{}", again.err);
}

#[test]
fn what_a_killed_build_leaves_is_cleared_away() {
    // What is pruned here is nobody else's.
    let Some(host) = own_store() else { return };
    for clear in [&["image", "build", "-f", "Other", "."][..], &["system", "prune", "-f"]] {
        host.write("Other", "FROM busybox\nRUN true\n");
        let (mut child, _stderr) = waiting(&host);
        let ids = host.ids();
        assert!(!ids.is_empty());
        signal(child.id(), "KILL");
        child.wait().unwrap();
        // The step's monitor sees by itself that nobody waits for it.
        eventually("the step ends", || {
            let running: Vec<_> = ids.iter().flat_map(|id| crate::harness::cgroups_of(id)).collect();
            if running.is_empty() { Ok(()) } else { Err(format!("{running:?}")) }
        });
        host.ok(clear);
        assert!(host.ids().is_empty(), "{clear:?}");
    }
}

const LINTED: &str = "ARG TAG=latest
from busybox:$TAG AS base
# MODE is how it is built
ARG MODE=fast
RUN --mount=type=secret,id=token,required true
# final is what is shipped
FROM base AS final
ARG OTHER
ENV WHERE=$NOWHERE
CMD echo hi
";

#[test]
fn warnings_are_told_at_the_end_of_a_build() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("token", "t\n");
    host.write("Dockerfile", LINTED);
    let args = ["image", "build", "--secret", "id=token,src=token", "."];
    let done = host.run(&args);
    assert_eq!(done.code, 0, "{}", done.err);
    let (_, told) = done.err.split_once("\n 4 warnings found ").unwrap_or_else(|| panic!("{}", done.err));
    for line in [
        " - ConsistentInstructionCasing: Command 'from' should match the case of the command majority (uppercase) (line 2)",
        " - FromAsCasing: 'AS' and 'from' keywords' casing do not match (line 2)",
        " - UndefinedVar: Usage of undefined variable '$NOWHERE' (line 9)",
        " - JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 10)",
    ] {
        assert!(told.lines().any(|told| told == line), "{line}\nin {told}");
    }
    let definition = step(&done.err, "[internal] load build definition from Dockerfile");
    assert!(definition.iter().any(|line| line.starts_with("WARN: FromAsCasing: ")), "{definition:?}");
    let quiet = host.run(&[&args[..], &["-q"]].concat());
    assert_eq!((quiet.code, quiet.err.as_str()), (0, ""));
    host.write("Strict", &format!("# check=error=true\n{LINTED}"));
    let strict = host.fails(1, &[&args[..], &["-f", "Strict"]].concat());
    assert!(
        strict.contains("failed to solve: lint violation found for rules: ") && !strict.contains("RUN"),
        "{strict}"
    );
    host.write("Skips", "# check=skip=JSONArgsRecommended;error=true\nFROM busybox\nCMD echo hi\n");
    assert!(!host.run(&["image", "build", "-f", "Skips", "."]).err.contains("warning"));
}

#[test]
fn a_dockerfile_can_be_asked_instead_of_built() {
    let Some(host) = Host::bare() else { return };
    host.write("Dockerfile", LINTED);
    host.write("Good", "FROM scratch\nCMD [\"x\"]\n");
    let check = host.run(&["image", "build", "--check", "."]);
    assert_eq!(check.code, 1, "{}", check.err);
    assert!(check.out.starts_with("Check complete, 4 warnings have been found!\n\nWARNING: "), "{}", check.out);
    let path = host.project().join("Dockerfile");
    let json_args = format!(
        "WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\nJSON arguments \
         recommended for CMD to prevent unintended behavior related to OS signals\n{}:10\n--------------------\n   8 |     \
         ARG OTHER\n",
        path.display()
    );
    assert!(check.out.contains(&json_args), "{}", check.out);
    let undefined = "Usage of undefined variable '$NOWHERE'";
    assert!(check.out.contains(undefined), "its base is not here, and known all the same: {}", check.out);
    let good = host.run(&["image", "build", "--check", "-f", "Good", "."]);
    assert_eq!((good.code, good.out.as_str()), (0, "Check complete, no warnings found.\n"));
    let all = host.run(&["image", "build", "--call=check,format=json", "."]);
    let json: Value = serde_json::from_str(&all.out).unwrap();
    assert_eq!((all.code, json["warnings"].as_array().map(Vec::len)), (1, Some(4)), "{json}");
    let rule = json["warnings"].as_array().unwrap().iter().find(|one| one["ruleName"] == "UndefinedVar").unwrap();
    assert_eq!((&rule["detail"], &rule["location"]["ranges"][0]["start"]["line"]), (&undefined.into(), &9.into()));
    assert_eq!(rule["description"], "Variables should be defined before their use");
    assert_eq!(json["sources"][0]["filename"], "Dockerfile");
    let targets = host.ok(&["image", "build", "--call", "targets", "."]);
    assert_eq!(targets, "TARGET          DESCRIPTION\nbase            \nfinal (default) is what is shipped");
    let json = host.json(&["image", "build", "--call", "targets,format=json", "."]);
    assert_eq!(json["targets"][1]["base"], "base");
    assert_eq!((&json["targets"][0]["base"], &json["targets"][1]["default"]), (&"busybox:latest".into(), &true.into()));
    let outline = host.run(&["image", "build", "--call", "outline", "--build-arg", "OTHER=given", "."]).out;
    let expected = "TARGET:      final\nDESCRIPTION: is what is shipped\n\nBUILD ARG   VALUE    DESCRIPTION\n\
                    TAG         latest   \nMODE        fast     is how it is built\nOTHER       given    \n\n\
                    SECRET   REQUIRED\ntoken    true\n\n";
    assert_eq!(outline, expected);
    assert!(host.fails(1, &["image", "build", "--call", "sing", "."]).contains("unknown method \"sing\""));
    host.write("Broken", "FROM scratch\nRUNN x\n");
    let broken = host.fails(1, &["image", "build", "-f", "Broken", "."]);
    assert!(
        broken.contains("dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)"),
        "{broken}"
    );
    assert!(broken.contains("Broken:2:1: "), "{broken}");
}

#[test]
fn results_go_to_files_and_errors_have_the_words_of_dockers_builder() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.write("Dockerfile", "FROM busybox\nRUN echo x > /x\n");
    let args = ["-t", "named:1", "--iidfile", "iid", "--metadata-file", "metadata", "."];
    let done = crate::docker::docker(&host, &[&["build"][..], &args].concat());
    assert_eq!(done.code, 0, "{}", done.err);
    let read = |name: &str| std::fs::read_to_string(host.project().join(name)).unwrap();
    let id = host.json(&["image", "inspect", "named:1"])[0]["Id"].as_str().unwrap().to_owned();
    assert_eq!(read("iid"), id);
    let metadata: Value = serde_json::from_str(&read("metadata")).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], id);
    assert_eq!(metadata["image.name"], "docker.io/library/named:1");
    assert!(metadata["containerimage.digest"].as_str().unwrap().starts_with("sha256:"), "{metadata}");
    host.write("Dockerfile", "FROM busybox\nRUN exit 9\n");
    for command in [&["build", "."][..], &["buildx", "build", "."], &["image", "build", "."]] {
        let done = crate::docker::docker(&host, command);
        let wanted = "ERROR: failed to build: failed to solve: process \"/bin/sh -c exit 9\" did not complete \
                      successfully: exit code: 9\n";
        assert!(done.code == 1 && done.err.contains(wanted), "{}", done.err);
    }
    let missing = crate::docker::docker(&host, &["build", "nowhere"]);
    assert!(missing.err.starts_with("ERROR: failed to build: unable to prepare context: path \"nowhere\" not found"));
}
