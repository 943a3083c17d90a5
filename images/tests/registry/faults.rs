//! Registries that fail: every fault ends in bounded time, with the right
//! content or an error that names registry, image and cause.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use umiak_images::digest::Digest;
use umiak_images::manifest::{Descriptor, OCI_LAYER};
use umiak_images::registry::{BlobSink, RegistryError};

use crate::support::fake::{End, Fake, Reply, Request};
use crate::support::pull::{self, bounded, client, content, fetch, layer, reference, shown};

/// A fake whose blob requests go to `script`, which also gets the content.
fn blobs(content: &[u8], script: impl Fn(&Request, &[u8]) -> Reply + Send + Sync + 'static) -> Fake {
    let content = content.to_vec();
    Fake::start(move |request| script(request, &content))
}

/// A descriptor for content that nobody verifies, without the time to hash it.
fn unchecked(content: &[u8]) -> Descriptor {
    Descriptor::new(OCI_LAYER, Digest::of(b"unchecked"), content.len() as u64)
}

fn error(fake: &Fake, content: &[u8]) -> String {
    let (host, content) = (fake.host(), content.to_vec());
    let text = bounded(move || {
        let image = reference(&host, "team/app:1");
        shown(&fetch(&client(""), &image, &content, 0).expect_err("a failure"))
    });
    let expected = format!("fetch {} of {}/team/app:1 from {}: ", layer_digest(&text), fake.host(), fake.host());
    assert!(text.starts_with(&expected), "{text:?} must begin with {expected:?}");
    text[expected.len()..].to_owned()
}

fn layer_digest(text: &str) -> &str {
    text.split(' ').nth(1).unwrap_or_default()
}

fn success(fake: &Fake, content: &[u8]) -> pull::Keep {
    let (host, content) = (fake.host(), content.to_vec());
    bounded(move || {
        let keep = fetch(&client(""), &reference(&host, "team/app:1"), &content, 0).unwrap();
        assert!(keep.bytes == content);
        keep
    })
}

#[test]
fn a_cut_connection_is_resumed_at_the_byte_reached() {
    let content = content(300_000);
    let fake = blobs(&content, |request, content| {
        let reply = Reply::blob(request, content);
        match request.number {
            0 => reply.end(End::Cut(100_001)),
            1 => reply.end(End::Cut(50_000)),
            _ => reply,
        }
    });
    let keep = success(&fake, &content);
    let ranges: Vec<_> = fake.log().iter().map(Request::range).collect();
    assert_eq!(ranges, [None, Some(100_001), Some(150_001)]);
    assert_eq!(fake.sent(), 300_000, "no byte twice");
    assert_eq!(keep.retries.len(), 2);
    assert!(keep.retries[0].reason.contains("broke"), "{}", keep.retries[0].reason);
}

#[test]
fn a_hundred_cuts_cost_no_byte_twice() {
    bounded(|| {
        for round in 0..100_usize {
            let content = content(20_000 + round);
            let cut = round * 199;
            let fake = blobs(&content, move |request, content| {
                let reply = Reply::blob(request, content);
                if request.number == 0 { reply.end(End::Cut(cut)) } else { reply }
            });
            fetch(&client(""), &reference(&fake.host(), "app"), &content, 0).unwrap();
            assert_eq!(fake.sent(), content.len() as u64, "cut at {cut}");
        }
    });
}

#[test]
fn many_cuts_are_fine_as_long_as_there_is_progress() {
    let content = content(100_000);
    let fake = blobs(&content, |request, content| {
        let left = content.len() - request.range().unwrap_or(0);
        Reply::blob(request, content).end(if left > 5000 { End::Cut(5000) } else { End::Whole })
    });
    assert_eq!(success(&fake, &content).retries.len(), 19);
    assert_eq!(fake.sent(), 100_000);
}

#[test]
fn without_progress_the_number_of_attempts_is_bounded() {
    let content = content(100_000);
    let fake = blobs(&content, |request, content| Reply::blob(request, content).end(End::Cut(10)));
    let text = error(&fake, &content);
    assert!(text.contains(&format!("the connection to {} broke", fake.host())), "{text}");
    assert_eq!(fake.log().len(), 4);
}

#[test]
fn an_earlier_fetch_is_continued() {
    let content = content(50_000);
    let fake = blobs(&content, Reply::blob);
    let image = reference(&fake.host(), "app");
    assert_eq!(fetch(&client(""), &image, &content, 49_999).unwrap().bytes.len(), 50_000);
    assert_eq!((fake.sent(), fake.log()[0].range()), (1, Some(49_999)));
    fetch(&client(""), &image, &content, 50_000).unwrap();
    assert_eq!(fake.log().len(), 1, "nothing is left to ask for");
    let beyond = client("").blob(&image, &layer(&content), 50_001, &mut pull::Keep::default());
    assert!(matches!(beyond, Err(RegistryError::Offset { from: 50_001, size: 50_000, .. })));
}

#[test]
fn a_stalled_connection_is_resumed() {
    let content = content(50_000);
    let fake = blobs(&content, |request, content| {
        let reply = Reply::blob(request, content);
        if request.number == 0 { reply.end(End::Stall(12_345)) } else { reply }
    });
    let keep = success(&fake, &content);
    assert_eq!(fake.log()[1].range(), Some(12_345));
    assert!(keep.retries[0].reason.contains("sent nothing, or next to nothing"), "{}", keep.retries[0].reason);
}

#[test]
fn silence_and_dripping_end_in_an_error() {
    let content = content(5000);
    for end in [End::Stall(0), End::Drip] {
        let fake = blobs(&content, move |request, content| Reply::blob(request, content).end(end));
        let text = error(&fake, &content);
        assert!(text.contains(&format!("{} sent nothing, or next to nothing", fake.host())), "{end:?}: {text}");
        assert_eq!(fake.log().len(), 4);
    }
}

#[test]
fn a_slow_sink_is_not_a_stall() {
    struct Slow(usize);
    impl BlobSink for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
            if self.0 == 0 {
                std::thread::sleep(Duration::from_millis(800));
            }
            self.0 += bytes.len();
            Ok(())
        }
    }
    let content = content(12 << 20);
    let fake = blobs(&content, Reply::blob);
    let host = fake.host();
    let taken = bounded(move || {
        let mut sink = Slow(0);
        let received = client("").blob(&reference(&host, "app"), &unchecked(&content), 0, &mut sink);
        drop(received.unwrap());
        sink.0
    });
    assert_eq!((taken, fake.log().len()), (12 << 20, 1));
}

#[test]
fn server_errors_are_retried_and_then_told() {
    let content = content(1000);
    for status in [500, 502, 503, 504, 408] {
        let fake = blobs(
            &content,
            move |request, content| {
                if request.number < 2 { Reply::new(status) } else { Reply::blob(request, content) }
            },
        );
        success(&fake, &content);
    }
    let fake = blobs(&content, |_, _| {
        Reply::new(503).body(r#"{"errors":[{"code":"UNAVAILABLE","message":"down for\u001b[31m\nrepair"}]}"#)
    });
    assert_eq!(error(&fake, &content), format!("{} answers 503: down for [31m repair", fake.host()));
    assert_eq!(fake.log().len(), 4);
}

#[test]
fn retry_after_is_honoured() {
    let content = content(1000);
    let fake = blobs(&content, |request, content| match request.number {
        0 => Reply::new(429).header("Retry-After", "1"),
        _ => Reply::blob(request, content),
    });
    assert_eq!(success(&fake, &content).retries[0].wait, Duration::from_secs(1));
    let fake = blobs(&content, |_, _| {
        Reply::new(429)
            .header("Retry-After", "3600")
            .body(r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#)
    });
    let text = error(&fake, &content);
    let expected = "limits the rate of requests, try again in 3600 s: You have reached your pull rate limit.";
    assert_eq!(text, format!("{} {expected}", fake.host()));
    assert_eq!(fake.log().len(), 1, "not worth waiting for");
}

#[test]
fn a_wrong_range_is_never_used() {
    let content = content(30_000);
    for wrong in ["bytes 0-29999/30000", "bytes 10001-29999/30000", "bytes 10000-29999/40000", "nonsense", ""] {
        let fake = blobs(&content, move |request, content| {
            let reply = Reply::blob(request, content);
            match (request.number, request.range()) {
                (0, _) => reply.end(End::Cut(10_000)),
                (_, Some(_)) => Reply::new(206).header("Content-Range", wrong).body(vec![0; 20_000]),
                (_, None) => reply,
            }
        });
        success(&fake, &content);
        let ranges: Vec<_> = fake.log().iter().map(Request::range).collect();
        assert_eq!(ranges, [None, Some(10_000), None], "{wrong:?}");
    }
    let fake = blobs(&content, |_, content| Reply::new(206).header("Content-Range", "bytes 0-9/10").body(content));
    let text = error(&fake, &content);
    assert!(text.contains("was asked for the blob from byte 0 and sends \"bytes 0-9/10\""), "{text}");
}

#[test]
fn without_range_support_the_known_part_is_skipped() {
    let content = content(30_000);
    for refusal in [200, 416] {
        let fake = blobs(&content, move |request, content| match (request.number, request.range()) {
            (0, _) => Reply::ok(content).end(End::Cut(10_000)),
            (_, Some(_)) if refusal == 416 => Reply::new(416),
            _ => Reply::ok(content),
        });
        success(&fake, &content);
    }
}

#[test]
fn a_short_body_is_not_taken_for_the_whole() {
    let content = content(30_000);
    let fake = blobs(&content, |request, content| {
        let from = request.range().unwrap_or(0).min(20_000);
        Reply::ok(&content[from..20_000]).chunked()
    });
    let text = error(&fake, &content);
    assert!(text.ends_with("ended after 20000 of 30000 bytes"), "{text}");
    assert!(fake.log().len() <= 8, "{} requests", fake.log().len());
}

#[test]
fn more_bytes_than_stated_are_refused() {
    let content = content(30_000);
    let fake = blobs(&content, |_, content| Reply::ok([content, b"!"].concat()).chunked());
    assert_eq!(
        error(&fake, &content),
        format!("{} sends more than the 30000 bytes that the manifest states", fake.host())
    );
    assert_eq!(fake.log().len(), 1);
    let fake = blobs(&content, |_, content| Reply::ok(content).chunked().end(End::Endless));
    assert!(error(&fake, &content).contains("sends more than"));
    let fake = blobs(&content, |_, _| Reply::ok("short"));
    assert_eq!(error(&fake, &content), format!("{} has 5 bytes for this blob, the manifest states 30000", fake.host()));
    assert_eq!(fake.log().len(), 1);
}

#[test]
fn what_is_not_http_is_an_error() {
    let content = content(100);
    for raw in ["SSH-2.0-OpenSSH_9.2\r\n", "", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"] {
        let fake = blobs(&content, move |_, _| Reply::raw(raw));
        let text = error(&fake, &content);
        assert!(text.contains("broke"), "{raw:?}: {text}");
        assert!(fake.log().len() >= 4);
    }
}

#[test]
fn a_closed_port_is_named() {
    let host = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let expected = format!("connection to {host} refused: no registry listens there");
    let text = bounded(move || shown(&client("").manifest(&reference(&host, "app:1")).unwrap_err()));
    assert!(text.ends_with(&expected), "{text}");
}

#[test]
fn a_missing_blob_is_named() {
    let content = content(100);
    let fake = blobs(&content, |_, _| Reply::new(404));
    assert_eq!(error(&fake, &content), format!("{} does not have this blob", fake.host()));
    assert_eq!(fake.log().len(), 1);
}

#[test]
fn redirects_are_bounded() {
    let content = content(100);
    let fake = blobs(&content, |request, _| Reply::new(307).header("Location", &request.path));
    assert_eq!(error(&fake, &content), format!("{} redirects more than 10 times", fake.host()));
    assert_eq!(fake.log().len(), 11);
    for location in ["", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://"] {
        let fake = blobs(&content, move |_, _| Reply::new(307).header("Location", location));
        let text = error(&fake, &content);
        assert!(text.contains("cannot be followed"), "{location:?}: {text}");
    }
}

#[test]
fn redirects_to_storage_carry_no_credentials() {
    let content = content(10_000);
    let storage = blobs(&content, |request, content| {
        let reply = Reply::blob(request, content);
        match request.number {
            0 => reply.end(End::Cut(4000)),
            1 => Reply::new(403),
            _ => reply,
        }
    });
    let target = format!("http://{}/signed?secret=1", storage.host());
    let fake = Fake::start(move |request| match request.header("authorization") {
        None => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => Reply::new(307).header("Location", &target),
    });
    let json = format!(r#"{{"auths": {{"{}": {{"username": "u", "password": "p"}}}}}}"#, fake.host());
    let image = reference(&fake.host(), "app");
    bounded(move || fetch(&pull::client_as("", pull::credentials(&json)), &image, &content, 0).unwrap());
    assert!(fake.log().iter().skip(1).all(|request| request.header("authorization") == Some("Basic dTpw")));
    let seen = storage.log();
    assert_eq!(seen.iter().map(Request::range).collect::<Vec<_>>(), [None, Some(4000), Some(4000)]);
    assert!(seen.iter().all(|request| request.header("authorization").is_none()), "{seen:?}");
}

#[test]
fn a_failing_sink_ends_the_fetch() {
    struct Full;
    impl BlobSink for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
    }
    let content = content(20 << 20);
    let fake = blobs(&content, Reply::blob);
    let host = fake.host();
    let error =
        bounded(move || client("").blob(&reference(&host, "app:1"), &unchecked(&content), 0, &mut Full).unwrap_err());
    assert!(matches!(&error, RegistryError::Sink { .. }), "{error}");
    assert_eq!(fake.log().len(), 1);
}

#[test]
fn a_cancelled_fetch_ends_even_when_nothing_comes() {
    struct Cancel(Arc<AtomicUsize>);
    impl BlobSink for Cancel {
        fn write(&mut self, _: &[u8]) -> std::io::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
        fn cancelled(&self) -> bool {
            self.0.load(Ordering::SeqCst) > 0
        }
    }
    let content = content(1000);
    let fake = blobs(&content, |_, content| Reply::ok(content).end(End::Stall(1)));
    let host = fake.host();
    let error = bounded(move || {
        let mut sink = Cancel(Arc::default());
        client("").blob(&reference(&host, "app:1"), &layer(&content), 0, &mut sink).unwrap_err()
    });
    assert!(matches!(error, RegistryError::Cancelled { .. }), "{error}");
}

#[test]
fn a_dead_mirror_is_left_in_the_middle_of_a_blob() {
    let content = content(60_000);
    let mirror = blobs(&content, |request, content| match request.number {
        0 => Reply::blob(request, content).end(End::Cut(25_000)),
        _ => Reply::new(500),
    });
    let registry = blobs(&content, Reply::blob);
    let file = format!("[registry.\"{}\"]\nmirrors = [\"http://{}\"]", registry.host(), mirror.host());
    let image = reference(&registry.host(), "app");
    let keep = bounded(move || fetch(&client(&file), &image, &content, 0).unwrap());
    assert_eq!(keep.bytes.len(), 60_000);
    assert_eq!(registry.log()[0].range(), Some(25_000));
    assert_eq!(mirror.sent() + registry.sent(), 60_000);
}

#[test]
fn when_all_fail_each_is_named() {
    let content = content(100);
    let mirror = blobs(&content, |_, _| Reply::new(404));
    let registry = blobs(&content, |_, _| Reply::new(403));
    let file = format!("[registry.\"{}\"]\nmirrors = [\"http://{}/cache\"]", registry.host(), mirror.host());
    let image = reference(&registry.host(), "team/app");
    let text = bounded(move || shown(&fetch(&client(&file), &image, &content, 0).unwrap_err()));
    let (mirror_host, host) = (mirror.host(), registry.host());
    assert!(text.contains(&format!("{mirror_host}: {mirror_host} does not have this blob")), "{text}");
    assert!(text.contains(&format!("{host}: pull access denied for team/app")), "{text}");
    assert!(mirror.log()[0].path.starts_with("/cache/v2/team/app/blobs/"));
}
