//! The device rules of a cgroup v2 as an eBPF program of type
//! `cgroup_device`: cgroup v2 has no `devices` controller of its own
//! (Documentation/admin-guide/cgroup-v2.rst, "Device controller").

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use super::{Access, Kind, Rule};
use crate::sys;

// eBPF opcodes (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const AND_VALUE: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const IF_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

// Registers: the context comes in r1.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

const fn instruction(code: u8, target: u8, source: u8, offset: u16, value: u32) -> u64 {
    code as u64 | (target as u64) << 8 | (source as u64) << 12 | (offset as u64) << 16 | (value as u64) << 32
}

/// The program: rules from last to first, the first that covers the whole access decides, none means no.
#[must_use]
pub fn assemble(rules: &[Rule]) -> Vec<u64> {
    // struct bpf_cgroup_dev_ctx { u32 access_type (access << 16 | kind), major, minor }
    let mut code = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE, ACCESS, KIND, 0, 0),
        instruction(AND_VALUE, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        code.extend(check(rule));
        if is_unconditional(rule) {
            // The verifier refuses code that cannot be reached.
            return code;
        }
    }
    code.extend(answer(false));
    code
}

fn is_unconditional(rule: &Rule) -> bool {
    rule.kind == Kind::All && rule.major.is_none() && rule.minor.is_none() && rule.access == Access::ALL
}

const fn answer(allow: bool) -> [u64; 2] {
    [instruction(MOVE_VALUE, RESULT, 0, 0, allow as u32), instruction(EXIT, 0, 0, 0, 0)]
}

fn check(rule: &Rule) -> Vec<u64> {
    // (register, value it must have); an access check comes with two instructions that make its register.
    let mut tests: Vec<(u8, u32)> = Vec::with_capacity(4);
    match rule.kind {
        Kind::All => {}
        Kind::Block => tests.push((KIND, 1)),
        Kind::Character => tests.push((KIND, 2)),
    }
    tests.extend(rule.major.map(|major| (MAJOR, major)));
    tests.extend(rule.minor.map(|minor| (MINOR, minor)));
    let refused = !rule.access.0 & Access::ALL.0;
    // An allow must cover all that is asked; a deny takes effect if any of it is denied.
    let access = if rule.access == Access::ALL { None } else { Some(if rule.allow { refused } else { rule.access.0 }) };
    let rest = |after: usize| u16::try_from(after).unwrap_or(u16::MAX);
    let mut code = Vec::new();
    let access_length = if access.is_some() { 3 } else { 0 };
    let count = tests.len();
    for (at, (register, value)) in tests.into_iter().enumerate() {
        let after = (count - at - 1) + access_length + 2;
        code.push(instruction(IF_NOT_EQUAL, register, 0, rest(after), value));
    }
    if let Some(mask) = access {
        code.push(instruction(MOVE, SCRATCH, ACCESS, 0, 0));
        code.push(instruction(AND_VALUE, SCRATCH, 0, 0, mask));
        let skip = if rule.allow { IF_NOT_EQUAL } else { 0x15 }; // BPF_JEQ
        code.push(instruction(skip, SCRATCH, 0, 2, 0));
    }
    code.extend(answer(rule.allow));
    code
}

/// Puts the rules into force on the cgroup behind `directory`.
///
/// # Errors
/// The kernel's, where it cannot run device programs.
pub fn attach(directory: BorrowedFd<'_>, rules: &[Rule]) -> io::Result<()> {
    let program = sys::load_device_program(&assemble(rules))?;
    sys::attach_device_program(directory, program.as_fd())
}

#[cfg(test)]
mod tests {
    use super::super::{DEFAULT_RULES, RWM, rule};
    use super::*;

    /// eBPF, as far as the programs use it.
    fn run(code: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_u32; 11];
        let mut at = 0;
        loop {
            let bytes = code[at].to_le_bytes();
            let (target, source) = (usize::from(bytes[1] & 15), usize::from(bytes[1] >> 4));
            let offset = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
            let value = u32::from_le_bytes(bytes[4..].try_into().unwrap());
            at += 1;
            match bytes[0] {
                LOAD_WORD => registers[target] = context[offset / 4],
                MOVE => registers[target] = registers[source],
                MOVE_VALUE => registers[target] = value,
                AND_VALUE => registers[target] &= value,
                SHIFT_RIGHT => registers[target] >>= value,
                IF_NOT_EQUAL => at += if registers[target] == value { 0 } else { offset },
                0x15 => at += if registers[target] == value { offset } else { 0 },
                EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    const BLOCK: u32 = 1;
    const CHARACTER: u32 = 2;

    #[test]
    fn the_default_rules() {
        let code = assemble(&DEFAULT_RULES);
        let read_write = Access::READ | Access::WRITE;
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, 7)] {
            assert!(run(&code, CHARACTER, read_write, major, minor), "{major}:{minor}");
        }
        for (kind, major, minor) in
            [(CHARACTER, 1, 1), (CHARACTER, 1, 11), (CHARACTER, 10, 229), (BLOCK, 1, 3), (BLOCK, 8, 0)]
        {
            assert!(!run(&code, kind, Access::READ, major, minor), "{major}:{minor}");
            assert!(run(&code, kind, Access::MKNOD, major, minor), "{major}:{minor}");
            assert!(!run(&code, kind, Access::MKNOD | Access::READ, major, minor), "{major}:{minor}");
        }
    }

    #[test]
    fn later_rules_win_and_everything_is_short() {
        let rules = [rule(true, Kind::All, None, None, RWM), rule(false, Kind::Block, Some(8), None, Access::WRITE)];
        let code = assemble(&rules);
        assert!(run(&code, BLOCK, Access::READ, 8, 1));
        assert!(!run(&code, BLOCK, Access::READ | Access::WRITE, 8, 1));
        assert!(run(&code, BLOCK, Access::WRITE, 9, 1));
        assert_eq!(assemble(&rules[..1]).len(), 8);
    }

    #[test]
    fn the_kernel_accepts_the_programs() {
        let mut rules = DEFAULT_RULES.to_vec();
        for part in
            [rule(true, Kind::Block, Some(8), None, Access::READ), rule(false, Kind::All, None, Some(3), Access::WRITE)]
        {
            sys::load_device_program(&assemble(&rules)).unwrap();
            rules.push(part);
        }
        sys::load_device_program(&assemble(&rules)).unwrap();
        sys::load_device_program(&assemble(&[rule(true, Kind::All, None, None, RWM)])).unwrap();
    }
}
