//! Logs through real files: what the writer writes, the reader reads, across
//! rotation, damage and a full disk.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;
use umiak_runtime::logs::{
    Driver, Line, MAX_RECORD, Options, PARTIAL_IDLE, Query, Reader, Status, Stream, Time, Writer, path,
};

const ID: &str = "c0ffee";

struct Log {
    dir: TempDir,
    options: Options,
}

fn log(max_size: u64, max_files: u32) -> Log {
    Log {
        dir: tempfile::tempdir().unwrap(),
        options: Options { max_size: Some(max_size), max_files, ..Options::default() },
    }
}

impl Log {
    fn writer(&self) -> Writer {
        Writer::open(self.dir.path(), ID, &self.options).unwrap()
    }

    fn reader(&self, query: Query) -> Reader {
        Reader::open(self.dir.path(), ID, query).unwrap()
    }

    fn read(&self, query: Query) -> Vec<Line> {
        let mut reader = self.reader(query);
        let (lines, status) = drain(&mut reader);
        assert_eq!(status, Status::End);
        lines
    }

    fn path(&self) -> PathBuf {
        path(self.dir.path(), ID)
    }
}

fn drain(reader: &mut Reader) -> (Vec<Line>, Status) {
    let mut lines = Vec::new();
    loop {
        let status = reader.next_lines(&mut lines).unwrap();
        if status != Status::More {
            return (lines, status);
        }
    }
}

fn texts(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

fn put(writer: &mut Writer, text: &str) {
    writer.write(Stream::Stdout, text.as_bytes()).unwrap();
    writer.flush().unwrap();
}

fn follow() -> Query {
    Query { follow: true, ..Query::default() }
}

/// Numbered lines, each a record of 94 bytes or so.
fn numbered(writer: &mut Writer, numbers: std::ops::Range<usize>) {
    for number in numbers {
        put(writer, &format!("{number:06}\n"));
    }
}

/// Compresses at once, where a monitor leaves it to another process.
fn compress_now(dir: &Path, id: &str) -> std::io::Result<std::process::Child> {
    umiak_runtime::logs::compress(dir, id)?;
    std::process::Command::new("true").spawn()
}

fn tail(lines: usize) -> Query {
    Query { tail: Some(lines), ..Query::default() }
}

#[test]
fn the_file_is_docker_s_json_file() {
    let log = log(1 << 20, 3);
    let mut writer = log.writer();
    let before = Time::now();
    writer.write(Stream::Stdout, b"hello \"\\\t\xff\n").unwrap();
    writer.write(Stream::Stderr, "é\n".as_bytes()).unwrap();
    writer.flush().unwrap();
    let text = fs::read_to_string(log.path()).unwrap();
    let records: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["log"], "hello \"\\\t\u{fffd}\n");
    assert_eq!((&records[0]["stream"], &records[1]["stream"]), (&"stdout".into(), &"stderr".into()));
    assert!(text.starts_with("{\"log\":\"hello "), "keys in Docker's order");
    let time = Time::parse(records[0]["time"].as_str().unwrap()).unwrap();
    assert!(before <= time && time <= Time::now());
}

#[test]
fn docker_s_own_files_are_read() {
    let log = log(1 << 20, 3);
    let text = r#"{"log":"a\u003c\n","stream":"stdout","attrs":{"tag":"x"},"time":"2026-11-21T02:20:32.4Z"}
{"log":"b","stream":"stderr","time":"2026-11-21T02:20:33.410301887Z"}
"#;
    fs::write(log.path(), text).unwrap();
    let lines = log.read(Query::default());
    assert_eq!(texts(&lines), ["a<\n", "b"]);
    assert_eq!(lines[0].time.to_string(), "2026-11-21T02:20:32.400000000Z");
    assert_eq!(lines[1].stream, Stream::Stderr);
}

#[test]
fn long_lines_are_cut_at_16_kib_between_characters_and_join_to_what_was_written() {
    let log = log(100 << 20, 3);
    let mut writer = log.writer();
    let long: String = "aé€🛶".chars().cycle().take(1 << 20).collect::<String>() + "\n";
    for chunk in long.as_bytes().chunks(65_537) {
        writer.write(Stream::Stdout, chunk).unwrap();
    }
    let exact = "x".repeat(MAX_RECORD) + "\n";
    writer.write(Stream::Stdout, exact.as_bytes()).unwrap();
    writer.flush().unwrap();
    let lines = log.read(Query::default());
    let (last, pieces) = lines.split_last().unwrap();
    assert_eq!(last.text, exact, "the newline gets no record to itself");
    assert!(pieces.iter().all(|line| line.text.len() <= MAX_RECORD + 1));
    assert!(pieces.iter().rev().skip(1).all(|line| !line.text.ends_with('\n') && line.text.len() > MAX_RECORD - 4));
    assert!(texts(pieces).concat() == long, "every byte, none replaced");
}

#[test]
fn chunks_may_end_anywhere_and_streams_do_not_mix() {
    let log = log(1 << 20, 3);
    let mut writer = log.writer();
    let text = "one é\ntwo\n\nthree";
    for byte in text.as_bytes() {
        writer.write(Stream::Stdout, &[*byte]).unwrap();
        writer.write(Stream::Stderr, b"e").unwrap();
    }
    writer.end(Stream::Stdout).unwrap();
    writer.end(Stream::Stderr).unwrap();
    let lines = log.read(Query { stderr: false, ..Query::default() });
    assert_eq!(texts(&lines), ["one é\n", "two\n", "\n", "three"]);
    let lines = log.read(Query { stdout: false, ..Query::default() });
    assert_eq!(texts(&lines), ["e".repeat(text.len()).as_str()]);
}

#[test]
fn a_prompt_is_seen_while_it_waits() {
    let log = log(1 << 20, 3);
    let mut writer = log.writer();
    assert_eq!(writer.deadline(), None);
    put(&mut writer, "done\nPassword: ");
    let deadline = writer.deadline().unwrap();
    assert!(deadline <= Instant::now() + PARTIAL_IDLE);
    writer.tick(deadline - Duration::from_millis(1)).unwrap();
    assert_eq!(texts(&log.read(Query::default())), ["done\n"]);
    put(&mut writer, ".");
    assert_eq!(writer.deadline(), Some(deadline), "more of the same line does not put it off");
    writer.tick(deadline).unwrap();
    assert_eq!(writer.deadline(), None);
    put(&mut writer, "ok\n");
    assert_eq!(texts(&log.read(Query::default())), ["done\n", "Password: .", "ok\n"]);
    assert_eq!(texts(&log.read(tail(1))), ["Password: .", "ok\n"], "one line on the terminal");
}

#[test]
fn files_stay_below_the_limit_and_are_as_many_as_asked_for() {
    for (max_size, max_files) in [(1000, 1), (1000, 2), (4096, 3), (100_000, 5)] {
        let log = log(max_size, max_files);
        let mut writer = log.writer();
        for number in 0..9000 {
            writer.write(Stream::Stdout, format!("line {number}\n").as_bytes()).unwrap();
            if number % 100 == 0 {
                writer.flush().unwrap();
            }
        }
        writer.flush().unwrap();
        let sizes: Vec<u64> =
            fs::read_dir(log.dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), max_files as usize);
        assert!(sizes.iter().all(|size| *size <= max_size), "{sizes:?}");
        let lines = log.read(Query::default());
        let first = 9000 - lines.len();
        for (number, line) in (first..).zip(&lines) {
            assert_eq!(line.text, format!("line {number}\n"));
        }
        assert!(first > 0 && lines.len() * 80 > usize::try_from(max_size).unwrap() * (max_files as usize - 1));
    }
}

#[test]
fn a_follower_loses_and_doubles_nothing_across_rotations() {
    const LINES: usize = 60_000;
    let log = log(64 << 10, 3);
    let read = AtomicUsize::new(0);
    let mut reader = log.reader(follow());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = log.writer();
            for number in 0..LINES {
                // A file holds some 900 lines: never the whole log ahead of the reader.
                while number > read.load(Ordering::Acquire) + 900 {
                    writer.flush().unwrap();
                    std::thread::yield_now();
                }
                writer.write(Stream::Stdout, format!("line {number}\n").as_bytes()).unwrap();
                if number % 7 == 0 {
                    writer.flush().unwrap();
                }
            }
            writer.flush().unwrap();
        });
        let mut count = 0;
        while count < LINES {
            wait(&reader);
            let (lines, status) = drain(&mut reader);
            assert_eq!(status, Status::Idle);
            for line in lines {
                assert_eq!(line.text, format!("line {count}\n"));
                count += 1;
            }
            read.store(count, Ordering::Release);
        }
    });
    assert!(!reader.missed_lines());
    assert_eq!(reader.damaged_lines(), 0);
    reader.container_ended();
    assert_eq!(drain(&mut reader), (Vec::new(), Status::End));
}

/// Waits until the reader's descriptor says that there may be more.
fn wait(reader: &Reader) {
    let fd = reader.fd().unwrap();
    let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ready, 1, "no event came");
}

#[test]
fn any_number_of_logs_is_followed_with_one_watch() {
    // The kernel gives a user 128 inotify descriptors.
    let logs: Vec<Log> = (0..200).map(|_| log(1 << 20, 3)).collect();
    let watch = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::NONBLOCK).unwrap();
    let open = |log: &Log| Reader::open_watched(log.dir.path(), ID, follow(), watch.as_fd()).unwrap();
    let mut readers: Vec<Reader> = logs.iter().map(open).collect();
    for reader in &mut readers {
        assert_eq!(drain(reader), (Vec::new(), Status::Idle));
        assert!(reader.fd().is_none());
    }
    let mut writers: Vec<Writer> = logs.iter().map(Log::writer).collect();
    put(&mut writers[150], "a\n");
    let mut fds = [PollFd::new(&watch, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&Timespec { tv_sec: 60, tv_nsec: 0 })).unwrap(), 1, "it is told");
    let said: Vec<usize> = (0..200).map(|index| drain(&mut readers[index]).0.len()).collect();
    assert_eq!((said[150], said.iter().sum::<usize>()), (1, 1));
}

#[test]
fn a_follower_that_sleeps_through_the_whole_log_says_so() {
    let log = log(1000, 2);
    let mut writer = log.writer();
    put(&mut writer, "first\n");
    let mut reader = log.reader(follow());
    assert_eq!(texts(&drain(&mut reader).0), ["first\n"]);
    for number in 0..100 {
        put(&mut writer, &format!("line {number}\n"));
    }
    let (lines, _) = drain(&mut reader);
    assert!(reader.missed_lines());
    assert_eq!(lines.last().unwrap().text, "line 99\n");
}

#[test]
fn a_follower_waits_for_a_log_that_is_not_there_yet_and_ends_with_its_container() {
    let log = log(1 << 20, 3);
    let mut reader = log.reader(follow());
    assert_eq!(drain(&mut reader), (Vec::new(), Status::Idle));
    let mut writer = log.writer();
    put(&mut writer, "a\n");
    wait(&reader);
    assert_eq!(texts(&drain(&mut reader).0), ["a\n"]);
    put(&mut writer, "b");
    writer.end(Stream::Stdout).unwrap();
    reader.container_ended();
    let (lines, status) = drain(&mut reader);
    assert_eq!((texts(&lines), status), (vec!["b"], Status::End));
    assert!(
        matches!(Reader::open(Path::new("/nonexistent"), ID, follow()), Err(error) if error.to_string().contains("watch the log"))
    );
}

#[test]
fn tail_counts_back_across_files() {
    let log = log(2000, 4);
    let mut writer = log.writer();
    for number in 0..80 {
        put(&mut writer, &format!("line {number}\n"));
    }
    let all = log.read(Query::default());
    assert!(all.len() > 60 && all.len() <= 80);
    for count in [0, 1, 2, 19, 20, 21, 40, all.len(), 1000] {
        let expected = &all[all.len().saturating_sub(count)..];
        assert_eq!(log.read(tail(count)), expected, "{count}");
    }
    let mut reader = log.reader(Query { tail: Some(1), ..follow() });
    assert_eq!(texts(&drain(&mut reader).0), ["line 79\n"]);
    put(&mut writer, "more\n");
    assert_eq!(texts(&drain(&mut reader).0), ["more\n"]);
}

#[test]
fn spans_of_time_and_streams() {
    let log = log(1 << 20, 3);
    let mut file = fs::File::create(log.path()).unwrap();
    for second in 0..10 {
        let stream = if second % 2 == 0 { "stdout" } else { "stderr" };
        writeln!(file, r#"{{"log":"{second}\n","stream":"{stream}","time":"2026-01-01T00:00:0{second}Z"}}"#).unwrap();
    }
    let at = |second: u32| Time::parse(&format!("2026-01-01T00:00:0{second}Z"));
    let read = |query: Query| log.read(query).iter().map(|line| line.text.trim().to_owned()).collect::<String>();
    assert_eq!(read(Query { since: at(4), ..Query::default() }), "456789");
    assert_eq!(read(Query { until: at(4), ..Query::default() }), "01234");
    assert_eq!(read(Query { since: at(3), until: at(6), ..Query::default() }), "3456");
    assert_eq!(read(Query { until: at(6), tail: Some(2), ..Query::default() }), "56");
    assert_eq!(read(Query { stderr: false, tail: Some(2), ..Query::default() }), "68");
    assert_eq!(read(Query { until: at(4), ..follow() }), "01234", "following ends at `until`");
}

#[test]
fn a_clock_that_is_set_back_hides_nothing() {
    let log = log(1 << 20, 3);
    let day = 86_400 * 1_000_000_000_i64;
    let now = Time::now().nanoseconds();
    let mut file = fs::File::create(log.path()).unwrap();
    let mut put = |text: &str, time: i64| {
        let time = Time::from_nanoseconds(time);
        writeln!(file, r#"{{"log":"{text}\n","stream":"stdout","time":"{time}"}}"#).unwrap();
    };
    let since = |time: i64| Query { since: Some(Time::from_nanoseconds(time)), ..Query::default() };
    put("before", now - day / 2);
    let mut follower = log.reader(Query { follow: true, ..since(now) });
    let mut ahead = log.reader(Query { follow: true, ..since(now + day) });
    assert_eq!(drain(&mut follower), (Vec::new(), Status::Idle));
    assert_eq!(drain(&mut ahead), (Vec::new(), Status::Idle));
    put("set back", now - day);
    assert_eq!(texts(&drain(&mut follower).0), ["set back\n"]);
    assert_eq!(texts(&drain(&mut ahead).0), [""; 0], "what is to come tomorrow is not there yet");
    put("now", now);
    put("set back again", now - day);
    assert_eq!(texts(&log.read(since(now))), ["now\n", "set back again\n"]);
}

#[test]
fn damage_is_read_over() {
    let log = log(100 << 20, 3);
    let record = |text: &str| {
        format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}}\n").into_bytes()
    };
    let mut bytes = vec![0; 3 << 20];
    bytes.extend(record("after NULs"));
    bytes.extend(b"{\"log\":\"torn");
    bytes.extend(b"\n\n not json \n{\"log\":1}\n\xff\xfe\n");
    bytes.extend(record("between"));
    bytes.extend(vec![b'x'; 3 << 20]);
    bytes.extend(b"\n");
    bytes.extend(record("last"));
    bytes.extend(b"{\"log\":\"cut by a cra");
    fs::write(log.path(), &bytes).unwrap();
    let mut reader = log.reader(Query::default());
    let (lines, status) = drain(&mut reader);
    assert_eq!((texts(&lines), status), (vec!["after NULs\n", "between\n", "last\n"], Status::End));
    assert_eq!(reader.damaged_lines(), 6);
    assert_eq!(texts(&log.read(tail(2))), ["between\n", "last\n"]);
    // The next monitor goes on behind the torn record.
    let mut writer = log.writer();
    put(&mut writer, "new\n");
    assert_eq!(texts(&log.read(tail(2))), ["last\n", "new\n"]);
}

#[test]
fn a_record_that_is_being_written_is_waited_for() {
    let log = log(1 << 20, 3);
    let record = b"{\"log\":\"x\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}\n";
    let mut file = fs::File::create(log.path()).unwrap();
    file.write_all(record).unwrap();
    file.write_all(&record[..20]).unwrap();
    for tail in [None, Some(0), Some(1)] {
        let mut reader = log.reader(Query { tail, ..follow() });
        let before = drain(&mut reader).0.len();
        assert_eq!(before, usize::from(tail != Some(0)));
        let mut file = fs::OpenOptions::new().append(true).open(log.path()).unwrap();
        file.write_all(&record[20..]).unwrap();
        assert_eq!(texts(&drain(&mut reader).0), ["x\n"]);
        assert_eq!(reader.damaged_lines(), 0);
        file.set_len((record.len() + 20) as u64).unwrap();
    }
}

#[test]
fn an_emptied_file_is_read_from_its_start() {
    let log = log(1 << 20, 3);
    let mut writer = log.writer();
    let mut reader = log.reader(follow());
    put(&mut writer, "before it was emptied\n");
    assert_eq!(drain(&mut reader).0.len(), 1);
    fs::File::options().write(true).open(log.path()).unwrap().set_len(0).unwrap();
    assert_eq!(drain(&mut reader).0.len(), 0);
    put(&mut writer, "after\n");
    assert_eq!(texts(&drain(&mut reader).0), ["after\n"]);
}

#[test]
fn nothing_is_written_with_the_driver_none() {
    let log =
        Log { dir: tempfile::tempdir().unwrap(), options: Options { driver: Driver::None, ..Options::default() } };
    let mut writer = log.writer();
    put(&mut writer, "x\ny");
    assert_eq!(writer.deadline(), None);
    assert_eq!(fs::read_dir(log.dir.path()).unwrap().count(), 0);
    assert!(log.read(Query::default()).is_empty());
}

#[test]
fn a_full_disk_costs_the_records_at_hand_and_the_log_says_so() {
    use nix::sched::{CloneFlags, unshare};
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    let log = log(1 << 30, 3);
    let run = || {
        unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
        mount("tmpfs", log.dir.path(), "tmpfs", MountFlags::empty(), c"size=64k").unwrap();
        let ballast = log.dir.path().join("ballast");
        fs::write(&ballast, vec![0; 32 << 10]).unwrap();
        let mut writer = log.writer();
        let mut failures = 0;
        for number in 0..2000 {
            writer.write(Stream::Stdout, format!("line {number}\n").as_bytes()).unwrap();
            failures += usize::from(writer.flush().is_err());
        }
        assert!(failures > 100, "{failures}");
        let whole = log.read(Query::default());
        assert_eq!(whole.len(), 2000 - failures);
        fs::remove_file(ballast).unwrap();
        put(&mut writer, "room again\n");
        let end = log.read(tail(2));
        let note = &end[0].text;
        assert!(
            note.starts_with("[umiak: ") && note.contains("bytes of log lost here: No space left on device"),
            "{note}"
        );
        assert_eq!((end[0].stream, end[1].text.as_str()), (Stream::Stderr, "room again\n"));
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap();
}

#[test]
fn compressed_files_are_read_like_the_others() {
    let log = log(2000, 4);
    let mut writer = log.writer();
    writer.compress_with(compress_now);
    let mut follower = log.reader(follow());
    let mut followed = Vec::new();
    for step in 0..12 {
        numbered(&mut writer, step * 10..step * 10 + 10);
        let (lines, status) = drain(&mut follower);
        assert_eq!(status, Status::Idle);
        followed.extend(lines);
    }
    // A rotation that found the process of the one before still there left it to the next.
    umiak_runtime::logs::compress(log.dir.path(), ID).unwrap();
    let mut names: Vec<String> =
        fs::read_dir(log.dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let current = format!("{ID}-json.log");
    let expected = ["", ".1.gz", ".2.gz", ".3.gz", ".lock"].map(|end| format!("{current}{end}"));
    assert_eq!(names, expected);
    let numbers = |lines: &[Line]| texts(lines).iter().map(|text| text.trim().parse().unwrap()).collect::<Vec<usize>>();
    assert_eq!(numbers(&followed), (0..120).collect::<Vec<_>>());
    assert!(!follower.missed_lines());
    let all = numbers(&log.read(Query::default()));
    assert!(all.len() > 60 && all.len() < 100, "{}", all.len());
    assert_eq!(all, (120 - all.len()..120).collect::<Vec<_>>());
    for count in [0, 1, 7, 25, 43, 60] {
        assert_eq!(numbers(&log.read(tail(count))), (120 - count..120).collect::<Vec<_>>(), "{count}");
    }
    assert_eq!(numbers(&log.read(tail(1000))), all);
    // A later writer finds its way, and so does one without compression.
    drop(writer);
    numbered(&mut log.writer(), 120..125);
    assert_eq!(*numbers(&log.read(tail(10))).last().unwrap(), 124);
}

#[test]
fn a_compression_that_is_late_finds_its_file() {
    let log = log(2000, 3);
    let mut writer = log.writer();
    // Nobody compresses meanwhile: two rotated files are there as they are.
    numbered(&mut writer, 0..100);
    umiak_runtime::logs::compress(log.dir.path(), ID).unwrap();
    let gz = |number| PathBuf::from(format!("{}.{number}.gz", log.path().display()));
    assert!(gz(1).exists() && gz(2).exists());
    let all = log.read(Query::default());
    assert_eq!(all.last().unwrap().text, "000099\n");
    let first: usize = all[0].text.trim().parse().unwrap();
    assert_eq!(texts(&all).len(), 100 - first);
}

#[test]
fn what_does_not_fit_is_dropped_and_counted_where_nobody_may_wait() {
    let mut log = log(u64::MAX, 1);
    log.options.buffer = Some(20_000);
    let mut writer = log.writer();
    assert!(writer.non_blocking());
    let chunk: String = (0..1000).map(|number| format!("{number:06}\n")).collect();
    writer.write(Stream::Stdout, chunk.as_bytes()).unwrap();
    assert!(writer.deadline().is_some());
    writer.flush().unwrap();
    assert_eq!(writer.deadline(), None);
    put(&mut writer, "after\n");
    let lines = log.read(Query::default());
    let kept = lines.len() - 2;
    assert!(kept > 100 && kept < 1000, "{kept}");
    assert_eq!(lines[kept - 1].text, format!("{:06}\n", kept - 1));
    let said = format!("[umiak: {} records dropped here: the log's buffer was full]\n", 1000 - kept);
    assert_eq!(texts(&lines[kept..]), [said.as_str(), "after\n"]);
}

#[test]
fn attributes_are_in_every_record_and_shown_when_asked_for() {
    let log = log(u64::MAX, 1);
    let mut writer = log.writer();
    let source = umiak_runtime::logs::Source {
        attributes: vec![("com.example/a".into(), "1 \"2\"".into()), ("B".into(), "/x".into())],
        tag: "web".into(),
        ..Default::default()
    };
    let mut options = log.options.clone();
    options.attributes.tag = Some("web".into());
    writer.describe(&source, &options, true).unwrap();
    put(&mut writer, "hi\n");
    let raw = fs::read_to_string(log.path()).unwrap();
    assert!(
        raw.starts_with(
            r#"{"log":"hi\n","stream":"stdout","attrs":{"B":"/x","com.example/a":"1 \"2\"","tag":"web"},"time":""#
        ),
        "{raw}"
    );
    assert_eq!(log.read(Query::default())[0].details, "");
    let lines = log.read(Query { details: true, ..Query::default() });
    assert_eq!(lines[0].details, "B=%2Fx,com.example%2Fa=1+%222%22,tag=web");
}
