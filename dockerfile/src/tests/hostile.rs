//! Texts nobody means well with: no panic, and no time or memory without end.

use super::*;

#[test]
fn depth_and_growth_end() {
    let deep = format!("{}x{}", "${A:-".repeat(100_000), "}".repeat(100_000));
    assert!(expand(&deep, '\\', &|_| None).is_err());
    let big = "x".repeat(1 << 19);
    assert!(expand("$A$A$A$A", '\\', &|_| Some(big.clone())).is_err());
    assert!(expand("${A//x/yyyy}", '\\', &|_| Some(big.clone())).is_err());
    assert!(expand("${A##*y*y*y*y*y*y*y}", '\\', &|_| Some(big.clone())).is_ok());
    let words = format!("FROM a\nEXPOSE {}\nENV {}", "1 ".repeat(100_000), "a=b \\\n".repeat(100_000));
    assert_eq!(read(&words).stages[0].instructions.len(), 2);
    assert!(parse(&format!("FROM a\n{} RUN b", "ONBUILD ".repeat(100_000))).is_err());
    assert!(parse(&format!("FROM a\nCMD {}", "[".repeat(100_000))).is_ok());
}
