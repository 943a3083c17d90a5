//! What the last lines of a log give away: words of programs and of the C
//! library that mean the same wherever they stand.

/// What the loaders of glibc and of musl say.
const LIBRARY: &[&str] = &[
    "error while loading shared libraries",
    "error loading shared library",
    "error relocating",
    "version `glibc_",
    "version `glibcxx_",
];

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
    (
        LIBRARY,
        "a library is missing: install its package in the image, or take a base with the C library that the program was \
         built for (Debian has glibc, Alpine musl)",
    ),
    (&["exec format error"], "a program for another kind of CPU, or a script without `#!`: check the image's platform"),
    (
        &["password authentication failed", "access denied for user"],
        "the password differs from the one that the data was made with: the volume keeps the first one",
    ),
];

/// The same of errors of a start, which are the host's or the engine's rather than a program's.
const OF_STARTS: &[(&[&str], &str)] = &[
    (
        &["port is already allocated", "address already in use", "failed to bind host port"],
        "stop whoever has the port (`ss -ltnp`), or publish another one: `ports: [\"OTHER:PORT\"]`",
    ),
    (&["working directory"], "`working_dir` has to be a directory of the image or of what is mounted"),
    (
        &["unable to find user", "unable to find group"],
        "a name in `user` or `group_add` has to be in the image's /etc/passwd or /etc/group; a number need not",
    ),
    (
        &["bind source path does not exist", "no such device", "no such file or directory"],
        "check the paths of `volumes`, `devices`, `env_file`, `secrets` and `configs` on this host",
    ),
    (&["no space left on device", "enospc"], "the disk is full: `df -h`, `umiak system df`, `umiak image prune`"),
    (
        &["cannot mount the file", "cannot mount the directory"],
        "a file can only be mounted on a file, and a directory on a directory: check `volumes`",
    ),
    (&["read-only file system"], "a mount point has to be made in it: let the image have it, or no `read_only`"),
    (&["is not running", "non running container"], "what it shares a namespace with has to run first: `umiak up -d`"),
    (&["is gone"], "`umiak up -d --force-recreate` makes it anew"),
    (
        &["permission denied", "operation not permitted"],
        "the host forbids it: check `privileged`, `cap_add`, `security_opt`, and who owns what is mounted",
    ),
];

/// What to try, by the error of a start.
pub fn of_start(error: &str) -> Option<&'static str> {
    // That a program is not there has its own words.
    let error = error.to_lowercase();
    let program = error.starts_with("exec ") || error.starts_with("exec: ");
    let told = |(words, _): &&(&[&str], &str)| words.iter().any(|word| error.contains(word));
    OF_STARTS.iter().filter(|_| !program).find(told).map(|(_, hint)| *hint)
}

/// Whether a program says that a library is missing.
pub fn lacks_library(last_lines: &[String]) -> bool {
    last_lines.iter().any(|line| LIBRARY.iter().any(|word| line.to_lowercase().contains(word)))
}

/// What to try, by the last line that says something known.
pub fn of(last_lines: &[String]) -> Option<&'static str> {
    last_lines.iter().rev().find_map(|line| {
        let line = line.to_lowercase();
        let told = |(words, _): &&(&[&str], &str)| words.iter().any(|word| line.contains(word));
        SIGNS.iter().find(told).map(|(_, hint)| *hint)
    })
}
