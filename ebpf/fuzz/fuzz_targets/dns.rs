//! Any bytes as the question of a DNS message: no panic, a name that can be shown, and what was read is what stands there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapio_ebpf::dns_question;

fuzz_target!(|data: &[u8]| {
    let (name, query_type) = dns_question(data);
    let Some(name) = name else {
        assert_eq!(query_type, None);
        return;
    };
    assert!(name.len() <= data.len().max(1) && name.bytes().all(|b| b.is_ascii_graphic()));
    // A name that is complete and has neither a dot nor an odd byte within a label is on the wire as it is here.
    let Some(query_type) = query_type else { return };
    let labels: Vec<&str> = name.split('.').filter(|l| !l.is_empty()).collect();
    let mut wire: Vec<u8> = labels.iter().flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).collect();
    wire.push(0);
    wire.extend(query_type.to_be_bytes());
    let odd = data[..wire.len().min(data.len())].iter().any(|b| *b == b'.' || !(*b < 64 || b.is_ascii_graphic()));
    if !name.contains('?') && !odd && !name.contains("..") {
        assert!(data[..wire.len()].eq_ignore_ascii_case(&wire), "{name}");
    }
});
