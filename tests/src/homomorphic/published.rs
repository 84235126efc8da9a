//! Known answers: the weights that Microsoft published with CryptoNets, which are not part of this repository.
//!
//! `CryptoNets/Weights.cs` of <https://github.com/microsoft/CryptoNets> holds five arrays: a 5x5 convolution of stride 2
//! with one row and column of padding at the bottom and right, each kernel followed by its bias; a dense layer of 845 x 100
//! by inputs, and its biases; a dense layer of 10 x 100 by outputs, and its biases.

use super::{TrialError, labels};
use consilium::training::Examples;
use consilium_protocol::graph::{Layer, Network, Shape, Window};
use consilium_protocol::homomorphic::{IntegerNet, Scales};
use consilium_protocol::model::{Model, Weights};
use std::path::Path;

/// Scales of inputs and weights, and the errors that they must give on the test images of MNIST.
pub const PUBLISHED_SCALES: [([u32; 4], usize); 2] = [([16, 32, 1024, 32], 105), ([4, 8, 64, 32], 97)];
const CHANNELS: usize = 5;
const TAPS: usize = 25;
const HIDDEN: usize = 100;
const CLASSES: usize = 10;
const POSITIONS: usize = 13 * 13;

/// One pair of scales and errors as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Scales of inputs and weights.
    pub scales: [u32; 4],
    /// Errors that are known.
    pub expected: usize,
    /// Errors found.
    pub found: usize,
}

/// Evaluates the published weights in the clear on all test images, whose numbers are in 0..=1.
///
/// # Errors
/// The file is not the published one, or the images are none of MNIST.
pub fn known_answers(file: &Path, test: &Examples) -> Result<Vec<Known>, TrialError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| TrialError::File { path: file.to_owned(), source })?;
    let model =
        model(&text).ok_or_else(|| TrialError::Memory(format!("{} has other weights", file.display())))?;
    let found = PUBLISHED_SCALES.map(|(scales, expected)| {
        let [input, maps @ ..] = scales;
        let scales_of = Scales { input, maps: maps.map(f64::from).to_vec() };
        // Microsoft divides grey levels by 256.
        let net = IntegerNet::quantise(&model, [0.0, 1.0], &scales_of)
            .map_err(|error| TrialError::Memory(error.to_string()))?;
        let integer = |value: &f32| (f64::from(*value) * 255.0 / 256.0 * f64::from(input)).round() as i64;
        let inputs: Vec<i64> = test.inputs().iter().map(integer).collect();
        let labels = labels(&net, &net.evaluate(&inputs));
        let wrong =
            labels.iter().zip(test.labels()).filter(|(one, other)| **one != usize::from(**other)).count();
        Ok(Known { scales, expected, found: wrong })
    });
    found.into_iter().collect()
}

/// The numbers of an array of the file.
fn array(text: &str, name: &str) -> Option<Vec<f32>> {
    let (_, rest) = text.split_once(&format!("{name} {{ get; }}"))?;
    let (_, rest) = rest.split_once("new double[]")?;
    let (_, rest) = rest.split_once('{')?;
    let (body, _) = rest.split_once('}')?;
    let lines = body.lines().map(|line| line.split("//").next().unwrap_or(""));
    let numbers = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|number| !number.is_empty());
    numbers.map(|number| number.parse().ok()).collect()
}

fn model(text: &str) -> Option<Model> {
    let first = array(text, "Weights_0").filter(|numbers| numbers.len() == CHANNELS * (TAPS + 1))?;
    let inputs = CHANNELS * POSITIONS;
    let second = array(text, "Weights_1").filter(|numbers| numbers.len() == inputs * HIDDEN)?;
    let second_bias = array(text, "Biases_2").filter(|numbers| numbers.len() == HIDDEN)?;
    let third = array(text, "Weights_3").filter(|numbers| numbers.len() == HIDDEN * CLASSES)?;
    let third_bias = array(text, "Biases_3").filter(|numbers| numbers.len() == CLASSES)?;
    let window = Window { kernel: [5, 5], stride: [2, 2], padding: [0, 0, 1, 1] };
    let layers = vec![
        Layer::Conv { outputs: CHANNELS as u32, window },
        Layer::Square,
        Layer::Dense { outputs: HIDDEN as u32 },
        Layer::Square,
        Layer::Dense { outputs: CLASSES as u32 },
    ];
    let network = Network::new(Shape { channels: 1, height: 28, width: 28 }, layers).ok()?;
    let kernels = first.chunks_exact(TAPS + 1);
    let weights = vec![
        Weights {
            weight: kernels.clone().flat_map(|kernel| kernel[..TAPS].to_vec()).collect(),
            bias: kernels.map(|kernel| kernel[TAPS]).collect(),
        },
        Weights {
            weight: (0..HIDDEN)
                .flat_map(|out| (0..inputs).map(move |from| (out, from)))
                .map(|(out, from)| second[from * HIDDEN + out])
                .collect(),
            bias: second_bias,
        },
        Weights { weight: third, bias: third_bias },
    ];
    Model::new(network, weights).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Set, load_test, named_or_skip, shared_or_skip};

    #[test]
    fn arrays_are_read_without_comments() {
        let text =
            "public static double[] Weights_0 { get; } = new double[] {\n  -0.5, 1, // 2\n 2.25 //\n};";
        assert_eq!(array(text, "Weights_0"), Some(vec![-0.5, 1.0, 2.25]));
        assert_eq!(array(text, "Weights_1"), None);
        assert!(model(text).is_none());
    }

    #[test]
    fn the_published_weights_give_the_known_answers() {
        let what = "the published weights of CryptoNets";
        let Some(file) = named_or_skip(what, "CONSILIUM_CRYPTONETS_WEIGHTS") else { return };
        let Some(shared) = shared_or_skip(what) else { return };
        let (_, test) = load_test(Set::Mnist, &shared).unwrap();
        for known in known_answers(&file, &test).unwrap() {
            assert_eq!(known.found, known.expected, "errors at scales {:?}", known.scales);
        }
    }
}
