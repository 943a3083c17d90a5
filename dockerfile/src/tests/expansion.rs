//! Words and their variables.

use super::*;

fn value(name: &str) -> Option<String> {
    let value = match name {
        "A" => "a",
        "PATH_" => "/usr/local/lib/x.tar.gz",
        "TWO" => "one  two",
        "EMPTY" => "",
        "Q" => "\"q'",
        "STAR" => "a*b*c",
        "LINES" => "a\nb",
        _ => return None,
    };
    Some(value.to_owned())
}

#[test]
fn words_expand_as_in_a_dockerfile() {
    for (text, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("$A", "a"),
        ("${A}", "a"),
        ("x$A-y", "xa-y"),
        ("$Ab", ""),
        ("$NO", ""),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ("\"$A\"", "a"),
        ("\"\\$A\\\"\\x\"", "$A\"\\x"),
        ("a\\ b", "a b"),
        ("a\\", "a"),
        ("$", "$"),
        ("a$", "a$"),
        ("$ a", "$ a"),
        ("$1x", "x"),
        ("$$", ""),
        ("$Q", "\"q'"),
        ("${A:-x}", "a"),
        ("${NO:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${NO-x}", "x"),
        ("${A:+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${NO+x}", ""),
        ("${A:?no}", "a"),
        ("${EMPTY?no}", ""),
        ("${NO:-${A:-b}c}", "ac"),
        ("${NO:-'}'}", "}"),
        ("${NO:-\\}}", "}"),
        ("${NO:-\"a b\"}", "a b"),
        ("${PATH_#*/}", "usr/local/lib/x.tar.gz"),
        ("${PATH_##*/}", "x.tar.gz"),
        ("${PATH_%.*}", "/usr/local/lib/x.tar"),
        ("${PATH_%%.*}", "/usr/local/lib/x"),
        ("${PATH_%/*}", "/usr/local/lib"),
        ("${PATH_#?usr}", "/local/lib/x.tar.gz"),
        ("${PATH_#nope}", "/usr/local/lib/x.tar.gz"),
        ("${PATH_/local/x}", "/usr/x/lib/x.tar.gz"),
        ("${PATH_/\\//_}", "_usr/local/lib/x.tar.gz"),
        ("${PATH_//\\//_}", "_usr_local_lib_x.tar.gz"),
        ("${PATH_//l?/}", "/usr/cab/x.tar.gz"),
        ("${STAR#a\\*}", "b*c"),
        ("${STAR%%\\**}", "a"),
        ("${STAR//\\*/$A}", "aabac"),
        ("${A//$A/x}", "x"),
        ("${NO/a/b}", ""),
        ("${LINES#*b}", "a\nb"),
        ("<<EOF", "<<EOF"),
    ] {
        let expanded = expand(text, '\\', &value).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(expanded.text, expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (text, message, offset) in [
        ("a'b", "matching single-quote", 2),
        ("a\"b", "matching double-quote", 1),
        ("a${A", "missing '}'", 1),
        ("${", "missing '}'", 0),
        ("${A:-x", "missing '}'", 5),
        ("${}", "bad substitution", 2),
        ("${:x}", "bad substitution", 2),
        ("${A:=x}", "unsupported modifier (:=)", 5),
        ("${A:#x}", "unsupported modifier (:#)", 5),
        ("${A!x}", "unsupported modifier (!)", 4),
        ("${A/x}", "missing '/'", 4),
        ("${A/x/y", "missing '}'", 6),
        ("${A#\\q}", "invalid escape '\\q'", 7),
        ("${NO:?must be}", "NO: must be", 6),
        ("${NO?}", "NO: is not allowed to be unset", 5),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty", 9),
    ] {
        let error = expand(text, '\\', &value).unwrap_err();
        let shown = format!("{error}");
        assert!(shown.contains(message), "{text}: {shown}");
        assert_eq!(error.offset, offset, "{text}: {shown}");
    }
}

#[test]
fn what_was_looked_up_is_told() {
    let seen = expand("$A ${NO:-$A} $NO ${X+$Y}", '\\', &value).unwrap();
    assert_eq!((seen.used, seen.unset), (vec!["A".to_owned()], vec!["NO".to_owned(), "Y".to_owned(), "X".to_owned()]));
}

#[test]
fn words_part_after_expansion() {
    for (text, expected) in [
        ("$TWO", vec!["one", "two"]),
        ("x$TWO", vec!["xone", "two"]),
        ("\"$TWO\" b", vec!["one  two", "b"]),
        ("a\\ b c", vec!["a b", "c"]),
        ("80${NO:-80}", vec!["8080"]),
        ("  ", vec![]),
        ("''", vec![]),
    ] {
        assert_eq!(expand_words(text, '\\', &value).unwrap(), expected, "{text}");
    }
}

#[test]
fn other_ways_keep_what_they_keep() {
    assert_eq!(expand_heredoc("'$A' \"\\$A\" `$NO`", &value).unwrap().text, "'a' \"$A\" ``");
    assert_eq!(expand_for_display("RUN \"$A\" '$A' $NO ${NO:-x}", '\\', &value), "RUN \"a\" '$A' $NO ${NO:-x}");
    assert_eq!(expand_for_display("it's $A", '\\', &value), "it's $A");
    assert_eq!(expand("`$A \\$A", '`', &value).unwrap().text, "$A \\a");
}
