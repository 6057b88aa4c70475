//! HTTP transactions (`programs/http.bpf.c`).

use std::{
    collections::{HashMap as Map, HashSet},
    net::SocketAddr,
};

use aya::{
    Pod,
    maps::{HashMap, MapData},
    programs::CgroupSkbAttachType,
};

use crate::{
    counters::{Counters, Delta},
    histogram::{LATENCY_BUCKETS, LatencyBuckets, difference},
    object::{Hook, Loading, Loss, NotLoaded, Object, Program, ReadError, Source},
    raw::{address, text},
    record::CgroupIds,
};

const COSTS: &str = "no HTTP routes, statuses, latencies and calls";

const SOURCE: Source = Source {
    name: "http",
    bytes: aya::include_bytes_aligned!("../objects/http.o"),
    programs: &[
        Program {
            name: "http_ingress",
            hook: Hook::Packets(CgroupSkbAttachType::Ingress),
            costs: COSTS,
        },
        Program {
            name: "http_egress",
            hook: Hook::Packets(CgroupSkbAttachType::Egress),
            costs: COSTS,
        },
    ],
    losses: &[
        ("transactions_without_place", "HTTP transactions without a place in the table"),
        (
            "connections_too_deep",
            "HTTP connections with more than 32 requests outstanding, not followed further",
        ),
        ("responses_without_request", "HTTP responses to requests that were not seen"),
        (
            "gaps",
            "gaps in the packets of HTTP connections: transactions up to the next message are not counted",
        ),
        ("connections_without_memory", "HTTP connections without memory for their state"),
        (
            "routes_without_place",
            "HTTP requests whose new route found no place, counted under the other routes",
        ),
        ("packets_contended", "packets of HTTP connections that another CPU did not let in"),
    ],
};

/// Places in the table of transactions.
const MAX_TRANSACTIONS: u32 = 16_384;

/// `struct http_key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
struct RawKey {
    unified_cgroup: u64,
    memory_cgroup: u64,
    route: u64,
    peer: [u8; 16],
    port: u16,
    status: u16,
    role: u8,
    method: u8,
    pad: u16,
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawKey {}

/// `struct http_value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct RawValue {
    count: u64,
    latency_ns: u64,
    request_bytes: u64,
    response_bytes: u64,
    tgid: u32,
    pad: u32,
    buckets: [u32; LATENCY_BUCKETS],
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawValue {}

/// `struct http_route`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawRoute {
    hashes: [u64; 2],
    len: u16,
    parsing: [u8; 12],
    text: [u8; 128],
    pad: [u8; 2],
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawRoute {}

/// Which end of the connection was watched. On one machine both ends of a call are seen, each with its own cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// It answers.
    Server,
    /// It asks.
    Client,
}

/// Method of a request (RFC 9110, RFC 5789).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Connect,
    Trace,
    /// Not a method: a connection that speaks HTTP/2, counted once and not looked into.
    Http2,
}

impl Method {
    fn from_raw(raw: u8) -> Option<Self> {
        use Method::*;
        let all = [Get, Head, Post, Put, Patch, Delete, Options, Connect, Trace, Http2];
        all.get(usize::from(raw).checked_sub(1)?).copied()
    }

    /// As it stands in a request; "HTTP/2" for a connection that is not looked into.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Connect => "CONNECT",
            Method::Trace => "TRACE",
            Method::Http2 => "HTTP/2",
        }
    }
}

/// Transactions that have everything but their time in common, since the drain before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTransactions {
    /// Cgroups of the process that sent on the connection first; if none was seen to, `memory` is 0 and `unified` that of the
    /// socket.
    pub cgroups: CgroupIds,
    /// Thread group id of a process that sent on one of the connections, 0 if none was seen to.
    pub tgid: u32,
    /// Which end was watched.
    pub side: Side,
    /// The server: of the client's side with the address that it asks, of the server's own side with the unspecified
    /// address. An IPv4 address is told as such.
    pub server: SocketAddr,
    /// Method.
    pub method: Method,
    /// Path with `{id}`, `{uuid}` and `{hash}` in the place of what names single things; at most eight segments and about
    /// 80 bytes, then `*`. `None`: not told apart (more than 1,024 combinations of this service, or the tables are
    /// full) or none (HTTP/2). Never has a query.
    pub route: Option<String>,
    /// Status code; `None`: the connection ended without an answer, or HTTP/2.
    pub status: Option<u16>,
    /// How many.
    pub count: u64,
    /// Sum of the latencies of those that were answered, nanoseconds: from the first byte of the request to the status line
    /// of the answer, as packets pass this socket.
    pub latency_ns: u64,
    /// The same latencies by [`crate::latency_bounds_us`].
    pub latency: LatencyBuckets,
    /// Bytes from client to server, heads included. Those of requests that were sent ahead of the answer (pipelining) are
    /// told with the first answer.
    pub request_bytes: u64,
    /// Bytes from server to client, heads included.
    pub response_bytes: u64,
}

/// HTTP transactions.
#[derive(Debug)]
pub struct Http {
    object: Object,
    transactions: Counters<RawKey, RawValue>,
    routes: Routes,
}

/// Texts of routes by hash; the kernel has them, each is fetched once.
#[derive(Debug)]
struct Routes {
    kernel: HashMap<MapData, u64, RawRoute>,
    texts: Map<u64, String>,
}

impl Http {
    pub(crate) fn load(
        loading: &Loading<'_>,
        missing: &mut Vec<NotLoaded>,
    ) -> Result<Option<Self>, String> {
        let entries = [("TRANSACTIONS", MAX_TRANSACTIONS)];
        let Some(mut object) = Object::load(&SOURCE, loading, &entries, missing) else {
            return Ok(None);
        };
        // Half a conversation would count wrongly.
        if SOURCE.programs.iter().any(|p| !object.has(p.name)) {
            return Ok(None);
        }
        Ok(Some(Self {
            transactions: Counters::new(
                object.map("TRANSACTIONS")?,
                MAX_TRANSACTIONS,
                "HTTP transactions",
            ),
            routes: Routes { kernel: object.map("ROUTES")?, texts: Map::new() },
            object,
        }))
    }

    /// Appends what was counted since the last call, in no particular order. Once a second is often enough: nothing
    /// overflows in the meantime.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses; what was appended by then is right, the rest comes with the next call.
    pub fn drain(&mut self, out: &mut Vec<HttpTransactions>) -> Result<(), ReadError> {
        let routes = &mut self.routes;
        self.transactions.drain(|key, value| out.extend(told(key, &value, routes)))?;
        if self.transactions.make_room() {
            let used: HashSet<u64> = self.transactions.keys().map(|k| k.route).collect();
            self.routes.keep(|hash| used.contains(hash));
        }
        Ok(())
    }

    /// What was lost since loading.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses.
    pub fn losses(&self) -> Result<Vec<Loss>, ReadError> {
        self.object.losses()
    }
}

impl Delta for RawValue {
    fn since(&self, before: &Self) -> Self {
        Self {
            count: self.count.wrapping_sub(before.count),
            latency_ns: self.latency_ns.wrapping_sub(before.latency_ns),
            request_bytes: self.request_bytes.wrapping_sub(before.request_bytes),
            response_bytes: self.response_bytes.wrapping_sub(before.response_bytes),
            tgid: self.tgid,
            pad: 0,
            buckets: difference(&self.buckets, &before.buckets),
        }
    }
}

fn told(key: &RawKey, value: &RawValue, routes: &mut Routes) -> Option<HttpTransactions> {
    let side = if key.role == 0 { Side::Server } else { Side::Client };
    Some(HttpTransactions {
        cgroups: CgroupIds { memory: key.memory_cgroup, unified: key.unified_cgroup },
        tgid: value.tgid,
        side,
        server: SocketAddr::new(address(key.peer), key.port),
        method: Method::from_raw(key.method)?,
        route: (key.route != 0).then(|| routes.text(key.route)).flatten(),
        status: (key.status != 0).then_some(key.status),
        count: value.count,
        latency_ns: value.latency_ns,
        latency: value.buckets.map(u64::from),
        request_bytes: value.request_bytes,
        response_bytes: value.response_bytes,
    })
}

impl Routes {
    fn text(&mut self, hash: u64) -> Option<String> {
        if let Some(text) = self.texts.get(&hash) {
            return Some(text.clone());
        }
        let raw = self.kernel.get(&hash, 0).ok()?;
        let route = text(&raw.text[..usize::from(raw.len).min(raw.text.len())]);
        self.texts.insert(hash, route.clone());
        Some(route)
    }

    fn keep(&mut self, keep: impl Fn(&u64) -> bool) {
        let all = self.kernel.keys().filter_map(Result::ok);
        let unused: Vec<u64> = all.filter(|hash| !keep(hash)).collect();
        for hash in unused {
            // It may be gone by itself.
            let _ = self.kernel.remove(&hash);
            self.texts.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_numbered_as_in_the_parser() {
        let header = include_str!("../programs/http_parse.h");
        let list = header.split("enum http_method {").nth(1).unwrap().split('}').next().unwrap();
        let names: Vec<&str> =
            list.split(',').map(str::trim).filter_map(|n| n.strip_prefix("HTTP_")).collect();
        assert_eq!(names.len(), 11);
        for (i, name) in names.iter().enumerate() {
            let method = Method::from_raw(i as u8);
            match *name {
                "UNKNOWN" => assert_eq!(method, None),
                "PRI" => assert_eq!(method, Some(Method::Http2)),
                name => assert_eq!(method.map(Method::as_str), Some(name)),
            }
        }
        assert_eq!(Method::from_raw(11), None);
    }
}
