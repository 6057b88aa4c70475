use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use arrow::{
    array::{Array, AsArray},
    datatypes::{Int32Type, Int64Type, TimestampMicrosecondType},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, KeyPair,
    SerialNumber, date_time_ymd,
};

use super::{decode::MOST_IN_FILE, places::MOST_FILES, *};
use crate::{Health, clock::fake::FakeClock, collect::Collector, collect::CollectorOptions};

const DAY_US: i64 = 86_400_000_000;

static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().unwrap());

/// A self-signed certificate: its common name and its dates.
fn params(name: &str, from: (i32, u8, u8), until: (i32, u8, u8)) -> CertificateParams {
    let mut p = CertificateParams::default();
    p.distinguished_name = DistinguishedName::new();
    if !name.is_empty() {
        p.distinguished_name.push(DnType::CommonName, name);
    }
    p.not_before = date_time_ymd(from.0, from.1, from.2);
    p.not_after = date_time_ymd(until.0, until.1, until.2);
    p.serial_number = Some(SerialNumber::from(0x0001_02ab_u64));
    p
}

fn pem_of(p: &CertificateParams) -> String {
    p.self_signed(&*KEY).unwrap().pem()
}

fn pem(name: &str, year: i32) -> String {
    pem_of(&params(name, (2026, 1, 1), (year, 12, 5)))
}

fn one(bytes: &[u8]) -> Decoded {
    let contents = decode(bytes, false);
    assert!(contents.damaged.is_empty(), "{:?}", contents.damaged);
    assert_eq!(contents.certificates.len(), 1);
    contents.certificates[0].1.clone()
}

#[test]
fn dates_of_all_centuries_are_told_truly() {
    for (from, until, expected) in [
        ((2026, 11, 23), (2026, 12, 5), (1_795_392_000_000_000, 1_796_428_800_000_000)),
        // UTCTime ends with 2049, GeneralizedTime follows.
        ((2049, 12, 31), (2050, 1, 1), (2_524_521_600_000_000, 2_524_608_000_000_000)),
        ((1969, 12, 31), (1970, 1, 1), (-DAY_US, 0)),
        // Before 1950 there is GeneralizedTime again.
        ((1949, 12, 31), (1950, 1, 1), (-631_238_400_000_000, -631_152_000_000_000)),
        ((1677, 9, 22), (2262, 4, 11), (-9_223_286_400_000_000, 9_223_286_400_000_000)),
    ] {
        let c = one(pem_of(&params("x", from, until)).as_bytes());
        assert_eq!((c.not_before, c.not_after), (Some(expected.0), Some(expected.1)), "{until:?}");
    }
    for (from, until) in [((1, 1, 1), (9999, 12, 31)), ((1677, 9, 21), (2262, 4, 12))] {
        let c = one(pem_of(&params("x", from, until)).as_bytes());
        assert_eq!((c.not_before, c.not_after), (None, None), "{until:?}");
    }
}

#[test]
fn names_serial_and_authority_are_told() {
    let c = one(pem("kube-apiserver", 2026).as_bytes());
    assert_eq!(c.subject.as_deref(), Some("kube-apiserver"));
    assert_eq!(c.issuer.as_deref(), Some("kube-apiserver"));
    assert_eq!((c.serial.as_str(), c.is_ca), ("0102ab", false));

    let mut ca = params("an authority", (2026, 1, 1), (2036, 1, 1));
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert!(one(pem_of(&ca).as_bytes()).is_ca);

    // Without a common name the first alternative name, else the whole name, else nothing.
    let mut p = CertificateParams::new(vec!["a.example".into(), "b.example".into()]).unwrap();
    p.distinguished_name = DistinguishedName::new();
    assert_eq!(one(pem_of(&p).as_bytes()).subject.as_deref(), Some("a.example"));
    let mut p = CertificateParams::new(vec!["10.0.0.1".into()]).unwrap();
    p.distinguished_name = DistinguishedName::new();
    assert_eq!(one(pem_of(&p).as_bytes()).subject.as_deref(), Some("10.0.0.1"));
    let mut p = params("", (2026, 1, 1), (2027, 1, 1));
    assert_eq!(one(pem_of(&p).as_bytes()).subject, None);
    p.distinguished_name.push(DnType::OrganizationName, "Example");
    assert_eq!(one(pem_of(&p).as_bytes()).subject.as_deref(), Some("O=Example"));
    let bmp = rcgen::string::BmpString::try_from("Zürich").unwrap();
    p.distinguished_name.push(DnType::CommonName, DnValue::BmpString(bmp));
    assert_eq!(one(pem_of(&p).as_bytes()).subject.as_deref(), Some("Zürich"));
}

#[test]
fn a_name_cannot_write_to_the_terminal() {
    let long = format!("\u{1b}[31mred\u{7}\n{}", "x".repeat(500));
    let told = one(pem(&long, 2026).as_bytes()).subject.unwrap();
    assert!(told.starts_with("\u{fffd}[31mred\u{fffd}\u{fffd}xxx"), "{told:?}");
    assert_eq!(told.chars().count(), 200);
}

#[test]
fn a_private_key_and_text_beside_a_certificate_are_passed_over() {
    let all = format!(
        "subject=CN = a\n{}  {}\n{}",
        KEY.serialize_pem(),
        pem("a", 2026).replace('\n', "  \r\n"),
        pem("b", 2027)
    );
    let contents = decode(all.as_bytes(), false);
    assert!(contents.damaged.is_empty() && contents.has_other_blocks, "{contents:?}");
    let names: Vec<_> =
        contents.certificates.iter().map(|(i, c)| (*i, c.subject.clone().unwrap())).collect();
    assert_eq!(names, [(0, "a".into()), (1, "b".into())]);
    let only_first = decode(all.as_bytes(), true);
    assert_eq!((only_first.certificates.len(), only_first.damaged.len()), (1, 0));
    let key_alone = decode(KEY.serialize_pem().as_bytes(), false);
    assert!(key_alone.has_other_blocks && key_alone.certificates.is_empty());
}

#[test]
fn a_damaged_block_is_told_and_the_others_keep_their_positions() {
    let good = pem("good", 2026);
    let begin = "-----BEGIN CERTIFICATE-----\n";
    let cut = &good[..good.len() / 2];
    for (bad, why) in [
        (format!("{begin}!!!\n-----END CERTIFICATE-----\n"), "is not base64"),
        (format!("{begin}AAAA\n-----END CERTIFICATE-----\n"), "is no certificate"),
        (format!("{cut}\n"), "has no end"),
        (format!("{begin}-----BEGIN PRIVATE KEY-----\n"), "has no end"),
    ] {
        let contents = decode(format!("{bad}{good}").as_bytes(), false);
        assert_eq!(contents.damaged.len(), 1, "{bad}");
        assert!(contents.damaged[0].contains(why), "{:?}", contents.damaged);
        assert_eq!(contents.certificates[0].0, 1, "{bad}");
    }
    let contents = decode(b"-----END CERTIFICATE-----\n", false);
    assert!(contents.damaged[0].contains("has no begin"));
    assert!(decode(cut.as_bytes(), false).damaged[0].contains("has no end"));
}

#[test]
fn a_kubeconfig_gives_the_certificate_of_each_user() {
    let (a, b) = (STANDARD.encode(pem("a", 2026)), STANDARD.encode(pem("b", 2027)));
    let ca = STANDARD.encode(pem("ca", 2036));
    for text in [
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\nusers:\n- name: x\n  user:\n    \
             client-certificate-data: {a}\n    client-key-data: QUJD\n- user:\n    client-certificate-data: \"{b}\"\n\
             # client-certificate-data: {a}\n"
        ),
        format!(
            "{{\"users\":[{{\"user\":{{\"client-certificate-data\":\"{a}\"}}}},\
             {{\"user\":{{\"client-certificate-data\" : \"{b}\"}}}}]}}"
        ),
    ] {
        let contents = decode(text.as_bytes(), false);
        assert!(contents.is_kubeconfig && contents.damaged.is_empty(), "{contents:?}");
        let names: Vec<_> =
            contents.certificates.iter().map(|(i, c)| (*i, c.subject.clone().unwrap())).collect();
        assert_eq!(names, [(0, "a".into()), (1, "b".into())], "{text}");
    }
    let contents = decode(b"users:\n- user: {client-certificate-data: '%%'}\n", false);
    assert!(contents.damaged[0].contains("not base64 in one line"), "{contents:?}");
    let named = decode(b"users:\n- user: {client-certificate: /x.pem}\n", false);
    assert!(named.damaged.is_empty() && named.certificates.is_empty() && !named.is_kubeconfig);
}

#[test]
fn of_a_bundle_only_so_many_are_read_and_the_rest_is_told() {
    let bundle = pem("x", 2026).repeat(MOST_IN_FILE + 3);
    let contents = decode(bundle.as_bytes(), false);
    assert_eq!(contents.certificates.len(), MOST_IN_FILE);
    assert!(contents.damaged[0].contains("has 3 certificates more"), "{:?}", contents.damaged);
}

fn sound(bytes: &[u8]) {
    for only_first in [false, true] {
        for (position, c) in decode(bytes, only_first).certificates {
            assert!(position >= 0 && !c.serial.is_empty());
            for name in [&c.subject, &c.issuer].into_iter().flatten() {
                assert!(!name.is_empty() && !name.chars().any(char::is_control), "{name:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        sound(&bytes);
        let block = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(&bytes));
        sound(block.as_bytes());
        sound(format!("client-certificate-data: {}", STANDARD.encode(&block)).as_bytes());
    }

    #[test]
    fn a_changed_certificate_has_an_answer(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        as_text in any::<bool>(),
    ) {
        let mut p = CertificateParams::new(vec!["a.example".into(), "10.0.0.1".into()]).unwrap();
        p.distinguished_name.push(DnType::CommonName, "a name");
        let certificate = p.self_signed(&*KEY).unwrap();
        let (text, der) = (certificate.pem(), certificate.der().to_vec());
        let mut bytes = if as_text { text.into_bytes() } else { der };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let half = cut.index(bytes.len());
        for bytes in [&bytes[..], &bytes[..half]] {
            let block = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(bytes));
            sound(if as_text { bytes } else { block.as_bytes() });
        }
    }
}

/// A machine whose root is a folder.
struct Root {
    dir: tempfile::TempDir,
    clock: Arc<FakeClock>,
    health: Arc<Health>,
}

type Told = BTreeMap<String, (String, String, Option<i64>, i64)>;

impl Root {
    fn new() -> Self {
        let root = Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(FakeClock::at(1_795_392_000_123_456)),
            health: Arc::default(),
        };
        root.write("/proc/self/mountinfo", "");
        root.write("/proc/sys/kernel/random/boot_id", "b007\n");
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    fn link(&self, path: &str, to: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        let _ = fs::remove_file(self.path(path));
        symlink(self.path(to), self.path(path)).unwrap();
    }

    fn collector(&self, paths: &[&str]) -> Collector {
        let paths = paths.iter().map(PathBuf::from).collect();
        let root = self.dir.path().to_owned();
        Collector::new(CollectorOptions {
            proc_root: self.path("proc"),
            node: "n1".into(),
            clock: self.clock.clone(),
            health: self.health.clone(),
            certificates: Some(CertificateOptions { root, paths, ..Default::default() }),
            ..CollectorOptions::default()
        })
        .unwrap()
    }

    /// Path (and position) → subject, format, not_after, series; `None` if there was no look.
    fn look(&self, c: &mut Collector) -> Option<Told> {
        use crate::Clock;
        let tick = c.tick(self.clock.now_us());
        let batch = tick.batches.iter().find(|b| b.def().name == "certificates")?.batch();
        let label = |name: &str, row: usize| {
            let d = batch.column_by_name(name).unwrap().as_dictionary::<Int32Type>();
            let values = d.downcast_dict::<arrow::array::StringArray>().unwrap();
            values.into_iter().nth(row).flatten().unwrap_or_default().to_owned()
        };
        let int = |name: &str, row: usize| {
            batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(row)
        };
        let until = batch.column_by_name("not_after").unwrap();
        let until = until.as_primitive::<TimestampMicrosecondType>();
        let told = (0..batch.num_rows()).map(|row| {
            let key = format!("{} {}", label("path", row), int("position", row));
            let until = until.is_valid(row).then(|| until.value(row));
            (key, (label("subject", row), label("file_format", row), until, int("series_id", row)))
        });
        Some(told.collect())
    }

    /// How many files are skipped, and the sentence about them.
    fn skipped(&self) -> (i64, String) {
        let entries = self.health.entries();
        let found = entries.iter().find(|e| e.metric == "files_skipped");
        found.map(|e| (e.value, e.detail.clone())).unwrap_or_default()
    }
}

fn names(told: &Told) -> Vec<(&str, &str)> {
    told.iter().map(|(path, (subject, ..))| (path.as_str(), subject.as_str())).collect()
}

#[test]
fn the_usual_places_are_read_and_nothing_else() {
    let root = Root::new();
    let kubeconfig = format!("client-certificate-data: {}\n", STANDARD.encode(pem("admin", 2027)));
    let leaf_and_chain = format!("{}{}", pem("www.example", 2026), pem("an intermediate", 2030));
    for (path, text) in [
        ("/etc/kubernetes/pki/apiserver.crt", pem("kube-apiserver", 2026)),
        ("/etc/kubernetes/pki/apiserver.key", KEY.serialize_pem()),
        ("/etc/kubernetes/pki/sa.pem", KEY.serialize_pem()),
        ("/etc/kubernetes/pki/etcd/server.crt", pem("etcd", 2026)),
        ("/etc/kubernetes/admin.conf", kubeconfig.clone()),
        ("/etc/kubernetes/kubelet.conf", "client-certificate: /var/lib/x.pem\n".into()),
        ("/etc/kubernetes/manifests/x.crt", pem("no place", 2026)),
        ("/var/lib/kubelet/kubeconfig", kubeconfig),
        ("/var/lib/kubelet/pki/kubelet.crt", pem("a node@1", 2026)),
        ("/var/lib/kubelet/pki/kubelet-client-2025-01-01-00-00-00.pem", pem("old", 2025)),
        ("/var/lib/kubelet/pki/kubelet-client-2026-01-01-00-00-00.pem", pem("node", 2026)),
        ("/var/lib/rancher/k3s/server/tls/etcd/server.crt", pem("k3s", 2026)),
        ("/etc/letsencrypt/archive/w/fullchain7.pem", leaf_and_chain.clone()),
        ("/etc/letsencrypt/archive/w/cert7.pem", pem("www.example", 2026)),
        ("/etc/letsencrypt/live/other/fullchain.pem", leaf_and_chain),
        ("/etc/letsencrypt/live/w/privkey.pem", KEY.serialize_pem()),
        ("/etc/etcd/pki/peer.crt", pem("peer", 2026)),
        ("/etc/ssl/certs/ca.crt", pem("trusted", 2026)),
    ] {
        root.write(path, text);
    }
    root.link(
        "/var/lib/kubelet/pki/kubelet-client-current.pem",
        "/var/lib/kubelet/pki/kubelet-client-2026-01-01-00-00-00.pem",
    );
    root.link("/etc/letsencrypt/live/w/cert.pem", "/etc/letsencrypt/archive/w/cert7.pem");
    root.link("/etc/letsencrypt/live/w/fullchain.pem", "/etc/letsencrypt/archive/w/fullchain7.pem");
    let told = root.look(&mut root.collector(&[])).unwrap();
    assert_eq!(
        names(&told),
        [
            ("/etc/etcd/pki/peer.crt 0", "peer"),
            ("/etc/kubernetes/admin.conf 0", "admin"),
            ("/etc/kubernetes/pki/apiserver.crt 0", "kube-apiserver"),
            ("/etc/kubernetes/pki/etcd/server.crt 0", "etcd"),
            ("/etc/letsencrypt/live/other/fullchain.pem 0", "www.example"),
            ("/etc/letsencrypt/live/w/cert.pem 0", "www.example"),
            ("/var/lib/kubelet/kubeconfig 0", "admin"),
            ("/var/lib/kubelet/pki/kubelet-client-current.pem 0", "node"),
            ("/var/lib/kubelet/pki/kubelet.crt 0", "a node@1"),
            ("/var/lib/rancher/k3s/server/tls/etcd/server.crt 0", "k3s"),
        ]
    );
    assert_eq!(told["/etc/kubernetes/admin.conf 0"].1, "kubeconfig");
    assert_eq!(told["/etc/etcd/pki/peer.crt 0"].1, "pem");
    assert_eq!(told["/etc/etcd/pki/peer.crt 0"].2, Some(1_796_428_800_000_000));
    assert_eq!(root.skipped(), (0, String::new()));
}

#[test]
fn files_and_folders_of_the_configuration_are_read_and_faults_are_told_with_their_paths() {
    let root = Root::new();
    root.write("/tls/a.pem", format!("{}{}", pem("a", 2026), pem("b", 2027)));
    root.write("/tls/deep/er/c.cer", pem("c", 2026));
    root.write("/tls/garbage.pem", "no certificate\u{0}\u{1b}[31m");
    root.write("/tls/key.pem", KEY.serialize_pem());
    root.write("/tls/large.pem", vec![b'x'; (1 << 20) + 1]);
    root.write("/tls/notes.txt", "not looked at");
    root.write("/one/any-name", pem("named", 2026));
    root.write("/one/only-a-key", KEY.serialize_pem());
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.path("/tls/pipe.pem"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    root.link("/tls/link.pem", "/one/any-name");
    root.link("/tls/nowhere.pem", "/not/there");
    root.link("/tls/loop", "/tls");
    let mut c =
        root.collector(&["/tls", "/one/any-name", "/one/only-a-key", "/absent", "/tls/a.pem"]);
    let told = root.look(&mut c).unwrap();
    assert_eq!(
        names(&told),
        [
            ("/tls/a.pem 0", "a"),
            ("/tls/a.pem 1", "b"),
            ("/tls/deep/er/c.cer 0", "c"),
            // The link, which was found first and stays when the file is replaced.
            ("/tls/link.pem 0", "named"),
        ]
    );
    let (skipped, detail) = root.skipped();
    assert_eq!(skipped, 6, "{detail}");
    for why in [
        "/tls/nowhere.pem: No such file",
        "/absent: No such file",
        "/tls/garbage.pem: no certificate is in it",
        "/tls/large.pem: is larger than",
        "/tls/pipe.pem: is no regular file",
        "/one/only-a-key: no certificate is in it",
    ] {
        assert!(detail.contains(why), "{why}: {detail}");
    }
    // What is repaired is not told any more.
    for gone in ["/tls/garbage.pem", "/tls/large.pem", "/tls/pipe.pem", "/tls/nowhere.pem"] {
        fs::remove_file(root.path(gone)).unwrap();
    }
    root.clock.pass(3_600_000_000);
    root.look(&mut c).unwrap();
    assert_eq!(root.skipped().0, 2);
}

#[test]
fn a_look_is_hourly_and_a_renewed_certificate_is_another_one() {
    let root = Root::new();
    let file = "/etc/kubernetes/pki/apiserver.crt";
    root.write(file, pem("kube-apiserver", 2026));
    let mut c = root.collector(&[]);
    let first = root.look(&mut c).unwrap();
    root.write(file, pem("kube-apiserver", 2027));
    root.clock.pass(3_599_000_000);
    assert_eq!(root.look(&mut c), None, "not before an hour has passed");
    root.clock.pass(1_000_000);
    let second = root.look(&mut c).unwrap();
    let key = format!("{file} 0");
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first[&key].3, second[&key].3, "another series");
    assert_eq!(second[&key].2, Some(1_827_964_800_000_000));
    // Rows that were lost are looked for again at once.
    assert_eq!(root.look(&mut c), None);
    c.tell_series_again();
    assert_eq!(root.look(&mut c).unwrap(), second);
    fs::remove_file(root.path(file)).unwrap();
    root.clock.pass(3_600_000_000);
    assert_eq!(root.look(&mut c), None, "none is there any more");
}

#[test]
fn the_series_says_what_and_where() {
    use crate::Clock;
    let root = Root::new();
    root.write("/x.pem", format!("{}{}", pem("", 2026), pem("second", 2026)));
    let mut c = root.collector(&["/x.pem"]);
    let rows = crate::collect::tests::Rows(c.tick(root.clock.now_us())).labels();
    let (unnamed, second) = (&rows["certificate x.pem"], &rows["certificate second"]);
    assert_eq!(unnamed["path"], "/x.pem");
    assert_eq!(second["path"], "/x.pem#1");
    assert_eq!(unnamed["parent_id"], rows["node"]["series_id"]);
    assert!(second["incarnation"].starts_with("0102ab:17964"), "{}", second["incarnation"]);
}

#[test]
fn the_number_of_files_is_bounded() {
    let root = Root::new();
    for i in 0..MOST_FILES + 5 {
        root.write(&format!("/many/{i:05}.pem"), "-");
    }
    let start = Instant::now();
    assert_eq!(root.look(&mut root.collector(&["/many"])), None);
    assert!(start.elapsed() < Duration::from_secs(60));
    let (skipped, detail) = root.skipped();
    assert_eq!(skipped as usize, MOST_FILES + 5);
    assert!(detail.contains("and 995 more"), "{detail}");
    let (found, over) = Search::run(root.dir.path(), &[Path::new("/many").into()]);
    assert_eq!((found.len(), over.len()), (MOST_FILES, 5));
    assert!(over[0].1.contains("more than 1000 files"), "{over:?}");
    // Too deep.
    let deep = format!("/deep{}", "/d".repeat(12));
    root.write(&format!("{deep}/x.pem"), pem("deep", 2026));
    let (found, over) = Search::run(root.dir.path(), &[Path::new("/deep").into()]);
    assert!(found.is_empty() && over[0].1.contains("deeper than 8"), "{over:?}");
}
