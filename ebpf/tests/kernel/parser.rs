//! The kernel-side parsers, built for user space with sanitizers: any bytes in any pieces. Needs no root but a C compiler.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use proptest::prelude::*;

/// A parser that runs beside the test.
pub struct Harness {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _dir: tempfile::TempDir,
}

impl Harness {
    /// Builds it; `None` if there is no compiler, which is not allowed in CI.
    pub fn build(name: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let exe = dir.path().join(name);
        let source = format!("{}/tests/kernel/{name}.c", env!("CARGO_MANIFEST_DIR"));
        let built = ["clang-14", "clang", "gcc", "cc"].iter().any(|compiler| {
            let flags = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
            let mut command = Command::new(compiler);
            command.args(flags).arg(&source).arg("-o").arg(&exe);
            command.status().is_ok_and(|s| s.success())
        });
        let must = std::env::var_os("CI").is_some_and(|v| v == "true");
        assert!(built || !must, "no C compiler with sanitizers: apt-get install clang-14");
        if !built {
            eprintln!("SKIPPED {name}: no C compiler with sanitizers");
            return None;
        }
        let mut child =
            Command::new(exe).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Some(Self { child, input, output: BufReader::new(output), _dir: dir })
    }

    /// What the parser says to these packets, without the last line.
    pub fn run(&mut self, kind: u8, packets: &[&[u8]]) -> Vec<String> {
        let mut input = vec![kind];
        for packet in packets.iter().filter(|p| !p.is_empty()) {
            input.extend((packet.len() as u32).to_le_bytes());
            input.extend(*packet);
        }
        input.extend(0_u32.to_le_bytes());
        self.input.write_all(&input).unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the parser crashed, see above");
            let line = line.trim_end_matches('\n').to_owned();
            if line.starts_with("end ") {
                return lines;
            }
            lines.push(line);
        }
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// A route as the header's comment defines it, written down once more and plainly.
fn route(path: &str) -> String {
    let mut out = String::new();
    for (i, segment) in path.split('/').skip(1).enumerate() {
        out.push('/');
        if i + 1 > 8 || out.len() >= 76 {
            out.push('*');
            return out;
        }
        let count = |f: fn(&u8) -> bool| segment.bytes().take(48).filter(f).count();
        let n = segment.len().min(48);
        let digits = count(u8::is_ascii_digit);
        let hexes = count(u8::is_ascii_hexdigit);
        let (uppers, lowers) = (count(u8::is_ascii_uppercase), count(u8::is_ascii_lowercase));
        let placeholder = if n == 0 {
            None
        } else if digits == n && n <= 20 {
            Some("{id}")
        } else if n == 36 && hexes == 32 && segment.matches('-').count() == 4 {
            Some("{uuid}")
        } else if hexes == n && n >= 16 {
            Some("{hash}")
        } else if digits >= 3
            || (hexes == n && n >= 7 && digits > 0)
            || segment.bytes().take(48).any(|b| b == b'@')
            || n >= 48
            || (n >= 20 && uppers >= 3 && lowers >= 3)
        {
            Some("{id}")
        } else {
            None
        };
        out.push_str(placeholder.unwrap_or(segment));
    }
    out
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,12}",
        "v[0-9]{1,2}",
        "[0-9]{1,24}",
        "[0-9a-f]{5,44}",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[A-Za-z0-9_.~%@-]{1,60}",
        Just(String::new()),
    ]
}

#[derive(Debug, Clone)]
enum Body {
    None,
    Length(Vec<u8>),
    Chunked(Vec<Vec<u8>>),
}

fn body() -> impl Strategy<Value = Body> {
    let bytes = || {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 1..600),
            Just(b"GET /inside HTTP/1.1\r\n\r\nHTTP/1.1 500 no\r\n\r\n".to_vec()),
        ]
    };
    prop_oneof![
        Just(Body::None),
        bytes().prop_map(Body::Length),
        prop::collection::vec(bytes(), 0..4).prop_map(Body::Chunked),
    ]
}

fn headers() -> impl Strategy<Value = Vec<String>> {
    let header = prop_oneof![
        "[A-Za-z-]{1,20}: [ -~]{0,300}".prop_filter("no framing", |h| {
            let name = h.split(':').next().unwrap_or_default().to_ascii_lowercase();
            name != "content-length" && name != "transfer-encoding"
        }),
        Just("Cookie: a=b".to_owned()),
        Just("Connection: keep-alive".to_owned()),
        Just("Content-Type: text/plain".to_owned()),
        Just("Trailer: X".to_owned()),
        Just("content-length-x: 7".to_owned()),
    ];
    prop::collection::vec(header, 0..6)
}

/// The head's end and the body.
fn rest(headers: &[String], body: &Body) -> Vec<u8> {
    let mut out: Vec<u8> = headers.iter().flat_map(|h| format!("{h}\r\n").into_bytes()).collect();
    match body {
        Body::None => out.extend(b"\r\n"),
        Body::Length(bytes) => {
            out.extend(format!("CONTENT-length:{}\r\n\r\n", bytes.len()).into_bytes());
            out.extend(bytes);
        }
        Body::Chunked(chunks) => {
            out.extend(b"Transfer-Encoding: gzip, chunked\r\n\r\n");
            for chunk in chunks {
                out.extend(format!("{:X};x=y\r\n", chunk.len()).into_bytes());
                out.extend(chunk);
                out.extend(b"\r\n");
            }
            out.extend(b"0\r\nX: y\r\n\r\n");
        }
    }
    out
}

/// Cuts bytes at these places, which are taken modulo the length.
fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|w| &bytes[w[0]..w[1]]).collect()
}

#[derive(Debug, Clone)]
struct Request {
    method: usize,
    segments: Vec<String>,
    query: bool,
    origin: bool,
    headers: Vec<String>,
    body: Body,
}

fn request() -> impl Strategy<Value = Request> {
    let parts = (
        0..METHODS.len(),
        prop::collection::vec(segment(), 1..11),
        any::<bool>(),
        any::<bool>(),
        headers(),
        body(),
    );
    parts.prop_map(|(method, segments, query, origin, headers, body)| Request {
        method,
        segments,
        query,
        origin,
        headers,
        body,
    })
}

#[test]
fn requests_are_found_however_they_are_cut() {
    let Some(harness) = Harness::build("http_harness") else { return };
    let harness = std::cell::RefCell::new(harness);
    let requests = prop::collection::vec(request(), 1..5);
    let cuts = prop::collection::vec(any::<usize>(), 0..12);
    proptest!(ProptestConfig::with_cases(600), |(requests in requests, cuts in cuts, every in any::<bool>())| {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for r in &requests {
            let path = format!("/{}", r.segments.join("/"));
            let origin = if r.origin { "http://shop.test:8080" } else { "" };
            let query = if r.query { "?token=/1/2#f" } else { "" };
            let method = METHODS[r.method];
            bytes.extend(format!("{method} {origin}{path}{query} HTTP/1.1\r\n").into_bytes());
            bytes.extend(rest(&r.headers, &r.body));
            expected.push(format!("request {} {}", r.method + 1, route(&path)));
        }
        let packets = if every { bytes.chunks(1).collect() } else { cut(&bytes, &cuts) };
        let told = harness.borrow_mut().run(0, &packets);
        let told: Vec<_> = told.iter().map(|l| l.rsplit_once(' ').unwrap().0.to_owned()).collect();
        prop_assert_eq!(told, expected);
    });
}

#[test]
fn responses_are_found_however_they_are_cut() {
    let Some(harness) = Harness::build("http_harness") else { return };
    let harness = std::cell::RefCell::new(harness);
    let status = prop_oneof![Just(100_u16), Just(204), Just(304), Just(200), 200_u16..600];
    let response = (status, headers(), body());
    let responses = prop::collection::vec(response, 1..5);
    let cuts = prop::collection::vec(any::<usize>(), 0..12);
    proptest!(ProptestConfig::with_cases(600), |(responses in responses, cuts in cuts, every in any::<bool>())| {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (status, headers, body) in &responses {
            let empty = *status < 200 || *status == 204 || *status == 304;
            // Without a length the body ends with the connection, so there is none here.
            let body = match body {
                _ if empty => &Body::None,
                Body::None => &Body::Chunked(Vec::new()),
                body => body,
            };
            bytes.extend(format!("HTTP/1.1 {status} Some Reason 7\r\n").into_bytes());
            bytes.extend(rest(headers, body));
            expected.push(format!("response {status}"));
        }
        let packets = if every { bytes.chunks(1).collect() } else { cut(&bytes, &cuts) };
        prop_assert_eq!(harness.borrow_mut().run(1, &packets), expected);
    });
}

/// The hash tells routes apart: the same text has the same, another text another.
#[test]
fn a_route_has_one_hash() {
    let Some(mut harness) = Harness::build("http_harness") else { return };
    let mut hash = |target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\n\r\n");
        let line = harness.run(0, &[request.as_bytes()]).pop().unwrap();
        let (text, hash) = line.rsplit_once(' ').unwrap();
        (text.to_owned(), hash.to_owned())
    };
    assert_eq!(hash("/a/17/b"), hash("/a/99999/b?x"));
    assert_ne!(hash("/a/17/b").1, hash("/a/550e8400-e29b-41d4-a716-446655440000/b").1);
    assert_ne!(hash("/a/17/b").1, hash("/a/17/c").1);
    assert_ne!(hash("/a/17").1, hash("/b/17").1);
    assert_eq!(hash("/a/17").0, "request 1 /a/{id}");
}

/// Anything at all: no crash, no read beyond a packet, and a request after the garbage is found again.
#[test]
fn garbage_does_no_harm() {
    let Some(harness) = Harness::build("http_harness") else { return };
    let harness = std::cell::RefCell::new(harness);
    let fragments: Vec<&'static [u8]> = vec![
        b"GET /",
        b" HTTP/1.1\r\n",
        b"HTTP/1.1 200",
        b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"FFFFFFFFFFFFFFFFFF\r\n",
        b"\r\n\r\n",
        b"/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ];
    let garbage = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..800),
        prop::collection::vec(prop::sample::select(fragments), 0..12).prop_map(|f| f.concat()),
    ];
    let cuts = prop::collection::vec(any::<usize>(), 0..6);
    proptest!(ProptestConfig::with_cases(1500), |(kind in 0_u8..2, bytes in garbage, cuts in cuts)| {
        harness.borrow_mut().run(kind, &cut(&bytes, &cuts));
        // What is not HTTP is given up at the latest at the next packet that begins a message.
        let noise = [b"\x16\x03\x01", &bytes[..]].concat();
        let told = harness.borrow_mut().run(0, &[&noise[..], b"GET /after HTTP/1.1\r\n\r\n"]);
        prop_assert!(told.last().is_some_and(|l| l.starts_with("request 1 /after ")), "{:?}", told);
    });
}
