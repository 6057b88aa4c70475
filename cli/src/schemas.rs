//! The published JSON Schemas, by the command whose output they describe.

/// Name and text of each.
pub const SCHEMAS: [(&str, &str); 5] = [
    ("check", include_str!("../schemas/check.json")),
    ("why", include_str!("../schemas/why.json")),
    ("fix", include_str!("../schemas/fix.json")),
    ("replay", include_str!("../schemas/replay.json")),
    ("doctor", include_str!("../schemas/doctor.json")),
];
