//! What is done with a message from the container: answered from the table,
//! forwarded, refused or ignored. No input or output here.

use std::net::IpAddr;

use super::names;
use super::table::{Found, Table};
use super::wire::{self, CLASS_IN, Code, Question, Reject, Reply, kind};

/// What becomes of a message.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The answer was appended to the output.
    Answered,
    /// It is about another name: ask a resolver.
    Forward(Box<Question>),
    /// No answer.
    Ignored,
}

/// How an answer goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// Decides about `query`; an answer is appended to `out`. `addresses` is room that is used again and again.
pub(super) fn answer(
    query: &[u8],
    transport: Transport,
    table: &mut Table,
    addresses: &mut Vec<IpAddr>,
    out: &mut Vec<u8>,
) -> Verdict {
    let question = match wire::parse(query) {
        Ok(question) => question,
        Err(Reject::Silent) => return Verdict::Ignored,
        Err(Reject::Code(code)) => {
            wire::reply_header(out, query, code);
            return Verdict::Answered;
        }
    };
    if question.edns.is_some_and(|edns| edns.version > 0) {
        wire::reply_code(out, query, &question, Code::BadVers);
        return Verdict::Answered;
    }
    if question.class != CLASS_IN {
        return Verdict::Forward(Box::new(question));
    }
    let limit = if transport == Transport::Udp { question.udp_limit() } else { u16::MAX.into() };
    addresses.clear();
    let families = match question.kind {
        kind::A => [true, false],
        kind::AAAA => [false, true],
        kind::ANY => [true, true],
        _ => [false, false],
    };
    if table.find(question.name(), families, addresses) == Found::Peers {
        let mut reply = Reply::new(out, query, &question, Code::NoError, limit);
        for &address in &*addresses {
            if !reply.address(address) {
                break;
            }
        }
        reply.finish(Code::NoError);
        return Verdict::Answered;
    }
    if let Some(name) = names::reverse(question.name()).and_then(|address| table.name_of(address)) {
        let mut reply = Reply::new(out, query, &question, Code::NoError, limit);
        if matches!(question.kind, kind::PTR | kind::ANY) {
            reply.pointer(&name);
        }
        reply.finish(Code::NoError);
        return Verdict::Answered;
    }
    Verdict::Forward(Box::new(question))
}

#[cfg(test)]
mod tests;
