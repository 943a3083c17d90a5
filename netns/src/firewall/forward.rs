//! Getting along with a firewall that drops forwarded packets.
//!
//! An `accept` in our table ends only our chain: a base chain of somebody else
//! that drops (Docker sets the policy of `ip filter FORWARD` to drop, as ufw
//! does) still drops. So for each bridge two rules go to the end of that chain,
//! after the rules of its owner and before a closing `drop` or `reject`: what its
//! owner refuses stays refused, and containers of Docker stay isolated from ours.
//! What may enter a bridge is decided in our own table all the same.

use std::io;

use super::message::{Attributes, attributes, find, find_string, find_u32};
use super::rule::{self, Expr, INET, IPV4, IPV6, Meta, Verdict};
use super::socket::{APPEND, Batch, CREATE, Socket};
use super::table;

const GETCHAIN: u8 = 4;
const NEWRULE: u8 = 6;
const GETRULE: u8 = 7;
const DELRULE: u8 = 8;
const HOOK_FORWARD: u32 = 2;
const DROP: u32 = 0;

/// The table and chain of `iptables -t filter`, in the kernel's nf_tables.
const FILTER: &str = "filter";
const CHAIN: &str = "FORWARD";

/// A chain of somebody else that drops forwarded packets, and that is not edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// `inet firewalld filter_FORWARD`, or the name of a tool.
    pub chain: String,
    /// What the user can do about it.
    pub hint: String,
}

struct ForeignRule {
    handle: u64,
    tag: Option<String>,
    closing: bool,
}

/// Adds the rules for a bridge where the filter table drops and has none yet.
pub(super) fn accept(socket: &Socket, batch: &mut Batch, bridge: &str, ipv6: bool) -> io::Result<()> {
    let families = if ipv6 { &[IPV4, IPV6][..] } else { &[IPV4] };
    for family in families {
        let Some(policy) = policy(socket, *family)? else { continue };
        let rules = rules(socket, *family)?;
        let closing = rules.iter().find(|rule| rule.closing);
        let drops = policy == DROP || closing.is_some();
        if !drops || rules.iter().any(|rule| rule.tag.as_deref() == Some(&tag(bridge))) {
            continue;
        }
        for interface in [Meta::Iifname, Meta::Oifname] {
            let expressions =
                [Expr::Meta(interface, 0), Expr::ifname(0, bridge), Expr::Counter, Expr::Verdict(Verdict::Accept)];
            let rule = Attributes::new()
                .string(1, FILTER)
                .string(2, CHAIN)
                .nest(4, &rule::encode(&expressions))
                .bytes(7, &comment(&tag(bridge)));
            // Without the append flag a rule goes before the one at its position.
            let (rule, flags) = match closing {
                Some(closing) => (rule.u64(6, closing.handle), CREATE),
                None => (rule, CREATE | APPEND),
            };
            batch.push(NEWRULE, flags, *family, format!("accept {bridge} in {FILTER} {CHAIN}"), &rule);
        }
    }
    Ok(())
}

/// Deletes the rules of a bridge.
pub(super) fn withdraw(socket: &Socket, batch: &mut Batch, bridge: &str) -> io::Result<()> {
    for family in [IPV4, IPV6] {
        if policy(socket, family)?.is_none() {
            continue;
        }
        for rule in rules(socket, family)?.iter().filter(|rule| rule.tag.as_deref() == Some(&tag(bridge))) {
            let which = Attributes::new().string(1, FILTER).string(2, CHAIN).u64(3, rule.handle);
            batch.push(DELRULE, 0, family, format!("delete the rules of {bridge} in {FILTER} {CHAIN}"), &which);
        }
    }
    Ok(())
}

/// Chains that drop forwarded packets and that we do not edit, with what to do about them.
pub(super) fn obstacles(socket: &Socket) -> io::Result<Vec<Obstacle>> {
    let mut found = Vec::new();
    for (family, name) in [(IPV4, "ip"), (IPV6, "ip6"), (INET, "inet")] {
        for chain in socket.dump(GETCHAIN, family, &Attributes::new())? {
            let (Some(table), Some(chain_name)) = (find_string(&chain, 1), find_string(&chain, 3)) else { continue };
            let ours = family == INET && table == table::TABLE;
            let edited = family != INET && table == FILTER && chain_name == CHAIN;
            if hook(&chain) == Some(HOOK_FORWARD) && find_u32(&chain, 5) == Some(DROP) && !ours && !edited {
                found.push(Obstacle {
                    chain: format!("{name} {table} {chain_name}"),
                    hint: format!(
                        "its policy drops forwarded packets: accept the bridges there, \
                         e.g. nft add rule {name} {table} {chain_name} iifname \"ub-*\" accept, and the same for oifname"
                    ),
                });
            }
        }
    }
    if legacy_iptables() {
        found.push(Obstacle {
            chain: "iptables-legacy filter FORWARD".to_owned(),
            hint: "rules of iptables-legacy cannot be seen from here: if its FORWARD policy is DROP, run \
                   iptables-legacy -A FORWARD -i ub-+ -j ACCEPT, and the same with -o"
                .to_owned(),
        });
    }
    Ok(found)
}

/// Whether the old iptables has a filter table in this network namespace.
/// Not `/proc/net`: that is the main thread's namespace.
fn legacy_iptables() -> bool {
    std::fs::read_to_string("/proc/thread-self/net/ip_tables_names")
        .is_ok_and(|names| names.lines().any(|name| name == FILTER))
}

fn hook(chain: &[u8]) -> Option<u32> {
    find_u32(find(chain, 4)?, 1)
}

/// The policy of `filter FORWARD` where it is a base chain at the forward hook.
fn policy(socket: &Socket, family: u8) -> io::Result<Option<u32>> {
    let chains = socket.dump(GETCHAIN, family, &Attributes::new())?;
    let chain = chains.iter().find(|chain| {
        find_string(chain, 1).as_deref() == Some(FILTER)
            && find_string(chain, 3).as_deref() == Some(CHAIN)
            && hook(chain) == Some(HOOK_FORWARD)
    });
    Ok(chain.and_then(|chain| find_u32(chain, 5)))
}

fn rules(socket: &Socket, family: u8) -> io::Result<Vec<ForeignRule>> {
    let which = Attributes::new().string(1, FILTER).string(2, CHAIN);
    let dumped = socket.dump(GETRULE, family, &which)?;
    Ok(dumped.iter().filter(|rule| find_string(rule, 2).as_deref() == Some(CHAIN)).filter_map(|r| parse(r)).collect())
}

fn parse(rule: &[u8]) -> Option<ForeignRule> {
    let handle = u64::from_be_bytes(find(rule, 3)?.try_into().ok()?);
    let tag = find(rule, 7).and_then(read_comment);
    Some(ForeignRule { handle, tag, closing: find(rule, 4).is_some_and(closes) })
}

/// Whether a rule drops or rejects every packet that comes to it.
fn closes(expressions: &[u8]) -> bool {
    let mut drops = false;
    for (_, expression) in attributes(expressions) {
        let data = find(expression, 2).unwrap_or_default();
        match find_string(expression, 1).as_deref() {
            Some("counter" | "log" | "limit") => {}
            Some("reject") => drops = true,
            // `iptables -j REJECT` is an xtables target; its name is the first attribute.
            Some("target") if find_string(data, 1).as_deref() == Some("REJECT") => drops = true,
            Some("immediate") => {
                let verdict = find(data, 2).and_then(|data| find(data, 2)).and_then(|verdict| find_u32(verdict, 1));
                if verdict != Some(DROP) {
                    return false;
                }
                drops = true;
            }
            // A test, or a jump.
            _ => return false,
        }
    }
    drops
}

fn tag(bridge: &str) -> String {
    format!("umiak {bridge}")
}

/// A rule's comment as `nft` and `iptables` keep it: type 0, length with NUL, text.
fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[0, length], text.as_bytes(), &[0]].concat()
}

fn read_comment(mut userdata: &[u8]) -> Option<String> {
    loop {
        let (kind, length) = (*userdata.first()?, usize::from(*userdata.get(1)?));
        let value = userdata.get(2..2 + length)?;
        if kind == 0 {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
        }
        userdata = userdata.get(2 + length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_read_back_after_other_data() {
        let data = [&[1, 2, 9, 9][..], &comment("umiak ub-1")].concat();
        assert_eq!(read_comment(&data).as_deref(), Some("umiak ub-1"));
        assert_eq!(read_comment(&[0, 9, 1]), None);
    }

    #[test]
    fn only_a_rule_without_tests_closes_a_chain() {
        let drop = Expr::Verdict(Verdict::Drop);
        assert!(closes(rule::encode(&[Expr::Counter, drop.clone()]).as_bytes()));
        assert!(!closes(rule::encode(&[Expr::Counter]).as_bytes()));
        assert!(!closes(rule::encode(&[Expr::Verdict(Verdict::Jump("x"))]).as_bytes()));
        assert!(!closes(rule::encode(&[Expr::Meta(Meta::Iifname, 0), Expr::ifname(0, "a"), drop]).as_bytes()));
    }
}
