//! Filters of system calls as the programs that the kernel runs on each call: seccomp(2), classic BPF. A program looks
//! at the architecture, then finds the call's number by halving, then, where it has to, looks at arguments.

use std::collections::BTreeMap;

use crate::unit::sandbox::Verdict;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

/// Calls of the x32 ABI carry this bit, and the architecture of x86-64: `__X32_SYSCALL_BIT`.
#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

/// Where things are in what the program looks at: `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// The kernel takes no longer program: `BPF_MAXINSNS`.
const LONGEST: usize = 4096;

/// What is asked of an argument. All of them that are asked about are integers of at most 32 bits to the kernel, so that
/// the upper half of the register does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Test {
    /// Which, from 0.
    pub argument: u32,
    /// These of its bits ...
    pub mask: u32,
    /// ... are these ...
    pub value: u32,
    /// ... or are not.
    pub equal: bool,
}

/// What happens to a call whose arguments pass all tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// None is always passed.
    pub tests: Vec<Test>,
    /// What happens.
    pub verdict: Verdict,
}

/// A filter in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// What happens to calls of other architectures.
    pub foreign: Verdict,
    /// What happens to all calls that no rule speaks of.
    pub default: Verdict,
    /// The rules of a call, the first that fits deciding; none fitting, it is allowed.
    pub calls: BTreeMap<u32, Vec<Rule>>,
}

impl Test {
    /// All of these bits are set.
    pub fn has(argument: u32, bits: u32) -> Test {
        Test { argument, mask: bits, value: bits, equal: true }
    }

    /// The argument, but for the bits outside of `mask`, is not this.
    pub fn is_not(argument: u32, mask: u32, value: u32) -> Test {
        Test { argument, mask, value, equal: false }
    }
}

impl Filter {
    /// One that lets every call of this architecture through.
    pub fn open(foreign: Verdict) -> Filter {
        Filter { foreign, default: Verdict::Allow, calls: BTreeMap::new() }
    }

    /// Adds a rule for a call.
    pub fn add(&mut self, number: u32, tests: Vec<Test>, verdict: Verdict) {
        self.calls.entry(number).or_default().push(Rule { tests, verdict });
    }

    /// The program, or `None` if it would be longer than the kernel takes.
    pub fn program(&self) -> Option<Vec<libc::sock_filter>> {
        let foreign = ret(self.foreign);
        let mut program = vec![load(ARCHITECTURE_AT), jump_if(JUMP_EQUAL, NATIVE, 1, 0), foreign, load(NUMBER_AT)];
        #[cfg(target_arch = "x86_64")]
        program.extend([jump_if(JUMP_AT_LEAST, X32_BIT, 0, 1), foreign]);
        program.extend(halved(&self.ranges()));
        (program.len() <= LONGEST).then_some(program)
    }

    /// From which number on what holds: neighbours of which the same is said are one.
    fn ranges(&self) -> Vec<(u32, Vec<libc::sock_filter>)> {
        let default = vec![ret(self.default)];
        let mut ranges: Vec<(u32, Vec<libc::sock_filter>)> = Vec::new();
        let mut push = |from: u32, code: Vec<libc::sock_filter>| {
            if ranges.last().is_none_or(|(_, last)| !same(last, &code)) {
                ranges.push((from, code));
            }
        };
        let mut next = 0;
        for (number, rules) in &self.calls {
            if *number > next {
                push(next, default.clone());
            }
            push(*number, decided(rules));
            next = number.saturating_add(1);
        }
        push(next, default);
        ranges
    }
}

/// Finds the range of the number in the accumulator by halving.
fn halved(ranges: &[(u32, Vec<libc::sock_filter>)]) -> Vec<libc::sock_filter> {
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let Some((from, code)) = upper.first() else { return Vec::new() };
    if lower.is_empty() {
        return code.clone();
    }
    let below = halved(lower);
    // Conditional jumps reach 255 instructions far, unconditional ones anywhere.
    let over = u32::try_from(below.len()).unwrap_or(u32::MAX);
    let mut program = vec![jump_if(JUMP_AT_LEAST, *from, 0, 1), instruction(JUMP, 0, 0, over)];
    program.extend(below);
    program.extend(halved(upper));
    program
}

/// The rules of one call, one after the other.
fn decided(rules: &[Rule]) -> Vec<libc::sock_filter> {
    let mut program = Vec::new();
    for rule in rules {
        // From the end, since each failed test jumps there.
        let mut code = vec![ret(rule.verdict)];
        for test in rule.tests.iter().rev() {
            let away = u8::try_from(code.len()).unwrap_or(u8::MAX);
            let (equal, unequal) = if test.equal { (0, away) } else { (away, 0) };
            let mut look = vec![load(ARGUMENTS_AT.saturating_add(test.argument.saturating_mul(8)))];
            if test.mask != u32::MAX {
                look.push(instruction(AND, 0, 0, test.mask));
            }
            look.push(jump_if(JUMP_EQUAL, test.value, equal, unequal));
            look.append(&mut code);
            code = look;
        }
        program.append(&mut code);
        if rule.tests.is_empty() {
            return program;
        }
    }
    program.push(ret(Verdict::Allow));
    program
}

fn ret(verdict: Verdict) -> libc::sock_filter {
    instruction(
        RETURN,
        0,
        0,
        match verdict {
            Verdict::Allow => libc::SECCOMP_RET_ALLOW,
            Verdict::Kill => libc::SECCOMP_RET_KILL_PROCESS,
            Verdict::Error(number) => libc::SECCOMP_RET_ERRNO | u32::from(number),
        },
    )
}

fn load(at: u32) -> libc::sock_filter {
    instruction(LOAD, 0, 0, at)
}

fn jump_if(code: u16, k: u32, yes: u8, no: u8) -> libc::sock_filter {
    instruction(code, yes, no, k)
}

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn same(a: &[libc::sock_filter], b: &[libc::sock_filter]) -> bool {
    let parts = |one: &libc::sock_filter| (one.code, one.jt, one.jf, one.k);
    a.iter().map(parts).eq(b.iter().map(parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs a program as the kernel does.
    #[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
    fn run(program: &[libc::sock_filter], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_ne_bytes());
        data.extend(architecture.to_ne_bytes());
        data.extend([0; 8]);
        for argument in arguments {
            data.extend(argument.to_ne_bytes());
        }
        let (mut at, mut a) = (0_usize, 0_u32);
        loop {
            let i = program[at];
            at += 1;
            let k = i.k as usize;
            match i.code {
                LOAD => a = u32::from_ne_bytes(data[k..k + 4].try_into().unwrap()),
                AND => a &= i.k,
                JUMP => at += k,
                JUMP_EQUAL => at += usize::from(if a == i.k { i.jt } else { i.jf }),
                JUMP_AT_LEAST => at += usize::from(if a >= i.k { i.jt } else { i.jf }),
                RETURN => return i.k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    fn verdict(filter: &Filter, number: u32, arguments: [u64; 6]) -> u32 {
        run(&filter.program().unwrap(), NATIVE, number, arguments)
    }

    #[test]
    fn an_allow_list_lets_through_what_it_names_alone() {
        let mut filter = Filter { foreign: Verdict::Kill, default: Verdict::Error(1), calls: BTreeMap::new() };
        for number in [0, 1, 2, 5, 300] {
            filter.add(number, Vec::new(), Verdict::Allow);
        }
        for number in 0..400 {
            let allowed = [0, 1, 2, 5, 300].contains(&number);
            let expected = if allowed { libc::SECCOMP_RET_ALLOW } else { libc::SECCOMP_RET_ERRNO | 1 };
            assert_eq!(verdict(&filter, number, [0; 6]), expected, "{number}");
        }
    }

    #[test]
    fn calls_of_other_architectures_are_told_apart() {
        let program = Filter::open(Verdict::Kill).program().unwrap();
        assert_eq!(run(&program, 0x4000_0003, 1, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(run(&program, NATIVE, 1, [0; 6]), libc::SECCOMP_RET_ALLOW);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(run(&program, NATIVE, 1 | X32_BIT, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn arguments_decide_where_a_rule_asks_for_them() {
        let mut filter = Filter::open(Verdict::Kill);
        filter.add(9, vec![Test::has(2, 6)], Verdict::Error(1));
        filter.add(41, vec![Test::is_not(0, u32::MAX, 1), Test::is_not(0, u32::MAX, 2)], Verdict::Error(97));
        let allow = libc::SECCOMP_RET_ALLOW;
        for (protection, expected) in [(0, allow), (2, allow), (4, allow), (6, libc::SECCOMP_RET_ERRNO | 1)] {
            assert_eq!(verdict(&filter, 9, [0, 0, protection, 0, 0, 0]), expected, "{protection}");
        }
        // The upper half of the register is nothing that the kernel looks at.
        assert_eq!(verdict(&filter, 41, [1 | 1 << 40, 0, 0, 0, 0, 0]), allow);
        assert_eq!(verdict(&filter, 41, [16, 0, 0, 0, 0, 0]), libc::SECCOMP_RET_ERRNO | 97);
    }

    proptest! {
        #[test]
        fn every_number_gets_the_verdict_that_was_asked_for(
            calls in proptest::collection::btree_map(0_u32..600, (0_u16..3, any::<bool>()), 0..200),
            default in 0_u16..3,
        ) {
            let verdict_of = |n: u16| match n { 0 => Verdict::Allow, 1 => Verdict::Kill, n => Verdict::Error(n) };
            let mut filter = Filter { foreign: Verdict::Kill, default: verdict_of(default), calls: BTreeMap::new() };
            for (number, (n, tested)) in &calls {
                let tests = if *tested { vec![Test::has(0, 1)] } else { Vec::new() };
                filter.add(*number, tests, verdict_of(*n));
            }
            let program = filter.program().unwrap();
            for number in 0..650 {
                let first = |bit| run(&program, NATIVE, number, [bit, 0, 0, 0, 0, 0]);
                let (set, unset) = match calls.get(&number) {
                    Some((n, true)) => (verdict_of(*n), Verdict::Allow),
                    Some((n, false)) => (verdict_of(*n), verdict_of(*n)),
                    None => (verdict_of(default), verdict_of(default)),
                };
                prop_assert_eq!(first(1), ret(set).k);
                prop_assert_eq!(first(0), ret(unset).k);
            }
        }
    }
}
