//! DNS messages (RFC 1035 §4, RFC 6891): reading a question out of untrusted
//! bytes, and writing an answer to it, without a step that allocates per query.

use std::net::IpAddr;

use super::names::MAX_NAME;

/// Length of the fixed part of a message.
pub(super) const HEADER: usize = 12;
/// What may be sent over UDP to a client that says nothing of its own (RFC 1035 §4.2.1).
pub(super) const UDP_LIMIT: usize = 512;
/// What is sent at most over UDP: no fragments on any path (DNS flag day 2020).
pub(super) const EDNS_LIMIT: usize = 1232;
/// Seconds that an answer may be kept: replicas come and go.
pub(super) const TTL: u32 = 1;

const FLAG_RESPONSE: u8 = 0x80;
const FLAG_TRUNCATED: u8 = 0x02;
const FLAG_RECURSION_DESIRED: u8 = 0x01;
const FLAG_RECURSION_AVAILABLE: u8 = 0x80;
const OPCODE: u8 = 0x78;
/// An empty OPT record: root name, type, size, extended code and flags, no options.
const OPT_LENGTH: usize = 11;

/// Record types that are answered or looked at (IANA).
pub(super) mod kind {
    pub(in super::super) const A: u16 = 1;
    pub(in super::super) const PTR: u16 = 12;
    pub(in super::super) const AAAA: u16 = 28;
    pub(in super::super) const OPT: u16 = 41;
    pub(in super::super) const ANY: u16 = 255;
}

/// The class of the Internet.
pub(super) const CLASS_IN: u16 = 1;

/// Response codes (RFC 1035 §4.1.1, RFC 6891 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NotImp = 4,
    Refused = 5,
    /// Extended: the lower four bits are 0, the upper stand in the OPT record.
    BadVers = 16,
}

/// What a client said of itself in an OPT record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edns {
    pub(super) size: u16,
    pub(super) version: u8,
}

/// The one question of a message.
#[derive(Debug, Clone)]
pub(super) struct Question {
    name: [u8; MAX_NAME],
    name_length: u8,
    pub(super) kind: u16,
    pub(super) class: u16,
    /// Where the question section ends in the message.
    pub(super) end: usize,
    pub(super) edns: Option<Edns>,
}

impl Question {
    /// The name asked for, as [`super::names`] writes it.
    pub(super) fn name(&self) -> &[u8] {
        self.name.get(..self.name_length.into()).unwrap_or_default()
    }

    /// How long an answer over UDP may be.
    pub(super) fn udp_limit(&self) -> usize {
        self.edns.map_or(UDP_LIMIT, |edns| usize::from(edns.size).clamp(UDP_LIMIT, EDNS_LIMIT))
    }
}

/// Why a message gets no answer from the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reject {
    /// Not a question at all: an answer to it might start a loop.
    Silent,
    /// A question that is answered with this code.
    Code(Code),
}

/// Reads a client's message.
pub(super) fn parse(message: &[u8]) -> Result<Question, Reject> {
    let header: &[u8; HEADER] = message.first_chunk().ok_or(Reject::Silent)?;
    if header[2] & FLAG_RESPONSE != 0 {
        return Err(Reject::Silent);
    }
    if header[2] & OPCODE != 0 {
        return Err(Reject::Code(Code::NotImp));
    }
    let malformed = Reject::Code(Code::FormErr);
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if count(4) != 1 {
        return Err(malformed);
    }
    let mut question = question(message).ok_or(malformed)?;
    if count(6) == 0 && count(8) == 0 {
        question.edns = edns(message, question.end, count(10)).ok_or(malformed)?;
    }
    Ok(question)
}

/// The question section of a message that has one question; no compression there, as nothing stands before it.
fn question(message: &[u8]) -> Option<Question> {
    let mut name = [0_u8; MAX_NAME];
    let (mut at, mut length) = (HEADER, 0_usize);
    loop {
        let label = usize::from(*message.get(at)?);
        if label == 0 {
            at += 1;
            break;
        }
        if label > 63 {
            return None;
        }
        let source = message.get(at..=at + label)?;
        let target = name.get_mut(length..=length + label)?;
        // A length byte is at most 63, below every letter: lower-casing leaves it alone.
        for (to, from) in target.iter_mut().zip(source) {
            *to = from.to_ascii_lowercase();
        }
        at += label + 1;
        length += label + 1;
    }
    let fixed: [u8; 4] = message.get(at..at + 4)?.try_into().ok()?;
    Some(Question {
        name,
        name_length: u8::try_from(length).ok()?,
        kind: u16::from_be_bytes([fixed[0], fixed[1]]),
        class: u16::from_be_bytes([fixed[2], fixed[3]]),
        end: at + 4,
        edns: None,
    })
}

/// The OPT record among `count` additional records at `at`; `None` when they are malformed.
#[allow(clippy::option_option, reason = "malformed, absent and present are three things")]
fn edns(message: &[u8], mut at: usize, count: u16) -> Option<Option<Edns>> {
    let mut found = None;
    for _ in 0..count {
        let root = *message.get(at)? == 0;
        at = skip_name(message, at)?;
        let fixed: [u8; 10] = message.get(at..at + 10)?.try_into().ok()?;
        if u16::from_be_bytes([fixed[0], fixed[1]]) == kind::OPT {
            // RFC 6891 §6.1.1: at most one, and its name is the root.
            if !root || found.is_some() {
                return None;
            }
            found = Some(Edns { size: u16::from_be_bytes([fixed[2], fixed[3]]), version: fixed[5] });
        }
        at += 10 + usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        message.get(..at)?;
    }
    Some(found)
}

/// Past a name that may end in a compression pointer. Pointers are not followed, so none can loop.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            label @ 1..=63 => at += usize::from(label) + 1,
            0xC0..=0xFF => return Some(at + 2),
            _ => return None,
        }
    }
}

/// An answer being written at the end of `out`.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    limit: usize,
    answers: u16,
    opt: bool,
}

impl<'a> Reply<'a> {
    /// Opens the answer to `query`, which [`parse`] has read as `question`.
    pub(super) fn new(out: &'a mut Vec<u8>, query: &[u8], question: &Question, code: Code, limit: usize) -> Self {
        let start = out.len();
        let asked = query.get(..question.end).unwrap_or_default();
        out.extend_from_slice(asked);
        let mut reply = Self { out, start, limit, answers: 0, opt: question.edns.is_some() };
        reply.head(|head| {
            set_flags(head, code);
            head[4..].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        });
        reply
    }

    /// One address; `false` when it did not fit, and the client is told that there is more.
    pub(super) fn address(&mut self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(four) => self.record(kind::A, &four.octets()),
            IpAddr::V6(six) => self.record(kind::AAAA, &six.octets()),
        }
    }

    /// One name (labels without the root), as the answer to a reverse question.
    pub(super) fn pointer(&mut self, name: &[u8]) -> bool {
        let mut data = Vec::with_capacity(name.len() + 1);
        data.extend_from_slice(name);
        data.push(0);
        self.record(kind::PTR, &data)
    }

    fn record(&mut self, kind: u16, data: &[u8]) -> bool {
        let opt = if self.opt { OPT_LENGTH } else { 0 };
        let Ok(length) = u16::try_from(data.len()) else { return false };
        if self.out.len() - self.start + 12 + data.len() + opt > self.limit {
            self.head(|head| head[2] |= FLAG_TRUNCATED);
            return false;
        }
        // The name is a pointer to the question's.
        self.out.extend_from_slice(&[0xC0, 12]);
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.out.extend_from_slice(&TTL.to_be_bytes());
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(data);
        self.answers += 1;
        true
    }

    /// Closes the answer: the count, and an OPT record for a client that sent one (RFC 6891 §6.1.1).
    pub(super) fn finish(mut self, code: Code) {
        let answers = self.answers.to_be_bytes();
        let opt = self.opt;
        self.head(|head| {
            head[6..8].copy_from_slice(&answers);
            head[11] = u8::from(opt);
        });
        if opt {
            let [_, kind] = kind::OPT.to_be_bytes();
            let size = u16::try_from(EDNS_LIMIT).unwrap_or(u16::MAX).to_be_bytes();
            let extended = (code as u8) >> 4;
            self.out.extend_from_slice(&[0, 0, kind, size[0], size[1], extended, 0, 0, 0, 0, 0]);
        }
    }

    fn head(&mut self, change: impl FnOnce(&mut [u8; HEADER])) {
        if let Some(head) = self.out.get_mut(self.start..).and_then(|message| message.first_chunk_mut()) {
            change(head);
        }
    }
}

/// Appends an answer without records to a question that was understood.
pub(super) fn reply_code(out: &mut Vec<u8>, query: &[u8], question: &Question, code: Code) {
    Reply::new(out, query, question, code, 0).finish(code);
}

/// Appends an answer to a message whose question was not understood: the header alone.
pub(super) fn reply_header(out: &mut Vec<u8>, query: &[u8], code: Code) {
    let Some(mut head) = query.first_chunk::<HEADER>().copied() else { return };
    set_flags(&mut head, code);
    head[4..].fill(0);
    out.extend_from_slice(&head);
}

fn set_flags(head: &mut [u8; HEADER], code: Code) {
    head[2] = FLAG_RESPONSE | (head[2] & (OPCODE | FLAG_RECURSION_DESIRED));
    head[3] = FLAG_RECURSION_AVAILABLE | (code as u8 & 0x0F);
}

/// The id of a message.
pub(super) fn id(message: &[u8]) -> u16 {
    message.first_chunk().map_or(0, |id| u16::from_be_bytes(*id))
}

/// Writes the id of a message.
pub(super) fn set_id(message: &mut [u8], id: u16) {
    if let Some(head) = message.first_chunk_mut() {
        *head = id.to_be_bytes();
    }
}

/// The response code of a message, without the extended bits.
pub(super) fn code(message: &[u8]) -> u8 {
    message.get(3).map_or(0, |flags| flags & 0x0F)
}

/// Whether `response` answers `query` (as sent, `end` where its question ends): a response, the same
/// id, the same question. A resolver that could not read the question may leave it out.
pub(super) fn answers(response: &[u8], query: &[u8], end: usize) -> bool {
    let Some(head) = response.first_chunk::<HEADER>() else { return false };
    if head[2] & FLAG_RESPONSE == 0 || id(response) != id(query) {
        return false;
    }
    match u16::from_be_bytes([head[4], head[5]]) {
        0 => matches!(code(response), 1 | 2 | 4 | 5),
        1 => match (response.get(HEADER..end), query.get(HEADER..end)) {
            (Some(theirs), Some(ours)) => theirs.eq_ignore_ascii_case(ours),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests;
