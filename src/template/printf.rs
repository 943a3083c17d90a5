//! Go's `fmt.Sprintf`, as far as values of templates go.

use super::value::{Kind, Val};

/// The widest field; Go has the same bound.
const MAX_WIDTH: usize = 1_000_000;

#[derive(Debug, Clone, Default)]
struct Verb {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

struct Printer<'a> {
    args: &'a [Val],
    next: usize,
    reordered: bool,
    out: String,
}

/// Formats `args` as `format` says; what does not fit is told in the text, as Go does.
pub(super) fn sprintf(format: &str, args: &[Val]) -> String {
    let mut printer = Printer { args, next: 0, reordered: false, out: String::new() };
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '%' {
            printer.verb(&mut chars);
        } else {
            printer.out.push(c);
        }
    }
    if !printer.reordered && printer.next < args.len() {
        let extra: Vec<String> = args[printer.next..].iter().map(|arg| format!("{}={arg}", type_of(arg))).collect();
        printer.out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    printer.out
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

impl Printer<'_> {
    fn verb(&mut self, chars: &mut Chars<'_>) {
        let mut verb = Verb::default();
        while let Some(c) = chars.peek() {
            match c {
                '-' => verb.minus = true,
                '+' => verb.plus = true,
                '#' => verb.sharp = true,
                ' ' => verb.space = true,
                '0' => verb.zero = true,
                _ => break,
            }
            chars.next();
        }
        self.index(chars);
        if let Some(width) = self.number(chars) {
            match width {
                Ok(width) if width < 0 => {
                    verb.minus = true;
                    verb.width = usize::try_from(-width).ok();
                }
                Ok(width) => verb.width = usize::try_from(width).ok(),
                Err(()) => self.out.push_str("%!(BADWIDTH)"),
            }
        }
        if chars.peek() == Some(&'.') {
            chars.next();
            self.index(chars);
            verb.precision = match self.number(chars) {
                None => Some(0),
                Some(Ok(precision)) => usize::try_from(precision).ok(),
                Some(Err(())) => {
                    self.out.push_str("%!(BADPREC)");
                    None
                }
            };
        }
        self.index(chars);
        let Some(letter) = chars.next() else {
            self.out.push_str("%!(NOVERB)");
            return;
        };
        if letter == '%' {
            self.out.push('%');
            return;
        }
        match self.args.get(self.next) {
            None => self.out.push_str(&format!("%!{letter}({})", if self.reordered { "BADINDEX" } else { "MISSING" })),
            Some(arg) => {
                self.next += 1;
                let text = put(&verb, letter, arg);
                self.out.push_str(&text);
            }
        }
    }

    /// `[n]`: the argument that comes next.
    fn index(&mut self, chars: &mut Chars<'_>) {
        if chars.peek() != Some(&'[') {
            return;
        }
        chars.next();
        let digits: String = chars.by_ref().take_while(|c| *c != ']').collect();
        self.reordered = true;
        self.next = digits.parse::<usize>().ok().and_then(|index| index.checked_sub(1)).unwrap_or(usize::MAX - 1);
    }

    /// A width or precision: written, or `*` for the next argument.
    fn number(&mut self, chars: &mut Chars<'_>) -> Option<Result<i64, ()>> {
        let bound = i64::try_from(MAX_WIDTH).unwrap_or(i64::MAX);
        if chars.peek() == Some(&'*') {
            chars.next();
            let value = match self.args.get(self.next) {
                Some(Val::Int(value)) if (-bound..=bound).contains(value) => Ok(*value),
                _ => Err(()),
            };
            self.next = self.next.saturating_add(1);
            return Some(value);
        }
        let mut digits = String::new();
        while let Some(c) = chars.peek().filter(|c| c.is_ascii_digit()) {
            digits.push(*c);
            chars.next();
        }
        match digits.is_empty() {
            true => None,
            false => Some(digits.parse::<i64>().ok().filter(|value| *value <= bound).ok_or(())),
        }
    }
}

fn type_of(arg: &Val) -> &'static str {
    match arg {
        Val::Missing | Val::Nil => "<nil>",
        arg => arg.type_name(),
    }
}

fn bad(verb: char, arg: &Val) -> String {
    match arg {
        Val::Missing | Val::Nil => format!("%!{verb}(<nil>)"),
        arg => format!("%!{verb}({}={arg})", arg.type_name()),
    }
}

fn put(verb: &Verb, letter: char, arg: &Val) -> String {
    if letter == 'T' {
        return pad(verb, arg_type(arg), false);
    }
    match arg {
        Val::Missing | Val::Nil if letter == 'v' => pad(verb, "<nil>".into(), false),
        Val::Missing | Val::Nil => bad(letter, arg),
        Val::Bool(value) if matches!(letter, 't' | 'v') => pad(verb, value.to_string(), false),
        Val::Int(value) => integer(verb, letter, *value).unwrap_or_else(|| bad(letter, arg)),
        Val::Float(value) => float(verb, letter, *value).unwrap_or_else(|| bad(letter, arg)),
        Val::Text(text) => string(verb, letter, text).unwrap_or_else(|| bad(letter, arg)),
        Val::List(all, _) => {
            let parts: Vec<String> = all.iter().map(|value| put(verb, letter, value)).collect();
            format!("[{}]", parts.join(" "))
        }
        Val::Object(object) => {
            let entries = match object.kind {
                Kind::Struct(_) => object.fields.clone(),
                _ => object.sorted(),
            };
            let key = |key: &String| string(verb, letter, key).unwrap_or_else(|| bad(letter, &Val::text(key)));
            let part = |(name, value): &(String, Val)| match (object.kind, verb.plus) {
                (Kind::Struct(_), false) => put(verb, letter, value),
                (Kind::Struct(_), true) => format!("{name}:{}", put(verb, letter, value)),
                _ => format!("{}:{}", key(name), put(verb, letter, value)),
            };
            let parts = entries.iter().map(part).collect::<Vec<_>>().join(" ");
            if matches!(object.kind, Kind::Struct(_)) { format!("{{{parts}}}") } else { format!("map[{parts}]") }
        }
        _ => bad(letter, arg),
    }
}

fn arg_type(arg: &Val) -> String {
    type_of(arg).to_owned()
}

/// To the field's width; zeros go between sign and digits.
fn pad(verb: &Verb, text: String, numeric: bool) -> String {
    let width = verb.width.unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    match () {
        () if missing == 0 => text,
        () if verb.minus => format!("{text}{}", " ".repeat(missing)),
        () if verb.zero && numeric => {
            let signed = text.starts_with(['+', '-', ' ']);
            let (sign, digits) = text.split_at(usize::from(signed));
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
        () => format!("{}{text}", " ".repeat(missing)),
    }
}

fn integer(verb: &Verb, letter: char, value: i64) -> Option<String> {
    let size = value.unsigned_abs();
    let (digits, prefix) = match letter {
        'v' | 'd' => (size.to_string(), ""),
        'b' => (format!("{size:b}"), "0b"),
        'o' => (format!("{size:o}"), "0"),
        'O' => (format!("0o{size:o}"), ""),
        'x' => (format!("{size:x}"), "0x"),
        'X' => (format!("{size:X}"), "0X"),
        'c' | 'q' | 'U' => {
            let c = u32::try_from(value).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
            let text = match letter {
                'c' => c.to_string(),
                'q' => format!("'{}'", if c == '\'' { "\\'".into() } else { escape(c) }),
                _ => format!("U+{size:04X}"),
            };
            return Some(pad(verb, text, false));
        }
        _ => return None,
    };
    let digits = match verb.precision {
        Some(0) if value == 0 => String::new(),
        Some(precision) => format!("{}{digits}", "0".repeat(precision.saturating_sub(digits.len()))),
        None => digits,
    };
    let sign = sign(verb, value < 0);
    Some(pad(verb, format!("{sign}{}{digits}", if verb.sharp { prefix } else { "" }), verb.precision.is_none()))
}

fn sign(verb: &Verb, negative: bool) -> &'static str {
    match () {
        () if negative => "-",
        () if verb.plus => "+",
        () if verb.space => " ",
        () => "",
    }
}

fn float(verb: &Verb, letter: char, value: f64) -> Option<String> {
    let size = value.abs();
    let digits = match letter {
        'f' | 'F' => format!("{size:.*}", verb.precision.unwrap_or(6).min(300)),
        'e' | 'E' => exponent(size, Some(verb.precision.unwrap_or(6).min(300))),
        'v' | 'g' | 'G' => general(size, verb.precision.map(|p| p.min(300)), letter != 'v'),
        _ => return None,
    };
    let digits = if letter.is_ascii_uppercase() { digits.to_ascii_uppercase() } else { digits };
    Some(pad(verb, format!("{}{digits}", sign(verb, value.is_sign_negative())), true))
}

/// `1.5e+06`.
fn exponent(value: f64, precision: Option<usize>) -> String {
    let text = match precision {
        Some(precision) => format!("{value:.precision$e}"),
        None => format!("{value:e}"),
    };
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

/// The shortest form: plain, or with an exponent where that is very small or large.
pub(super) fn general(value: f64, precision: Option<usize>, _verb: bool) -> String {
    if !value.is_finite() {
        return if value.is_nan() { "NaN".into() } else { format!("{}Inf", if value < 0.0 { "-" } else { "+" }) };
    }
    let power = if value == 0.0 { 0 } else { exponent_of(value) };
    let limit = precision.map_or(21, |precision| i32::try_from(precision.max(1)).unwrap_or(21));
    let shown = match precision {
        Some(precision) => format!("{value:.*e}", precision.max(1) - 1).parse().unwrap_or(value),
        None => value,
    };
    if power < -4 || power >= limit { exponent(shown, None) } else { shown.to_string() }
}

fn exponent_of(value: f64) -> i32 {
    format!("{value:e}").split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0)
}

fn string(verb: &Verb, letter: char, text: &str) -> Option<String> {
    let cut: String = match verb.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text.to_owned(),
    };
    let shown = match letter {
        's' | 'v' => cut,
        'q' if verb.sharp && !cut.contains('`') => format!("`{cut}`"),
        'q' => quote(&cut),
        'x' => cut.bytes().map(|byte| format!("{byte:02x}")).collect(),
        'X' => cut.bytes().map(|byte| format!("{byte:02X}")).collect(),
        _ => return None,
    };
    Some(pad(verb, shown, false))
}

/// As Go's `strconv.Quote`.
pub fn quote(text: &str) -> String {
    format!("\"{}\"", text.chars().map(|c| if c == '"' { "\\\"".into() } else { escape(c) }).collect::<String>())
}

fn escape(c: char) -> String {
    match c {
        '\\' => "\\\\".into(),
        '\u{7}' => "\\a".into(),
        '\u{8}' => "\\b".into(),
        '\u{c}' => "\\f".into(),
        '\n' => "\\n".into(),
        '\r' => "\\r".into(),
        '\t' => "\\t".into(),
        '\u{b}' => "\\v".into(),
        c if (c as u32) < 0x20 || c == '\u{7f}' => format!("\\x{:02x}", u32::from(c)),
        '\u{80}'..='\u{a0}'
        | '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202f}'
        | '\u{2060}'..='\u{206f}' => {
            format!("\\u{:04x}", u32::from(c))
        }
        '\u{feff}' => "\\ufeff".into(),
        c => c.to_string(),
    }
}
