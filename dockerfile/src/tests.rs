//! Whole files: what they say, and what is said about those that are wrong.

use super::*;

mod checking;
mod expansion;
mod faults;
mod hostile;
mod recorded;

fn read(source: &str) -> Dockerfile {
    match parse(source) {
        Ok(file) => file,
        Err(error) => panic!("{}", error.render("Dockerfile", source)),
    }
}

fn only(source: &str) -> Instruction {
    let file = read(&format!("FROM a\n{source}"));
    file.stages[0].instructions[0].clone()
}

fn run(source: &str) -> Run {
    match only(source).kind {
        Kind::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn raw(text: &Option<Text>) -> Option<&str> {
    text.as_ref().map(|text| text.raw.as_str())
}

#[test]
fn a_file_has_directives_arguments_and_stages() {
    let file = read(concat!(
        "# syntax = docker/dockerfile:1\n# escape=`\n# check=skip=StageNameCasing, x;error=true\n\n",
        "ARG V=1 W\nfrom --platform=$BUILDPLATFORM alpine:$V as Build\nRUN a `\n # no\n  b\nFROM scratch\n",
    ));
    assert_eq!(file.directives.syntax.as_deref(), Some("docker/dockerfile:1"));
    assert_eq!(file.directives.escape, '`');
    let check = file.directives.check.unwrap();
    assert_eq!((check.skip, check.error), (vec!["StageNameCasing".to_owned(), String::new()], false));
    let Kind::Arg(items) = &file.meta_args[0].kind else { panic!() };
    assert_eq!(items[0].default.as_ref().unwrap().raw, "1");
    assert_eq!((items[1].name.as_str(), items[1].default.as_ref()), ("W", None));
    let [build, last] = file.stages.as_slice() else { panic!() };
    assert_eq!((build.name.as_deref(), build.image.raw.as_str()), (Some("build"), "alpine:$V"));
    assert_eq!(raw(&build.platform), Some("$BUILDPLATFORM"));
    assert_eq!(build.place, Place { line: 6, end_line: 6, column: 1 });
    assert_eq!(build.image.place.column, 32);
    assert_eq!(build.platform.as_ref().unwrap().place.column, 17);
    let instruction = &build.instructions[0];
    assert_eq!(instruction.line, "RUN a   b");
    assert_eq!(instruction.place, Place { line: 7, end_line: 9, column: 1 });
    assert_eq!((last.image.raw.as_str(), last.name.as_ref()), ("scratch", None));
}

#[test]
fn lines_are_joined_and_comments_left_out() {
    for (source, line) in [
        ("RUN a", "RUN a"),
        ("\u{feff}RUN a", "RUN a"),
        ("RUN a\r\n", "RUN a"),
        ("  RUN a  ", "RUN a"),
        ("RUN a \\\n b", "RUN a  b"),
        ("RUN a\\\r\n b", "RUN a b"),
        ("RUN a \\  \t\n b", "RUN a  b"),
        ("RUN a \\\n# c\n  # d\n b", "RUN a  b"),
        ("RUN a \\\n\n  \n b", "RUN a  b"),
        ("RUN a \\\\\nRUN b", "RUN a \\\\"),
        ("RUN a \\", "RUN a"),
        ("\\\nRUN a", "RUN a"),
        ("RUN a # not a comment", "RUN a # not a comment"),
    ] {
        let file = read(&format!(
            "{}FROM x\n{}",
            if source.starts_with('\u{feff}') { "\u{feff}" } else { "" },
            source.trim_start_matches('\u{feff}')
        ));
        assert_eq!(file.stages[0].instructions[0].line, line, "{source:?}");
    }
}

#[test]
fn commands_are_json_or_for_the_shell() {
    let exec = |words: &[&str]| Command::Exec(words.iter().map(|word| (*word).to_owned()).collect());
    let shell = |text: &str| Command::Shell(text.to_owned());
    for (source, expected) in [
        (r#"["a", "b c"]"#, exec(&["a", "b c"])),
        (r#" [ "a" , "\u00e4\n" ] "#, exec(&["a", "ä\n"])),
        ("[]", exec(&[])),
        (r#"["a" "b"]"#, shell(r#"["a" "b"]"#)),
        ("['a']", shell("['a']")),
        (r#"["a"] x"#, shell(r#"["a"] x"#)),
        (r#"["a","#, shell(r#"["a","#)),
        ("echo  a   b", shell("echo  a   b")),
        ("", shell("")),
    ] {
        assert_eq!(only(&format!("CMD {source}")).kind, Kind::Cmd(expected.clone()), "{source}");
        assert_eq!(only(&format!("ENTRYPOINT {source}")).kind, Kind::Entrypoint(expected), "{source}");
    }
}

#[test]
fn pairs_are_new_or_old() {
    for (source, expected) in [
        ("a=b", vec![("a", "b")]),
        ("a=b c=\"d e\" f='g'", vec![("a", "b"), ("c", "\"d e\""), ("f", "'g'")]),
        ("a=b\\ c d=", vec![("a", "b\\ c"), ("d", "")]),
        ("a b c=d", vec![("a", "b c=d")]),
        ("a   b", vec![("a", "b")]),
        ("\"a b\"=c", vec![("\"a b\"", "c")]),
        ("a=b=c", vec![("a", "b=c")]),
        ("a=$b x=${c:-d e}", vec![]),
    ] {
        let line = format!("ENV {source}");
        if expected.is_empty() {
            assert!(parse(&format!("FROM a\n{line}")).is_err(), "{source}");
            continue;
        }
        let Kind::Env(pairs) = only(&line).kind else { panic!() };
        let seen: Vec<_> = pairs.iter().map(|(name, value)| (name.raw.as_str(), value.raw.as_str())).collect();
        assert_eq!(seen, expected, "{source}");
    }
}

#[test]
fn flags_belong_to_their_instruction() {
    let Kind::Copy(copy) = only(
        "COPY --from=0x --chown='a b':c --chmod=u+x --link --parents=false --exclude=*.a --exclude=b -- --x y /z/",
    )
    .kind
    else {
        panic!()
    };
    assert_eq!((raw(&copy.from), raw(&copy.chown), raw(&copy.chmod)), (Some("0x"), Some("a b:c"), Some("u+x")));
    assert_eq!((copy.link, copy.parents, copy.exclude.len()), (true, false, 2));
    let names: Vec<_> = copy
        .sources
        .iter()
        .map(|source| match source {
            Source::File(text) => text.raw.as_str(),
            Source::Heredoc(heredoc) => heredoc.name.as_str(),
        })
        .collect();
    assert_eq!((names, copy.target.raw.as_str()), (vec!["--x", "y"], "/z/"));
    let Kind::Add(add) = only(r#"ADD --checksum=sha256:$S --keep-git-dir --unpack=false ["a b", "/c"]"#).kind else {
        panic!()
    };
    assert_eq!((raw(&add.checksum), add.keep_git_dir, add.unpack), (Some("sha256:$S"), Some(true), Some(false)));
    assert!(matches!(&add.sources[..], [Source::File(text)] if text.raw == "a b"));
}

#[test]
fn heredocs_are_read_where_they_are_allowed() {
    let script = run("RUN <<EOF\necho a\n  b\nEOF\nRUN next");
    assert_eq!(script.heredocs[0].content, "echo a\n  b\n");
    assert!(matches!(script.form(), RunForm::Script(heredoc) if heredoc.expand && heredoc.summary() == "echo a..."));
    for (source, form) in [
        ("RUN python3 <<EOF\nx\nEOF", "python3 <<EOF\nx\nEOF"),
        ("RUN cat <<EOF > /f && b\nx\nEOF", "cat <<EOF > /f && b\nx\nEOF"),
        ("RUN <<A cat && <<B cat\n1\nA\n2\nB", "<<A cat && <<B cat\n1\nA\n2\nB"),
        ("RUN cat 3<<-E\n\tx\n\tE", "cat 3<<-E\nx\nE"),
        ("RUN a <<'E' \\\n  && b\nx\nE", "a <<'E'   && b\nx\nE"),
        ("RUN cat <<< word", "cat <<< word"),
        ("RUN echo '<<E'", "echo '<<E'"),
        ("RUN echo a<<E", "echo a<<E"),
    ] {
        assert_eq!(run(source).form(), RunForm::Shell(form.to_owned()), "{source}");
    }
    let quoted = run("RUN cat <<\"E F\" <<-G\n$a\nE F\n\t\tb\n\tG\n");
    let [first, second] = quoted.heredocs.as_slice() else { panic!() };
    assert_eq!((first.name.as_str(), first.expand, first.content.as_str()), ("E F", false, "$a\n"));
    assert_eq!((second.name.as_str(), second.chomp, second.content.as_str()), ("G", true, "b\n"));
    assert_eq!(second.place, Place { line: 5, end_line: 5, column: 1 });
    let Kind::Copy(copy) = only("COPY <<a b <<-'c' /d/\n1\na\n\t2\nc\n").kind else { panic!() };
    let [Source::Heredoc(a), Source::File(_), Source::Heredoc(c)] = copy.sources.as_slice() else { panic!() };
    assert_eq!((a.content.as_str(), a.expand, c.content.as_str(), c.expand), ("1\n", true, "2\n", false));
    assert_eq!(only("RUN [\"cat\", \"<<E\"]").kind, Kind::Run(run("RUN [\"cat\", \"<<E\"]")));
}

#[test]
fn what_is_put_off_is_checked_and_kept() {
    let Kind::OnBuild(text) = only("ONBUILD  COPY <<a /b\nx\na\nRUN c").kind else { panic!() };
    assert_eq!(text, "COPY <<a /b\nx\na");
    let later = parse_onbuild(&text, '\\').unwrap();
    assert!(matches!(later.kind, Kind::Copy(copy) if copy.sources.len() == 1));
    for text in ["", "FROM a", "ONBUILD RUN a", "MAINTAINER a", "RUN a\nRUN b", "NO", "RUN --x a"] {
        assert!(parse_onbuild(text, '\\').is_err(), "{text}");
    }
}

#[test]
fn a_mount_comes_to_what_its_variables_say() {
    let source = "RUN --mount=type=cache,target=/c/$A,sharing=locked,id=${A}x,uid=$U,mode=0750 --mount=type=secret,id=s,env=,required --mount=target=/x,rw a";
    let mounts = run(source).mounts;
    let lookup = |name: &str| (name == "A").then(|| "v".to_owned()).or((name == "U").then(|| "7".to_owned()));
    let mut expand = |text: &Text| expand(&text.raw, '\\', &lookup).map(|expanded| expanded.text);
    let specs: Vec<MountSpec> = mounts.iter().map(|mount| mount.resolve(&mut expand).unwrap()).collect();
    assert_eq!(specs[0].target.as_deref(), Some("/c/v"));
    assert_eq!(
        (specs[0].sharing, specs[0].uid, specs[0].mode, specs[0].readonly),
        (Sharing::Locked, Some(7), Some(0o750), false)
    );
    assert_eq!(specs[0].id.as_deref(), Some("vx"));
    assert_eq!((specs[1].kind, specs[1].required, specs[1].env.as_deref()), (MountKind::Secret, true, Some("")));
    assert_eq!((specs[2].kind, specs[2].readonly, mounts[2].readonly), (MountKind::Bind, false, Some(false)));
    let wrong = &run("RUN --mount=type=$T,target=/a a").mounts[0];
    assert!(wrong.resolve(&mut |_| Ok("bnid".to_owned())).is_err());
}

#[test]
fn the_rest_is_what_it_says() {
    let texts = |kind: Kind| match kind {
        Kind::Expose(texts) | Kind::Volume(texts) => texts.into_iter().map(|text| text.raw).collect::<Vec<_>>(),
        Kind::User(text) | Kind::Workdir(text) | Kind::StopSignal(text) => vec![text.raw],
        Kind::Maintainer(text) => vec![text],
        Kind::Shell(words) => words,
        other => panic!("{other:?}"),
    };
    for (source, expected) in [
        ("EXPOSE 90/udp  80 $P", vec!["$P", "80", "90/udp"]),
        ("VOLUME /a  /b", vec!["/a", "/b"]),
        (r#"VOLUME ["/a b", " /c "]"#, vec!["/a b", "/c"]),
        ("USER  a:b ", vec!["a:b"]),
        ("WORKDIR /a b", vec!["/a b"]),
        ("STOPSIGNAL $S", vec!["$S"]),
        ("MAINTAINER a <b@c>", vec!["a <b@c>"]),
        (r#"shell ["a", "-c"]"#, vec!["a", "-c"]),
    ] {
        assert_eq!(texts(only(source).kind), expected, "{source}");
    }
    let Kind::Healthcheck(Healthcheck::Check { command, interval, retries, timeout, .. }) =
        only("HEALTHCHECK --interval=1m30s --retries=3 --timeout=0s cmd a b").kind
    else {
        panic!()
    };
    assert_eq!(command, Command::Shell("a b".to_owned()));
    assert_eq!((interval, retries, timeout), (Some(std::time::Duration::from_secs(90)), Some(3), None));
    assert_eq!(only("HEALTHCHECK NONE").kind, Kind::Healthcheck(Healthcheck::None));
}
