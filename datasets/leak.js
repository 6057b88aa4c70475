// A Node.js service whose requests make garbage and, where asked, keep a little for ever: memory goes as V8's collector takes
// and returns it.
//
// usage: node [--max-old-space-size=MIB] leak.js KEEP_KIB_PER_S GARBAGE_KIB_PER_S
const PER_SECOND = 50;
const [keep, garbage] = process.argv.slice(2).map((kib) => (Number(kib) * 1024) / PER_SECOND);
const kept = [];

// Small objects on the heap, of about so many bytes.
function objects(bytes) {
    const list = [];
    for (let used = 0; used < bytes; used += 64) {
        list.push({ at: used, key: Math.random(), next: list[list.length - 1] });
    }
    return list;
}

setInterval(() => {
    objects(garbage * (0.5 + Math.random()));
    if (keep > 0) {
        kept.push(objects(keep * (0.5 + Math.random())));
    }
}, 1000 / PER_SECOND);
