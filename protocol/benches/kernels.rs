//! The arithmetic kernels beside `ndarray` in floating point.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use consilium_protocol::algebra::bits;
use consilium_protocol::algebra::conv::{self, ConvShape};
use consilium_protocol::algebra::matmul::{self, MatmulShape};
use consilium_protocol::algebra::{Prg, Seed};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array2;
use std::hint::black_box;
use std::time::Duration;

const SHAPES: [[usize; 3]; 15] = [
    [128, 784, 1],
    [128, 128, 1],
    [10, 128, 1],
    [128, 784, 32],
    [128, 128, 32],
    [10, 128, 32],
    [16, 25, 576],
    [16, 400, 64],
    [16, 25, 576 * 32],
    [16, 400, 64 * 32],
    [100, 256, 1],
    [100, 256, 32],
    [512, 512, 32],
    [1000, 1000, 1],
    [256, 256, 256],
];

fn products(criterion: &mut Criterion) {
    let mut prg = Prg::new(&Seed::from_bytes([1; 16]));
    for [rows, inner, columns] in SHAPES {
        let shape = MatmulShape { rows, inner, columns };
        let (w, x) = (prg.words(rows * inner), prg.words(inner * columns));
        let mut out = vec![0; rows * columns];
        let a = Array2::from_shape_fn((rows, inner), |(i, j)| (i * 31 + j) as f64);
        let b = Array2::from_shape_fn((inner, columns), |(i, j)| (i * 17 + j) as f64);
        // For a vector ndarray takes a faster path than for a matrix of one column.
        let v = b.column(0).to_owned();
        let mut group = criterion.benchmark_group(format!("matmul/{rows}x{inner}x{columns}"));
        group.throughput(Throughput::Elements((rows * inner * columns) as u64));
        group.bench_function("ring", |bencher| {
            bencher.iter(|| matmul::multiply_add(&mut out, black_box(&w), black_box(&x), shape));
        });
        group.bench_function("float", |bencher| {
            if columns == 1 {
                bencher.iter(|| black_box(black_box(&a).dot(black_box(&v))));
            } else {
                bencher.iter(|| black_box(black_box(&a).dot(black_box(&b))));
            }
        });
        group.finish();
    }
}

fn convolutions(criterion: &mut Criterion) {
    let mut prg = Prg::new(&Seed::from_bytes([2; 16]));
    let mut group = criterion.benchmark_group("conv");
    for (channels, size, batch) in [(1, 28, 1), (16, 12, 1), (1, 28, 32), (16, 12, 32)] {
        let shape = ConvShape {
            channels,
            height: size,
            width: size,
            outputs: 16,
            kernel: [5, 5],
            stride: [1, 1],
            padding: [0; 4],
            batch,
        };
        let (w, x) = (prg.words(shape.weight_len()), prg.words(shape.input_len()));
        let mut out = vec![0; shape.output_len()];
        let name = format!("{channels}x{size}x{size}x{batch}");
        group.bench_function(BenchmarkId::new("im2col", &name), |bencher| {
            bencher.iter(|| black_box(conv::im2col(black_box(&x), &shape)));
        });
        group.bench_function(BenchmarkId::new("convolve", &name), |bencher| {
            bencher.iter(|| conv::convolve_add(&mut out, black_box(&w), black_box(&x), &shape));
        });
    }
    group.finish();
}

fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prg");
    for words in [128, 1 << 17] {
        group.throughput(Throughput::Bytes(words as u64 * 8));
        group.bench_function(BenchmarkId::new("fill", words * 8), |bencher| {
            let mut buffer = vec![0; words];
            let mut prg = Prg::new(&Seed::from_bytes([3; 16]));
            bencher.iter(|| prg.fill_words(black_box(&mut buffer)));
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("derive", |bencher| {
        let seed = Seed::from_bytes([4; 16]);
        bencher.iter_batched(|| 7, |index| seed.derive("label", index), BatchSize::SmallInput);
    });
    group.finish();
}

fn planes(criterion: &mut Criterion) {
    let values = Prg::new(&Seed::from_bytes([5; 16])).words(1 << 12);
    let mut group = criterion.benchmark_group("bits");
    group.throughput(Throughput::Elements(values.len() as u64));
    group.bench_function("planes", |bencher| bencher.iter(|| bits::bit_planes(black_box(&values), 64)));
    group.bench_function("one plane", |bencher| bencher.iter(|| bits::bit_of_each(black_box(&values), 63)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .sample_size(30);
    targets = products, convolutions, streams, planes
}
criterion_main!(benches);
