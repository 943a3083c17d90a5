//! A filter profile, as the built-in default or as Docker's JSON format
//! describes it, and which of its rules hold for one container.

use serde::Deserialize;

use super::SeccompError;
use super::table::Abi;
use crate::capabilities::{CapSet, Capability};

/// What the kernel does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Lets it through.
    #[default]
    Allow,
    /// Fails it with this error number.
    Errno(u16),
    /// Kills the process.
    KillProcess,
    /// Kills the thread.
    KillThread,
    /// Sends `SIGSYS`.
    Trap,
    /// Lets it through and logs it.
    Log,
}

impl Action {
    /// The `SECCOMP_RET_*` value.
    pub(super) const fn value(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Log => 0x7ffc_0000,
            Self::Errno(number) => 0x0005_0000 | number as u32,
            Self::Trap => 0x0003_0000,
            Self::KillThread => 0,
            Self::KillProcess => 0x8000_0000,
        }
    }
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `argument & mask == value`
    Masked(u64),
}

/// A condition on one argument (unsigned, 64 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0..=5.
    pub argument: u8,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: u64,
}

impl Condition {
    /// A condition.
    #[must_use]
    pub const fn new(argument: u8, comparison: Comparison, value: u64) -> Self {
        Self { argument, comparison, value }
    }
}

/// The calls that a rule speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Parted by white space.
    Static(&'static str),
    /// A list.
    List(Vec<String>),
}

impl Names {
    /// Each name.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let (text, list) = match self {
            Self::Static(text) => (*text, [].as_slice()),
            Self::List(list) => ("", list.as_slice()),
        };
        text.split_ascii_whitespace().chain(list.iter().map(String::as_str))
    }
}

/// One rule: these calls, under these conditions, get this action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The calls; names that an ABI does not have are skipped there.
    pub names: Names,
    /// What happens.
    pub action: Action,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// The container must hold all of these.
    pub caps: Vec<Capability>,
    /// The container must hold none of these.
    pub not_caps: Vec<Capability>,
    /// Only where the machine is one of these (Go's names); empty for all.
    pub abis: Vec<&'static str>,
    /// Not where it is one of these.
    pub not_abis: Vec<&'static str>,
    /// Only from this kernel version on.
    pub min_kernel: Option<(u32, u32)>,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            names: Names::Static(""),
            action: Action::Allow,
            conditions: Vec::new(),
            caps: Vec::new(),
            not_caps: Vec::new(),
            abis: Vec::new(),
            not_abis: Vec::new(),
            min_kernel: None,
        }
    }
}

/// What decides which rules hold.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The container's capabilities.
    pub caps: CapSet,
    /// The running kernel.
    pub kernel: (u32, u32),
}

impl Rule {
    /// Whether the rule is part of the filter. As Docker, the architecture is the machine's, not the calling program's.
    pub(super) fn holds(&self, context: &Context) -> bool {
        let machine = Abi::of_host()[0].go_name();
        self.caps.iter().all(|cap| context.caps.contains(*cap))
            && !self.not_caps.iter().any(|cap| context.caps.contains(*cap))
            && (self.abis.is_empty() || self.abis.contains(&machine))
            && !self.not_abis.contains(&machine)
            && self.min_kernel.is_none_or(|version| context.kernel >= version)
    }
}

/// A whole profile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// For calls that no rule names.
    pub default: Action,
    /// The rules.
    pub rules: Vec<Rule>,
    /// An action or operator that was read but cannot be honoured: refused at compile time.
    pub(super) unsupported: Option<String>,
}

impl Profile {
    /// Reads Docker's JSON format (the old one with a `name` per rule too).
    ///
    /// # Errors
    /// When it is not that format.
    pub fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        let json: JsonProfile = serde_json::from_slice(text)?;
        let mut problem = None;
        let default = action(&json.default_action, json.default_errno_ret, &mut problem);
        if !json.listener_path.is_empty() {
            problem.get_or_insert_with(|| "listenerPath".to_owned());
        }
        let rules = json.syscalls.into_iter().map(|rule| rule.convert(json.default_errno_ret, &mut problem)).collect();
        Ok(Self { default, rules, unsupported: problem })
    }

    /// Refuses what was read but cannot be honoured.
    pub(super) fn check(&self) -> Result<(), SeccompError> {
        match &self.unsupported {
            Some(what) => Err(SeccompError::Unsupported { what: what.clone() }),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonProfile {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u16>,
    #[serde(default)]
    listener_path: String,
    #[serde(default)]
    syscalls: Vec<JsonRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonRule {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    name: String,
    action: String,
    #[serde(default)]
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<JsonArgument>>,
    #[serde(default)]
    includes: JsonFilter,
    #[serde(default)]
    excludes: JsonFilter,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonArgument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct JsonFilter {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    #[serde(default)]
    min_kernel: Option<String>,
}

impl JsonRule {
    fn convert(self, default_errno: Option<u16>, problem: &mut Option<String>) -> Rule {
        let mut names = self.names;
        if !self.name.is_empty() {
            names.push(self.name);
        }
        let conditions = self.args.unwrap_or_default().into_iter().map(|arg| arg.convert(problem)).collect();
        let (caps, abis) = self.includes.convert(problem);
        let (not_caps, not_abis) = self.excludes.convert(problem);
        let min_kernel = self.includes.min_kernel.as_deref().and_then(|text| {
            let version = text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            if version.is_none() {
                problem.get_or_insert_with(|| format!("minKernel {text:?}"));
            }
            version
        });
        Rule {
            names: Names::List(names),
            action: action(&self.action, self.errno_ret.or(default_errno), problem),
            conditions,
            caps,
            not_caps,
            abis,
            not_abis,
            min_kernel,
        }
    }
}

impl JsonArgument {
    fn convert(self, problem: &mut Option<String>) -> Condition {
        let (comparison, value) = match self.op.as_str() {
            "SCMP_CMP_EQ" => (Comparison::Equal, self.value),
            "SCMP_CMP_NE" => (Comparison::NotEqual, self.value),
            "SCMP_CMP_LT" => (Comparison::Less, self.value),
            "SCMP_CMP_LE" => (Comparison::LessEqual, self.value),
            "SCMP_CMP_GT" => (Comparison::Greater, self.value),
            "SCMP_CMP_GE" => (Comparison::GreaterEqual, self.value),
            "SCMP_CMP_MASKED_EQ" => (Comparison::Masked(self.value), self.value_two),
            other => {
                problem.get_or_insert_with(|| format!("the operator {other:?}"));
                (Comparison::Equal, 0)
            }
        };
        if self.index > 5 {
            problem.get_or_insert_with(|| format!("argument number {}", self.index));
        }
        Condition { argument: self.index.min(5), comparison, value }
    }
}

/// Architectures of Docker's profiles that exist at all; only the machine's own can match.
const ARCHES: [&str; 6] = ["amd64", "x86", "x32", "arm64", "arm", "riscv64"];

impl JsonFilter {
    fn convert(&self, problem: &mut Option<String>) -> (Vec<Capability>, Vec<&'static str>) {
        let mut caps = Vec::new();
        for name in &self.caps {
            match Capability::parse(name) {
                Some(cap) => caps.push(cap),
                None => {
                    problem.get_or_insert_with(|| format!("the capability {name:?}"));
                }
            }
        }
        let known = |name: &String| ARCHES.iter().find(|arch| *arch == name).copied().unwrap_or("another");
        (caps, self.arches.iter().map(known).collect())
    }
}

fn action(name: &str, errno: Option<u16>, problem: &mut Option<String>) -> Action {
    match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(1)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_LOG" => Action::Log,
        other => {
            problem.get_or_insert_with(|| format!("the action {other:?}"));
            Action::KillProcess
        }
    }
}
