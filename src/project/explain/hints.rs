//! What the last lines of a log give away: words of programs and of the C
//! library that mean the same wherever they stand.

/// Words, in lower case, and what to try.
const SIGNS: &[(&[&str], &str)] = &[
    (
        &["address already in use", "eaddrinuse"],
        "a port is taken: by a second program in the container, or by another that shares its network (`network_mode`)",
    ),
    (
        &["connection refused", "econnrefused", "could not connect to server", "can't connect to mysql"],
        "what it connects to does not listen yet: `depends_on: {SERVICE: {condition: service_healthy}}` waits for it",
    ),
    (
        &[
            "could not translate host name",
            "name or service not known",
            "name does not resolve",
            "enotfound",
            "temporary failure in name resolution",
            "no such host",
            "bad address",
        ],
        "a name was not found: use the service's name as the host, on a network that both are on",
    ),
    (&["no space left on device", "enospc"], "the disk is full: `df -h`, `umiak system df`, `umiak image prune`"),
    (
        &["read-only file system", "erofs"],
        "it writes where it must not: `tmpfs:` or a volume for that directory, or no `read_only`",
    ),
    (
        &["permission denied", "eacces", "operation not permitted", "eperm"],
        "a right is missing: check who owns what is mounted, `user`, and `cap_add`",
    ),
    (&["too many open files", "emfile"], "more descriptors: `ulimits: {nofile: 65536}`"),
    (
        &["resource temporarily unavailable", "cannot fork", "can't fork", "unable to create thread"],
        "it has as many processes as it may: `pids_limit`",
    ),
    (&["exec format error"], "a program for another kind of CPU, or a script without `#!`: check the image's platform"),
    (
        &["password authentication failed", "access denied for user"],
        "the password differs from the one that the data was made with: the volume keeps the first one",
    ),
];

/// What to try, by the last line that says something known.
pub fn of(last_lines: &[String]) -> Option<&'static str> {
    last_lines.iter().rev().find_map(|line| {
        let line = line.to_lowercase();
        let told = |(words, _): &&(&[&str], &str)| words.iter().any(|word| line.contains(word));
        SIGNS.iter().find(told).map(|(_, hint)| *hint)
    })
}
