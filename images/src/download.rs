//! Fetches a file by its URL, for what is not in a registry: the `ADD` of a
//! Dockerfile, a build's remote context.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use reqwest::Url;
use reqwest::header::{CONTENT_DISPOSITION, LAST_MODIFIED};

use crate::registry::{Failure, tls_config};

/// How long a server may be silent.
const STALL: Duration = Duration::from_secs(60);
/// How many redirects are followed.
const MAX_REDIRECTS: usize = 10;

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The runtime of the network does not start.
    #[error("start the network for {url}")]
    Runtime {
        /// What was asked for.
        url: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// It is no URL of http or https.
    #[error("{url} is not a URL of http or https")]
    Url {
        /// What was given.
        url: String,
    },
    /// TLS cannot be used.
    #[error("prepare TLS for {url}")]
    Tls {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: Box<Failure>,
    },
    /// The server could not be reached, or broke off.
    #[error("fetch {url}")]
    Http {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server does not have it.
    #[error("fetch {url}: the server answers {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// Nothing came for too long.
    #[error("fetch {url}: nothing came for {} s", STALL.as_secs())]
    Stalled {
        /// What was asked for.
        url: String,
    },
    /// It is larger than wanted.
    #[error("fetch {url}: it has more than {limit} bytes")]
    Size {
        /// What was asked for.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// It could not be written.
    #[error("write what {url} gives")]
    Sink {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What a server said of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Downloaded {
    /// When it was changed last.
    pub modified: Option<SystemTime>,
    /// The name that the server gives it; without directories.
    pub name: Option<String>,
    /// Bytes.
    pub bytes: u64,
}

/// Fetches `url` into `sink`, at most `limit` bytes.
///
/// # Errors
/// When the server cannot be reached, does not have it, or the sink fails.
pub fn download(url: &str, sink: &mut dyn Write, limit: u64) -> Result<Downloaded, DownloadError> {
    let named = || url.to_owned();
    let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let parsed = parsed.ok_or_else(|| DownloadError::Url { url: named() })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|source| DownloadError::Runtime { url: named(), source })?;
    let result = runtime.block_on(fetch(parsed, url, sink, limit));
    // A name lookup that hangs must not hold the program up.
    runtime.shutdown_background();
    result
}

async fn fetch(parsed: Url, url: &str, sink: &mut dyn Write, limit: u64) -> Result<Downloaded, DownloadError> {
    let named = || url.to_owned();
    let http = |source| DownloadError::Http { url: named(), source };
    let tls = tls_config().map_err(|source| DownloadError::Tls { url: named(), source: Box::new(source) })?;
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("umiak/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
        .connect_timeout(STALL)
        .read_timeout(STALL)
        .tls_backend_preconfigured(tls);
    if crate::registries::is_loopback(parsed.host_str().unwrap_or_default()) {
        // A proxy elsewhere cannot reach our loopback.
        builder = builder.no_proxy();
    }
    let client = builder.build().map_err(http)?;
    let mut response = client.get(parsed).send().await.map_err(http)?;
    if !response.status().is_success() {
        return Err(DownloadError::Status { url: named(), status: response.status().as_u16() });
    }
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let mut done = Downloaded {
        modified: header(LAST_MODIFIED).and_then(http_date),
        name: header(CONTENT_DISPOSITION).and_then(file_name),
        bytes: 0,
    };
    while let Some(chunk) = response.chunk().await.map_err(|error| match error.is_timeout() {
        true => DownloadError::Stalled { url: named() },
        false => http(error),
    })? {
        done.bytes += chunk.len() as u64;
        if done.bytes > limit {
            return Err(DownloadError::Size { url: named(), limit });
        }
        sink.write_all(&chunk).map_err(|source| DownloadError::Sink { url: named(), source })?;
    }
    Ok(done)
}

/// `attachment; filename="x"`: the name, if it is no more than one.
fn file_name(text: &str) -> Option<String> {
    let name = text.split(';').find_map(|part| part.trim().strip_prefix("filename="))?;
    let name = name.trim_matches('"');
    (!name.is_empty() && !matches!(name, "." | "..") && !name.contains(['/', '\0'])).then(|| name.to_owned())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_ascii_whitespace().skip(1);
    let day: i64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1..=31).contains(&day) || !(1970..10_000).contains(&year) {
        return None;
    }
    // Days from the civil calendar: years begin in March, so that leap days come last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + hours * 3_600 + minutes * 60 + seconds;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_names_of_headers() {
        let seconds = |text| {
            http_date(text).map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
        };
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800));
        for wrong in ["", "x", "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
        assert_eq!(file_name("attachment; filename=\"a.tgz\""), Some("a.tgz".to_owned()));
        assert_eq!(file_name("attachment; filename=../x"), None);
    }
}
