//! Reading resolv.conf(5), once for all who need it.

/// What a resolv.conf says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Addresses, with an interface after `%` where the file has one. Not checked.
    pub nameservers: Vec<String>,
    /// Search domains; the last `search` or `domain` line counts.
    pub search: Vec<String>,
    /// Options, of all lines.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads the text of a resolv.conf; what is not understood is skipped, as the C library does.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next();
            let words = words.map(str::to_owned);
            match keyword {
                Some("nameserver") => conf.nameservers.extend(words.take(1)),
                Some("search") => conf.search = words.collect(),
                Some("domain") => conf.search = words.take(1).collect(),
                Some("options") => conf.options.extend(words),
                _ => {}
            }
        }
        conf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_the_c_library_does() {
        let conf = ResolvConf::parse(
            "# made by hand\nnameserver 10.0.0.1 # first\n  nameserver\t::1\nnameserver fe80::1%7\ndomain old.example\n\
             search a.example b.example ; c\noptions ndots:2 edns0\noptions rotate\nnameserver\nnonsense\n",
        );
        assert_eq!(conf.nameservers, ["10.0.0.1", "::1", "fe80::1%7"]);
        assert_eq!(conf.search, ["a.example", "b.example"]);
        assert_eq!(conf.options, ["ndots:2", "edns0", "rotate"]);
        assert_eq!(ResolvConf::parse("domain one two").search, ["one"]);
        assert_eq!(ResolvConf::parse(""), ResolvConf::default());
    }
}
