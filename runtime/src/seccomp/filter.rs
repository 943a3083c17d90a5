//! From a profile to classic BPF (linux/filter.h): the architecture is checked
//! first, then the call's number is found by binary search over ranges that
//! share an action, then the arguments are compared where a rule asks for it.

use std::collections::BTreeMap;

use super::SeccompError;
use super::profile::{Action, Comparison, Condition, Context, Profile};
use super::table::{self, Abi};

/// One `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets in `struct seccomp_data` (little-endian machines).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// x32 calls have this bit; Docker allows them, kernels with x32 are rare and the ABI is a second way to every call.
const X32_BIT: u32 = 0x4000_0000;

const ENOSYS: Action = Action::Errno(38);

/// `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

const fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

const fn answer(action: Action) -> Instruction {
    plain(RETURN, action.value())
}

/// What a call gets: the first alternative whose conditions all hold, else `otherwise`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    alternatives: Vec<(Vec<Condition>, Action)>,
    otherwise: Action,
}

impl Verdict {
    const fn simple(action: Action) -> Self {
        Self { alternatives: Vec::new(), otherwise: action }
    }
}

/// Compiles `profile` for the ABIs of this machine.
pub fn compile(profile: &Profile, context: &Context) -> Result<Vec<Instruction>, SeccompError> {
    profile.check()?;
    let mut program = vec![plain(LOAD, ARCH)];
    for abi in Abi::of_host() {
        let mut body = vec![plain(LOAD, NUMBER)];
        search(&ranges(profile, context, abi), &mut body);
        // Not this ABI: over its whole body, which is longer than a conditional jump reaches.
        program.push(branch(IF_EQUAL, abi.audit(), 1, 0));
        program.push(plain(JUMP, distance(body.len())));
        program.append(&mut body);
    }
    program.push(answer(Action::KillProcess));
    if program.len() > MAX_INSTRUCTIONS {
        return Err(SeccompError::TooLong { instructions: program.len() });
    }
    Ok(program)
}

/// The verdicts for every call number, as ranges: each reaches to the next one's start.
fn ranges(profile: &Profile, context: &Context, abi: Abi) -> Vec<(u32, Verdict)> {
    let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
    for rule in profile.rules.iter().filter(|rule| rule.holds(context)) {
        for number in rule.names.iter().filter_map(|name| table::number(name, abi)) {
            let verdict = verdicts.entry(number).or_insert_with(|| Verdict::simple(profile.default));
            if rule.conditions.is_empty() {
                // As libseccomp: a rule without conditions outweighs those with some.
                *verdict = Verdict::simple(rule.action);
            } else if verdict.otherwise == profile.default {
                verdict.alternatives.push((rule.conditions.clone(), rule.action));
            }
        }
    }
    let unknown = if profile.default == Action::Allow { Action::Allow } else { ENOSYS };
    let mut out: Vec<(u32, Verdict)> = vec![(0, Verdict::simple(profile.default))];
    let mut push = |start: u32, verdict: Verdict| {
        // A range that would be empty goes, and then one that continues its predecessor is not begun.
        if out.last().is_some_and(|last| last.0 == start) {
            out.pop();
        }
        if out.last().is_none_or(|last| last.1 != verdict) {
            out.push((start, verdict));
        }
    };
    let (ordinary, private): (Vec<_>, Vec<_>) = verdicts.into_iter().partition(|(number, _)| *number <= table::NEWEST);
    for (number, verdict) in ordinary {
        push(number, verdict);
        push(number + 1, Verdict::simple(profile.default));
    }
    push(table::NEWEST + 1, Verdict::simple(unknown));
    if abi == Abi::X86_64 {
        push(X32_BIT, Verdict::simple(if profile.default == Action::Allow { Action::Allow } else { ENOSYS }));
    }
    if abi == Abi::Arm {
        for (number, verdict) in private {
            push(number, verdict);
            push(number + 1, Verdict::simple(unknown));
        }
    }
    out
}

/// Appends code that finds the range of the number in the accumulator and answers as it says.
fn search(ranges: &[(u32, Verdict)], out: &mut Vec<Instruction>) {
    if let [(_, verdict)] = ranges {
        return decide(verdict, out);
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let mut low = Vec::new();
    search(left, &mut low);
    let start = right.first().map_or(0, |(start, _)| *start);
    match u8::try_from(low.len()) {
        Ok(length) => out.push(branch(IF_AT_LEAST, start, length, 0)),
        Err(_) => {
            out.push(branch(IF_AT_LEAST, start, 0, 1));
            out.push(plain(JUMP, distance(low.len())));
        }
    }
    out.append(&mut low);
    search(right, out);
}

fn decide(verdict: &Verdict, out: &mut Vec<Instruction>) {
    for (conditions, action) in &verdict.alternatives {
        let mut code = Vec::new();
        // Filled from the end, so that each condition knows how far it is to the next alternative.
        for condition in conditions.iter().rev() {
            let after = u8::try_from(code.len() + 1).unwrap_or(u8::MAX);
            let mut check = compare(condition, after);
            check.append(&mut code);
            code = check;
        }
        code.push(answer(*action));
        out.append(&mut code);
    }
    out.push(answer(verdict.otherwise));
}

/// Code that falls through where `condition` holds, and else jumps over the `after` instructions that follow it.
fn compare(condition: &Condition, after: u8) -> Vec<Instruction> {
    let low_at = ARGUMENTS + 8 * u32::from(condition.argument);
    let (high, low) = halves(condition.value);
    let load_high = plain(LOAD, low_at + 4);
    let load_low = plain(LOAD, low_at);
    // `n`: how many instructions of this check still follow the jump.
    let fail = |n: u8| after.saturating_add(n);
    match condition.comparison {
        Comparison::Equal => {
            vec![load_high, branch(IF_EQUAL, high, 0, fail(2)), load_low, branch(IF_EQUAL, low, 0, fail(0))]
        }
        Comparison::NotEqual => {
            vec![load_high, branch(IF_EQUAL, high, 0, 2), load_low, branch(IF_EQUAL, low, fail(0), 0)]
        }
        Comparison::Masked(mask) => {
            let (mask_high, mask_low) = halves(mask);
            vec![
                load_high,
                plain(AND, mask_high),
                branch(IF_EQUAL, high, 0, fail(3)),
                load_low,
                plain(AND, mask_low),
                branch(IF_EQUAL, low, 0, fail(0)),
            ]
        }
        // High half above: holds, skip the rest. High half below: fails. Equal: the low half decides.
        Comparison::Greater => ordered(load_high, load_low, high, branch(IF_GREATER, low, 0, fail(0)), fail(2)),
        Comparison::GreaterEqual => ordered(load_high, load_low, high, branch(IF_AT_LEAST, low, 0, fail(0)), fail(2)),
        Comparison::Less => below(load_high, load_low, high, branch(IF_AT_LEAST, low, fail(0), 0), fail(3)),
        Comparison::LessEqual => below(load_high, load_low, high, branch(IF_GREATER, low, fail(0), 0), fail(3)),
    }
}

fn ordered(load_high: Instruction, load_low: Instruction, high: u32, last: Instruction, fail: u8) -> Vec<Instruction> {
    vec![load_high, branch(IF_GREATER, high, 3, 0), branch(IF_EQUAL, high, 0, fail), load_low, last]
}

fn below(load_high: Instruction, load_low: Instruction, high: u32, last: Instruction, fail: u8) -> Vec<Instruction> {
    vec![load_high, branch(IF_GREATER, high, fail, 0), branch(IF_EQUAL, high, 0, 2), load_low, last]
}

const fn halves(value: u64) -> (u32, u32) {
    let bytes = value.to_le_bytes();
    (
        u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
    )
}

fn distance(instructions: usize) -> u32 {
    u32::try_from(instructions).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::default;
    use super::super::profile::{Names, Rule};
    use super::*;
    use crate::capabilities::{CapSet, Capability};

    const EPERM: u32 = 0x0005_0001;
    const ALLOW: u32 = 0x7fff_0000;
    const NO_SUCH_CALL: u32 = 0x0005_0000 | 38;

    /// The kernel's interpreter, for what the compiler emits.
    fn run(program: &[Instruction], arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(arch.to_le_bytes());
        data.extend(0_u64.to_le_bytes());
        args.iter().for_each(|arg| data.extend(arg.to_le_bytes()));
        let (mut at, mut acc) = (0_usize, 0_u32);
        loop {
            let i = program[at];
            at += 1;
            match i.code {
                LOAD => acc = u32::from_le_bytes(data[i.k as usize..i.k as usize + 4].try_into().unwrap()),
                AND => acc &= i.k,
                JUMP => at += i.k as usize,
                IF_EQUAL => at += usize::from(if acc == i.k { i.jt } else { i.jf }),
                IF_GREATER => at += usize::from(if acc > i.k { i.jt } else { i.jf }),
                IF_AT_LEAST => at += usize::from(if acc >= i.k { i.jt } else { i.jf }),
                RETURN => return i.k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    fn default_filter(caps: CapSet) -> Vec<Instruction> {
        compile(&default::profile(), &Context { caps, kernel: (6, 1) }).unwrap()
    }

    fn call(program: &[Instruction], name: &str, args: [u64; 6]) -> u32 {
        let abi = Abi::of_host()[0];
        run(program, abi.audit(), table::number(name, abi).unwrap(), args)
    }

    #[test]
    fn the_default_profile_decides_as_docker_does() {
        let filter = default_filter(CapSet::docker());
        for name in ["read", "openat", "execve", "clock_gettime", "chroot", "futex_waitv", "capset", "ptrace"] {
            assert_eq!(call(&filter, name, [0; 6]), ALLOW, "{name}");
        }
        for name in ["mount", "unshare", "bpf", "reboot", "add_key", "keyctl", "io_uring_setup", "userfaultfd"] {
            assert_eq!(call(&filter, name, [0; 6]), EPERM, "{name}");
        }
        assert_eq!(call(&filter, "clone3", [0; 6]), NO_SUCH_CALL);
        for (flags, expected) in [(0x11, ALLOW), (0x2000_0000, EPERM), (0x0002_0011, EPERM), (0x1_0000_0011, ALLOW)] {
            assert_eq!(call(&filter, "clone", [flags, 0, 0, 0, 0, 0]), expected, "{flags:#x}");
        }
        for (family, expected) in
            [(1, ALLOW), (2, ALLOW), (37, ALLOW), (38, EPERM), (39, ALLOW), (40, EPERM), (41, ALLOW)]
        {
            assert_eq!(call(&filter, "socket", [family, 0, 0, 0, 0, 0]), expected, "{family}");
        }
        assert_eq!(call(&filter, "personality", [0xffff_ffff, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(call(&filter, "personality", [0x0040_0000, 0, 0, 0, 0, 0]), EPERM);
    }

    #[test]
    fn capabilities_open_their_calls() {
        let filter = default_filter(CapSet::docker().with(Capability::SysAdmin));
        assert_eq!(call(&filter, "mount", [0; 6]), ALLOW);
        assert_eq!(call(&filter, "clone3", [0; 6]), ALLOW);
        assert_eq!(call(&filter, "clone", [0x2000_0000, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(call(&filter, "reboot", [0; 6]), EPERM);
        let filter = default_filter(CapSet::default());
        assert_eq!(call(&filter, "chroot", [0; 6]), EPERM);
    }

    #[test]
    fn other_architectures_and_unknown_calls() {
        let filter = default_filter(CapSet::docker());
        let [own, compat] = Abi::of_host();
        assert_eq!(run(&filter, 0x8000_0016, 0, [0; 6]), 0x8000_0000);
        assert_eq!(run(&filter, own.audit(), table::NEWEST + 1, [0; 6]), NO_SUCH_CALL);
        assert_eq!(run(&filter, own.audit(), u32::MAX, [0; 6]), NO_SUCH_CALL);
        let mount = table::number("mount", compat).unwrap();
        assert_eq!(run(&filter, compat.audit(), mount, [0; 6]), EPERM);
        assert_eq!(run(&filter, compat.audit(), table::number("read", compat).unwrap(), [0; 6]), ALLOW);
        if own == Abi::X86_64 {
            assert_eq!(run(&filter, own.audit(), X32_BIT, [0; 6]), NO_SUCH_CALL);
        }
        assert!(filter.len() < 1000, "{}", filter.len());
    }

    #[test]
    fn every_comparison_at_its_edges() {
        let value: u64 = 0x1_0000_0005;
        type Expected = fn(u64, u64) -> bool;
        let cases: [(Comparison, Expected); 7] = [
            (Comparison::Equal, |a, b| a == b),
            (Comparison::NotEqual, |a, b| a != b),
            (Comparison::Less, |a, b| a < b),
            (Comparison::LessEqual, |a, b| a <= b),
            (Comparison::Greater, |a, b| a > b),
            (Comparison::GreaterEqual, |a, b| a >= b),
            (Comparison::Masked(0xf_ffff_ffff), |a, b| a & 0xf_ffff_ffff == b),
        ];
        for (comparison, expected) in cases {
            let rule = Rule {
                names: Names::Static("read"),
                conditions: vec![Condition::new(1, comparison, value), Condition::new(2, Comparison::Equal, 7)],
                ..Rule::default()
            };
            let profile = Profile { default: Action::Errno(1), rules: vec![rule], ..Profile::default() };
            let filter = compile(&profile, &Context { caps: CapSet::default(), kernel: (6, 1) }).unwrap();
            for arg in [0, 4, 5, 6, 0x1_0000_0004, value, 0x1_0000_0006, 0x2_0000_0000, 0x10_0000_0005, u64::MAX] {
                let answer = call(&filter, "read", [0, arg, 7, 0, 0, 0]);
                assert_eq!(answer == ALLOW, expected(arg, value), "{comparison:?} {arg:#x}");
                assert_eq!(call(&filter, "read", [0, arg, 8, 0, 0, 0]), EPERM);
            }
        }
    }

    #[test]
    fn a_json_profile_and_what_is_not_supported() {
        let text = br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["mkdir","mkdirat","nosuchcall"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
            {"name":"chmod","action":"SCMP_ACT_KILL_PROCESS","args":null}]}"#;
        let context = Context { caps: CapSet::docker(), kernel: (6, 1) };
        let filter = compile(&Profile::from_json(text).unwrap(), &context).unwrap();
        assert_eq!(call(&filter, "mkdirat", [0; 6]), 0x0005_000d);
        assert_eq!(call(&filter, "read", [0; 6]), ALLOW);
        assert_eq!(run(&filter, Abi::of_host()[0].audit(), 100_000, [0; 6]), ALLOW);
        let notify = br#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#;
        let error = compile(&Profile::from_json(notify).unwrap(), &context).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the seccomp profile uses the action \"SCMP_ACT_NOTIFY\", which is not supported"
        );
        assert!(Profile::from_json(b"{}").is_err());
    }
}
