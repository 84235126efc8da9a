//! What training reaches on the larger sets, and how long it takes.

use super::{Dataset, Set, load, shared_or_skip};
use consilium::datasets::partition;
use consilium::training::{Examples, Recipe, classify, train};
use consilium_protocol::graph::{Layer, Network, Shape, Window};
use std::io::Write;
use std::time::Instant;

fn dense(input: Shape, widths: &[u32]) -> Network {
    let mut layers = Vec::new();
    for &outputs in widths {
        if !layers.is_empty() {
            layers.push(Layer::Relu);
        }
        layers.push(Layer::Dense { outputs });
    }
    Network::new(input, layers).unwrap()
}

fn convolutional(input: Shape, classes: u32) -> Network {
    let conv = Layer::Conv { outputs: 16, window: Window::plain(5, 1) };
    let pool = Layer::MaxPool { window: Window::plain(2, 2) };
    let (hidden, last) = (Layer::Dense { outputs: 100 }, Layer::Dense { outputs: classes });
    let layers = vec![conv, Layer::Relu, pool, conv, Layer::Relu, pool, hidden, Layer::Relu, last];
    Network::new(input, layers).unwrap()
}

/// Trains on `part` and returns the accuracy in percent on the test rows, printing it with the seconds taken.
fn reached(data: &Dataset, network: &Network, part: &Examples, recipe: &Recipe) -> f64 {
    let begun = Instant::now();
    let model = train(network, part, recipe, 1, &mut |_, _| ()).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let found = classify(&model, &data.test).unwrap();
    let right = found.iter().zip(data.test.labels()).filter(|(found, label)| found == label).count();
    let percent = 100.0 * right as f64 / data.test.rows() as f64;
    let line = format!("{} {}: {} rows", data.name, network.summary(), part.rows());
    let _ = writeln!(std::io::stderr(), "{line}, {percent:.2} % in {seconds:.1} s");
    percent
}

#[test]
fn tables_reach_the_published_accuracy() {
    let Some(shared) = shared_or_skip("training on tables") else { return };
    for (set, owners, widths, least) in
        [(Set::Wdbc, 5, [32, 16, 2], 94.0), (Set::Heart, 5, [32, 16, 2], 73.0)]
    {
        let data = load(set, &shared).unwrap();
        let network = dense(data.shape, &widths);
        let parts = partition(&data.train, owners, 1).unwrap();
        let sum: f64 =
            parts.iter().map(|part| reached(&data, &network, part, &Recipe::table(part.rows()))).sum();
        let mean = sum / owners as f64;
        assert!(mean > least, "{}: {mean}", data.name);
    }
}

#[test]
fn a_tenth_of_mnist_trains_a_perceptron() {
    let Some(shared) = shared_or_skip("training on MNIST") else { return };
    let data = load(Set::Mnist, &shared).unwrap();
    let part = &partition(&data.train, 10, 1).unwrap()[0];
    for widths in [&[128, 64, 10][..], &[128, 128, 10]] {
        let network = dense(Shape::vector(784), widths);
        assert!(reached(&data, &network, part, &Recipe::images(part.rows())) > 94.0);
    }
}

#[test]
#[ignore = "a minute or two: convolutional networks; run with --ignored --nocapture for the figures"]
fn convolutional_networks_reach_their_accuracy() {
    let Some(shared) = shared_or_skip("training of convolutional networks") else { return };
    for (set, owners, least) in [
        (Set::Mnist, 10, 97.0),
        (Set::Mnist, 40, 94.0),
        (Set::FashionMnist, 10, 84.0),
        (Set::PneumoniaMnist, 5, 78.0),
    ] {
        let data = load(set, &shared).unwrap();
        let part = &partition(&data.train, owners, 1).unwrap()[0];
        let network = convolutional(data.shape, data.classes.len() as u32);
        assert!(reached(&data, &network, part, &Recipe::convolution(part.rows())) > least);
    }
}
