//! Files that are wrong: the message and the place.

use super::*;

#[test]
fn faults_have_a_message_and_a_place() {
    let mut wrong = String::new();
    for (source, expected) in [
        ("", "0:1: file with no instructions"),
        ("# a\n\n", "2:1: file with no instructions"),
        ("ARG a", "1:1: dockerfile contains no stages to build"),
        ("RUN a\nFROM b", "1:1: no build stage in current context: the first instruction has to be FROM (or ARG)"),
        ("FROM a\n\n  FORM b", "3:3: unknown instruction: FORM (did you mean FROM?)"),
        ("FROM a\nzzzzz b", "2:1: unknown instruction: zzzzz"),
        ("FROM a\nRUN a \\\n\nRUNN b\nrn c", "5:1: unknown instruction: rn (did you mean run?)"),
        ("FROM", "1:1: FROM requires either one or three arguments"),
        ("FROM a b", "1:6: FROM requires either one or three arguments"),
        (
            "FROM a AS 1b",
            "1:11: invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
        ),
        ("FROM --plat=x a", "1:6: unknown flag: --plat"),
        ("FROM --platfrm=x a", "1:6: unknown flag: --platfrm (did you mean platform?)"),
        ("FROM ''", "1:6: base name ('') should not be blank"),
        ("# escape=x\nFROM a", "1:1: invalid escape token 'x' does not match ` or \\"),
        ("# escape=`\n# ESCAPE=`\nFROM a", "2:1: only one escape parser directive can be used"),
        ("# check=skip\nFROM a", "1:1: invalid check option \"skip\""),
        (
            "FROM a\nCOPY b",
            "2:6: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("FROM a\nCOPY --form=b c d", "2:6: unknown flag: --form (did you mean from?)"),
        ("FROM a\nCOPY --link --link c d", "2:13: duplicate flag specified: --link"),
        ("FROM a\nCOPY --chown c d", "2:6: missing a value on flag: --chown"),
        ("FROM a\nCOPY --link=x c d", "2:6: expecting boolean value for flag --link, not: x"),
        ("FROM a\nCOPY --link= c d", "2:6: missing a value on flag: --link"),
        (
            "FROM a\nCOPY --from=$x c d",
            "2:13: variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
        ),
        ("FROM a AS b\nCOPY --from=B c d", "2:13: circular dependency detected on stage: b"),
        ("FROM a\nCOPY --from=0 c d", "2:13: circular dependency detected on stage: stage-0"),
        (
            "FROM a\nCOPY --from=1 c d\nFROM b",
            "2:13: cannot copy from stage \"1\", it needs to be defined before current stage \"stage-0\"",
        ),
        ("FROM a\nCOPY --from=7 c d", "2:13: invalid stage index 7"),
        ("FROM a\nCOPY a <<b\nb", "2:8: COPY cannot accept a heredoc as a destination"),
        ("FROM a\nCOPY <<b /c\nx", "2:6: unterminated heredoc: no line is \"b\""),
        ("FROM a\nRUN x\\\n  && cat <<b\nx", "3:10: unterminated heredoc: no line is \"b\""),
        ("FROM a\nCOPY <<b /c\nx\n ${a:-\nb", "4:7: failed to process \"x\\n ${a:-\\n\": syntax error: missing '}'"),
        ("FROM a\nCOPY [\"a\", 1]", "2:6: when using JSON array syntax, arrays must be comprised of strings only"),
        ("FROM a\nENV a", "2:5: ENV must have two arguments"),
        ("FROM a\nENV", "2:1: ENV requires at least one argument"),
        ("FROM a\nENV a=b c", "2:9: Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("FROM a\nENV =b", "2:5: ENV names can not be blank"),
        (
            "FROM a\nLABEL a='b",
            "2:10: failed to process \"'b\": unexpected end of statement while looking for matching single-quote",
        ),
        ("FROM a\nENV a=b \\\n  c=${d", "3:5: failed to process \"${d\": syntax error: missing '}'"),
        ("FROM a\nARG =b", "2:5: ARG names can not be blank"),
        ("FROM a\nSHELL sh -c", "2:7: SHELL requires the arguments to be in JSON form"),
        ("FROM a\nSHELL []", "2:7: SHELL requires at least one argument"),
        ("FROM a\nVOLUME [\"\"]", "2:8: VOLUME specified can not be an empty string"),
        ("FROM a\nWORKDIR", "2:1: WORKDIR requires exactly one argument"),
        ("FROM a\nONBUILD FROM b", "2:9: FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nONBUILD ONBUILD RUN b", "2:9: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FROM a\nONBUILD RUNN b", "2:9: unknown instruction: RUNN (did you mean RUN?)"),
        ("FROM a\nHEALTHCHECK NONE x", "2:18: HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK x", "2:13: Unknown type \"X\" in HEALTHCHECK (try CMD)"),
        ("FROM a\nHEALTHCHECK CMD", "2:13: Missing command after HEALTHCHECK CMD"),
        (
            "FROM a\nHEALTHCHECK --interval=5 CMD x",
            "2:24: invalid duration \"5\": it is a number with a unit, like 30s or 1m30s",
        ),
        ("FROM a\nHEALTHCHECK --timeout=1ns CMD x", "2:23: Interval \"timeout\" cannot be less than 1ms"),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD x", "2:23: --retries cannot be negative (-1)"),
        ("FROM a\nRUN", "2:1: RUN requires at least one argument"),
        ("FROM a\nRUN a\0b", "2:6: a NUL character"),
        ("FROM a\nRUN --network=x b", "2:15: invalid network mode \"x\""),
        ("FROM a\nRUN --security=x b", "2:16: security \"x\" is not valid"),
        ("FROM a\nRUN --mount=type=bnd b", "2:13: unsupported mount type \"bnd\" (did you mean bind?)"),
        (
            "FROM a\nRUN --mount=bind-propagation=rshared,target=/a b",
            "2:13: unexpected key 'bind-propagation' in 'bind-propagation=rshared'",
        ),
        (
            "FROM a\nRUN --mount=type=bind,tagret=/a b",
            "2:13: unexpected key 'tagret' in 'tagret=/a' (did you mean target?)",
        ),
        (
            "FROM a\nRUN --mount=from=$x,target=/a b",
            "2:13: 'from' doesn't support variable expansion, define alias stage instead",
        ),
        ("FROM a\nRUN --mount=target b", "2:13: invalid field 'target' must be a key=value pair"),
        ("FROM a\nRUN --mount=type=bind,required b", "2:13: unexpected key 'required' for mount type 'bind'"),
        ("FROM a\nRUN --mount=type=bind,mode=0700,target=/a b", "2:13: mode not allowed for \"bind\" type mounts"),
        ("FROM a\nRUN --mount=type=secret b", "2:13: invalid secret mount. one of source, target required"),
        (
            "FROM a\nRUN --mount=type=cache,sharing=lockd,target=/a b",
            "2:13: unsupported sharing value \"lockd\" (did you mean locked?)",
        ),
        ("FROM a\nRUN --mount=type=cache,mode=9,target=/a b", "2:13: invalid value for mode: 9"),
    ] {
        let seen = match parse(source) {
            Ok(file) => format!("{file:?}"),
            Err(error) => format!("{}:{}: {}", error.place.line, error.place.column, error.fault),
        };
        if seen != expected {
            wrong.push_str(&format!("{source:?}\n  is     {seen}\n  not    {expected}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_fault_is_shown_in_its_line() {
    let source = "FROM a\r\n\tFORM b\r\n";
    let error = parse(source).unwrap_err();
    assert_eq!(error.to_string(), "dockerfile parse error on line 2");
    assert_eq!(
        error.render("app/Dockerfile", source),
        "app/Dockerfile:2:2: unknown instruction: FORM (did you mean FROM?)\n  |\n2 | \tFORM b\n  | \t^"
    );
    let long = format!("FROM a\nRUN --x={} b", "y".repeat(100_000));
    assert!(parse(&long).unwrap_err().render("Dockerfile", &long).len() < 100_400);
}

#[test]
fn warnings_are_those_of_the_rules() {
    let rules = |source: &str| -> Vec<String> {
        read(source).warnings.iter().map(|warning| format!("{} {}", warning.place.line, warning.rule.name())).collect()
    };
    for (source, expected) in [
        ("FROM a AS b\nRUN c", vec![]),
        ("FROM a AS B", vec!["1 StageNameCasing"]),
        ("FROM a as b", vec!["1 FromAsCasing"]),
        ("from a AS b", vec!["1 FromAsCasing"]),
        ("FROM a AS scratch\nFROM b AS c\nFROM d AS c", vec!["1 ReservedStageName", "3 DuplicateStageName"]),
        ("FROM a\nrun b\nRUN c", vec!["2 ConsistentInstructionCasing"]),
        ("FROM a\nRUN b \\\n\n c", vec!["4 NoEmptyContinuation"]),
        ("FROM a\nCMD b\nCMD [\"c\"]", vec!["2 JSONArgsRecommended", "2 MultipleInstructionsDisallowed"]),
        ("FROM a\nSHELL [\"x\"]\nCMD b", vec![]),
        ("FROM a\nMAINTAINER b", vec!["2 MaintainerDeprecated"]),
        ("FROM a\nENV b c\nLABEL d e", vec!["2 LegacyKeyValueFormat", "3 LegacyKeyValueFormat"]),
        (
            "FROM a\nENV API_KEY=x PUBLIC_KEY=y MONKEY=z\nARG token",
            vec!["2 SecretsUsedInArgOrEnv", "3 SecretsUsedInArgOrEnv"],
        ),
        ("# check=skip=StageNameCasing\nFROM a AS B\nFROM c as d", vec!["3 FromAsCasing"]),
        ("# check=skip=all\nFROM a AS B", vec![]),
        ("# x\nFROM a AS b\n# y\nARG c", vec![]),
        (
            "# check=experimental=all\n# x\nFROM a AS b\n# y\nARG c\n# d is e\nARG d\n# f\n#\nARG g",
            vec!["5 InvalidDefinitionDescription", "3 InvalidDefinitionDescription"],
        ),
        ("FROM a\n# check=skip=SecretsUsedInArgOrEnv\nENV KEY=x\nENV KEY=y", vec!["4 SecretsUsedInArgOrEnv"]),
    ] {
        assert_eq!(rules(source), expected, "{source}");
    }
    assert_eq!(Rule::JSONArgsRecommended.url(), "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/");
    assert_eq!(Rule::UndefinedVar.url(), "https://docs.docker.com/go/dockerfile/rule/undefined-var/");
}
