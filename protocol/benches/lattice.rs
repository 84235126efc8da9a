//! Products under lattice encryption, layer by layer: ciphertexts, bytes and time for a batch of 128.
//!
//! `cargo bench -p consilium-protocol --bench lattice -- [--json]` prints one line for each layer and each
//! choice of what is encrypted. Each party of a query is once the key holder and once the evaluator of every
//! layer, so the bytes of both directions of one product are what each direction carries, and the time of
//! both roles is what each party spends. Requests for encrypted weights are made once for a model; their
//! bytes and time stand in columns of their own.

#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

use consilium_protocol::algebra::{ConvShape, LinearShape, Prg, Seed};
use consilium_protocol::lattice::{Encrypted, Evaluation, Packing, PublicKey, Requests, SecretKey};

const BATCH: usize = 128;

/// CPU time of this thread so far; 0 where the kernel does not tell.
fn cpu_ms() -> f64 {
    // Leaving the core for a moment makes the kernel bring the figure up to date.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds: Option<f64> = text.split(' ').next().and_then(|field| field.parse().ok());
    nanoseconds.unwrap_or(0.0) / 1e6
}

fn measured<T>(total: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = cpu_ms();
    let result = work();
    *total += cpu_ms() - start;
    result
}

fn layers() -> Vec<(&'static str, LinearShape)> {
    let dense = |outputs, inputs| LinearShape::Dense { outputs, inputs, batch: BATCH };
    let conv = |channels, size| {
        LinearShape::Conv(ConvShape {
            channels,
            height: size,
            width: size,
            outputs: 16,
            kernel: [5, 5],
            stride: [1, 1],
            padding: [0; 4],
            batch: BATCH,
        })
    };
    vec![
        ("mlp 128x784", dense(128, 784)),
        ("mlp 128x128", dense(128, 128)),
        ("mlp 10x128", dense(10, 128)),
        ("cnn conv 1x28x28", conv(1, 28)),
        ("cnn conv 16x12x12", conv(16, 12)),
        ("cnn 100x256", dense(100, 256)),
        ("cnn 10x100", dense(10, 100)),
    ]
}

struct Row {
    packing: Packing,
    request_bytes: usize,
    reply_bytes: usize,
    request_ms: f64,
    reply_ms: f64,
}

fn run(shape: &LinearShape, encrypted: Encrypted) -> Row {
    let packing = Packing::choose(shape, encrypted).unwrap();
    let mut prg = Prg::new(&Seed::random().unwrap());
    let (tensor, plain) = (prg.words(packing.encrypted_len()), prg.words(packing.plain_len()));
    let key = SecretKey::generate(&Seed::random().unwrap());
    let public = PublicKey::decode(key.public_key()).unwrap();
    let mut requests = Requests::new(&packing);
    let (mut request_bytes, mut reply_bytes, mut request_ms, mut reply_ms) = (0, 0, 0.0, 0.0);
    for request in 0..packing.requests() {
        let bytes = measured(&mut request_ms, || key.request(&packing, &tensor, request, &mut prg));
        request_bytes += bytes.len();
        measured(&mut request_ms, || requests.absorb(request, &bytes)).unwrap();
    }
    let (mut zero, mut one) = (vec![0; packing.output_len()], vec![0; packing.output_len()]);
    let mut evaluation = Evaluation::new(&packing, &plain);
    for reply in 0..packing.replies() {
        let bytes =
            measured(&mut reply_ms, || evaluation.reply(reply, &requests, &public, &mut prg, &mut one));
        reply_bytes += bytes.len();
        measured(&mut reply_ms, || key.open(&packing, reply, &bytes, &mut zero)).unwrap();
    }
    let (w, x) = match encrypted {
        Encrypted::Operand => (&plain, &tensor),
        Encrypted::Weights => (&tensor, &plain),
    };
    let mut expected = vec![0; packing.output_len()];
    shape.multiply_add(&mut expected, w, x);
    assert!(expected.iter().zip(zero.iter().zip(&one)).all(|(word, (a, b))| *word == a.wrapping_add(*b)));
    Row { packing, request_bytes, reply_bytes, request_ms, reply_ms }
}

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    if !json {
        println!(
            "{:<18} {:<9} {:>8} {:>7} {:>13} {:>11} {:>12} {:>11} {:>12} {:>12}",
            "layer",
            "encrypted",
            "requests",
            "replies",
            "B/query req",
            "B/query rep",
            "ms/query req",
            "ms/query rep",
            "products max",
            "blocks"
        );
    }
    for (name, shape) in layers() {
        for encrypted in [Encrypted::Operand, Encrypted::Weights] {
            let row = run(&shape, encrypted);
            let each = |value: f64| value / BATCH as f64;
            let (requests, replies) = (row.packing.requests(), row.packing.replies());
            let bytes = [row.request_bytes, row.reply_bytes].map(|bytes| each(bytes as f64));
            let ms = [row.request_ms, row.reply_ms].map(each);
            let blocks = row.packing.blocks();
            if json {
                let line = serde_json::json!({
                    "layer": name, "encrypted": format!("{encrypted:?}"), "batch": BATCH,
                    "requests": requests, "replies": replies,
                    "request_bytes_per_query": bytes[0], "reply_bytes_per_query": bytes[1],
                    "request_cpu_ms_per_query": ms[0], "reply_cpu_ms_per_query": ms[1],
                    "products_max": row.packing.products_max(),
                    "blocks": [blocks.channels, blocks.outputs, blocks.columns, blocks.rows],
                });
                println!("{line}");
            } else {
                println!(
                    "{name:<18} {:<9} {requests:>8} {replies:>7} {:>13.0} {:>11.0} {:>12.3} {:>11.3} {:>12} {:>3}x{}x{}x{}",
                    format!("{encrypted:?}"),
                    bytes[0],
                    bytes[1],
                    ms[0],
                    ms[1],
                    row.packing.products_max(),
                    blocks.channels,
                    blocks.outputs,
                    blocks.columns,
                    blocks.rows,
                );
            }
        }
    }
}
