//! A web server for what `ADD` fetches: the files below a directory.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

/// Serves `dir` on a port of 127.0.0.1 for as long as this process runs; the port.
pub fn serve(dir: &Path) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let dir = dir.clone();
            // One who hangs up has what he wanted.
            std::thread::spawn(move || answer(stream, &dir));
        }
    });
    port
}

fn answer(stream: TcpStream, dir: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').split('?').next();
    let mut stream = stream;
    let file = dir.join(path.unwrap_or_default());
    match fs::read(if file.is_dir() { file.join("index.html") } else { file }) {
        Ok(bytes) => {
            let length = bytes.len();
            let time = "Last-Modified: Sat, 02 Jan 2021 03:04:05 GMT";
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{time}\r\nConnection: close\r\n\r\n")?;
            if request.starts_with("HEAD") { Ok(()) } else { stream.write_all(&bytes) }
        }
        Err(_) => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    }
}
