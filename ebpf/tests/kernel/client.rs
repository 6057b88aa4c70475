//! A small HTTP/1.1 client that knows exactly what it sent and received.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

/// What was exchanged, by method, route and status: count, bytes sent, bytes received.
pub type Counts = BTreeMap<(String, String, u16), (u64, u64, u64)>;

/// One connection that is kept alive.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    pub counts: Counts,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), counts: Counts::new() }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// One request and its answer, counted under `route`.
    pub fn request(&mut self, method: &str, target: &str, route: &str, body: &[u8]) -> u16 {
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nHost: tapio.test\r\nCookie: secret=1\r\n");
        if !body.is_empty() {
            head += &format!("Content-Type: text/plain\r\nContent-Length: {}\r\n", body.len());
        }
        let bytes = [head.as_bytes(), b"\r\n", body].concat();
        self.send(&bytes);
        let (status, received) = self.answer(method);
        self.count(method, route, status, bytes.len() as u64, received);
        status
    }

    pub fn count(&mut self, method: &str, route: &str, status: u16, sent: u64, received: u64) {
        let key = (method.to_owned(), route.to_owned(), status);
        let sums = self.counts.entry(key).or_default();
        *sums = (sums.0 + 1, sums.1 + sent, sums.2 + received);
    }

    /// The next final answer: status and bytes, with those of interim answers before it.
    pub fn answer(&mut self, method: &str) -> (u16, u64) {
        let mut bytes = 0;
        loop {
            let (status, n) = self.one_answer(method);
            bytes += n;
            if status >= 200 {
                return (status, bytes);
            }
        }
    }

    fn one_answer(&mut self, method: &str) -> (u16, u64) {
        let (mut bytes, mut length, mut chunked) = (0, 0, false);
        let first = self.line(&mut bytes);
        let status: u16 = first.split(' ').nth(1).unwrap().parse().unwrap();
        loop {
            let line = self.line(&mut bytes).to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            chunked |= line.starts_with("transfer-encoding:") && line.ends_with("chunked");
        }
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return (status, bytes);
        }
        if !chunked {
            self.skip(length, &mut bytes);
            return (status, bytes);
        }
        loop {
            let size = u64::from_str_radix(&self.line(&mut bytes), 16).unwrap();
            self.skip(size, &mut bytes);
            self.line(&mut bytes);
            if size == 0 {
                return (status, bytes);
            }
        }
    }

    fn line(&mut self, bytes: &mut u64) -> String {
        let mut line = String::new();
        *bytes += self.stream.read_line(&mut line).unwrap() as u64;
        assert!(line.ends_with('\n'), "the server went away");
        line.trim_end().to_owned()
    }

    fn skip(&mut self, length: u64, bytes: &mut u64) {
        let skipped = std::io::copy(&mut (&mut self.stream).take(length), &mut std::io::sink());
        assert_eq!(skipped.unwrap(), length);
        *bytes += length;
    }
}
