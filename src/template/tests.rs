//! Templates against what Docker has printed for them (`scripts/record-templates`).

use serde_json::{Value, json};

use super::{Template, cases};

/// What is meant to be otherwise.
const DIFFERENT: &[&str] = &[
    // Complex numbers are left out.
    "{{1}} {{-1}} {{1.5}} {{0x10}} {{1e3}} {{1e21}} {{1_000}} {{0b11}} {{0o17}} {{1i}}",
    // Go prints the addresses of pointers.
    "{{$}}x",
    "{{$}}",
    // Templates that call themselves end sooner than after 100000 calls.
    "{{define \"r\"}}{{template \"r\" .}}{{end}}{{template \"r\" .}}",
];

#[test]
fn inspect_is_as_dockers() {
    let data: Value = serde_json::from_str(include_str!("../../tests/templates/inspect.data.json")).unwrap();
    let mut wrong = Vec::new();
    for case in cases(include_str!("../../tests/templates/inspect.recorded.jsonl")) {
        let (out, err, code) = match Template::parse(&case.template) {
            Err(error) => (String::new(), format!("template parsing error: {error}\n"), 64),
            Ok(template) => match template.inspect(&data[0]) {
                Ok(out) => (format!("{out}\n"), String::new(), 0),
                Err(error) => (String::new(), format!("template parsing error: {error}\n"), 1),
            },
        };
        if (&out, &err, code) != (&case.out, &case.err, case.code) && !DIFFERENT.contains(&case.template.as_str()) {
            wrong.push(format!(
                "{}\n  ours   {code} {out:?} {err:?}\n  docker {} {:?} {:?}",
                case.template, case.code, case.out, case.err
            ));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn nothing_that_is_written_can_harm() {
    let data = json!({ "A": [1, "x", null, { "B": 2.5 }], "Labels": { "k": "v" }, "N": -3 });
    let pieces = [
        "{{",
        "}}",
        "{{-",
        "-}}",
        "/*",
        "*/",
        ".",
        ".A",
        ".Labels",
        "$",
        "$x",
        ":=",
        "=",
        ",",
        "|",
        "(",
        ")",
        " ",
        "\n",
        "\t",
        "\"",
        "`",
        "'",
        "\\",
        "x",
        "if",
        "else",
        "end",
        "range",
        "with",
        "define",
        "template",
        "block",
        "break",
        "continue",
        "nil",
        "true",
        "index",
        "len",
        "printf",
        "print",
        "slice",
        "eq",
        "lt",
        "and",
        "not",
        "json",
        "join",
        "split",
        "pad",
        "truncate",
        "html",
        "js",
        "0",
        "-1",
        "9223372036854775807",
        "1e309",
        "0x",
        "%",
        "%[9]*.*d",
        "é",
        "\u{0}",
        "\u{10ffff}",
        "'a'",
        "\"%d %v\"",
        "\"\\x\"",
        "`%999999999d`",
    ];
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |bound: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % u64::try_from(bound).unwrap()).unwrap()
    };
    let mut ran = 0;
    for _ in 0..30_000 {
        let mut text = String::new();
        let actions = next(4);
        for _ in 0..=actions {
            let inside = next(8) > 0;
            text.push_str(if inside { "{{" } else { "" });
            for _ in 0..next(7) {
                text.push_str(pieces[next(pieces.len())]);
                text.push_str(if next(2) == 0 { " " } else { "" });
            }
            text.push_str(if inside { "}}" } else { "" });
        }
        if let Ok(template) = Template::parse(&text) {
            let _ = template.inspect(&data);
            let _ = template.row(&data, "*formatter.Row", &data["Labels"]);
            let _ = template.header(&data);
            ran += 1;
        }
    }
    assert!(ran > 500, "only {ran} of them could be parsed");
    for open in ["(", "{{if 1}}", "{{with 1}}{{else}}", "{{range 1}}", "{{define \"a\"}}", "{{if 1}}x{{else if 1}}"] {
        let inside = if open == "(" { format!("{{{{{}", open.repeat(100_000)) } else { open.repeat(100_000) };
        assert!(Template::parse(&inside).is_err(), "{open}");
    }
    let endless = Template::parse("{{range 2000000000000}}{{range 2000000}}{{end}}{{end}}").unwrap();
    assert!(endless.inspect(&data).is_err());
}
