mod noise;
mod refusals;
mod sanitise;

use super::*;
use crate::algebra::{Prg, Seed};
use crate::graph::{Layer, Network, Shape};
use crate::model::{Model, Weights};

fn prg(seed: u8) -> Prg {
    Prg::new(&Seed::from_bytes([seed; 16]))
}

/// A network of dense layers with squares between them and weights of up to `largest`.
fn model(widths: &[u32], largest: i64, seed: u8) -> Model {
    let mut prg = prg(seed);
    let mut layers = Vec::new();
    let mut weights = Vec::new();
    for (index, pair) in widths.windows(2).enumerate() {
        if index > 0 {
            layers.push(Layer::Square);
        }
        layers.push(Layer::Dense { outputs: pair[1] });
        let mut number = |_| (prg.word() % (2 * largest as u64 + 1)) as f32 - largest as f32;
        let weight = (0..pair[0] * pair[1]).map(&mut number).collect();
        weights.push(Weights { weight, bias: (0..pair[1]).map(&mut number).collect() });
    }
    Model::new(Network::new(Shape::vector(widths[0]), layers).unwrap(), weights).unwrap()
}

fn net(model: &Model, input: u32) -> IntegerNet {
    let maps = model.weights().iter().map(|_| 1.0).collect();
    IntegerNet::quantise(model, [0.0, 3.0], &Scales { input, maps }).unwrap()
}

struct World {
    plan: Plan,
    net: IntegerNet,
    key: SecretKey,
    keys: EvaluationKeys,
    evaluator: Evaluator,
    room: Room,
}

fn world(model: &Model, mode: Mode, seed: u8) -> World {
    let net = net(model, 1);
    let (plan, room) = Plan::choose(model.network(), &net, mode).unwrap();
    plan.check().unwrap();
    let key = SecretKey::of_seed(&plan, &Seed::from_bytes([seed; 16]));
    let bytes = key.evaluation_keys(&plan, &mut prg(seed + 1));
    assert_eq!(bytes.len(), EvaluationKeys::bytes(&plan));
    let keys = EvaluationKeys::decode(&plan, &bytes).unwrap();
    World { evaluator: Evaluator::new(plan.clone(), &net), plan, net, key, keys, room }
}

impl World {
    fn inputs(&self, count: usize, seed: u8) -> Vec<i64> {
        let words = prg(seed).words(count * self.plan.inputs());
        words.into_iter().map(|word| (word % 4) as i64).collect()
    }

    /// What the owner makes of a query in one plaintext prime. The same seeds always, so that twins get equal queries.
    fn blocks(&self, plain: usize, inputs: &[i64]) -> Vec<Raw> {
        let seed = Seed::from_bytes([77; 16]);
        let messages = Messages::new(&self.plan, plain, inputs, &Seed::from_bytes([50; 16]));
        let block = |limb| {
            let rows = messages.encrypt(&self.key, &seed, limb, 0..self.plan.ciphertexts());
            assert_eq!(rows.len(), Block::bytes(&self.plan));
            self.evaluator.evaluate(&seed, Block { plain, limb }, &rows).unwrap()
        };
        (0..self.plan.query_limbs()).map(block).collect()
    }

    /// For each answer, its parts in the order of plaintext primes.
    fn answers(&self, inputs: &[i64], used: usize) -> Vec<Vec<Vec<u8>>> {
        let mut prg = prg(9);
        let mut answers = vec![Vec::new(); self.plan.answers()];
        for plain in 0..self.plan.primes.len() {
            let blocks = self.blocks(plain, inputs);
            for (answer, parts) in answers.iter_mut().enumerate() {
                let bytes = self.evaluator.answer(plain, answer, &blocks, &self.keys, used, &mut prg);
                assert_eq!(bytes.len(), self.plan.answer_bytes());
                parts.push(bytes);
            }
        }
        answers
    }

    fn logits(&self, answers: &[Vec<Vec<u8>>], used: usize) -> Vec<Vec<i128>> {
        let opening = Opening::new(&self.plan, &self.key);
        let one = |(answer, parts): (usize, &Vec<Vec<u8>>)| {
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let (logits, margin) = opening.logits(answer, &parts, used).unwrap();
            assert!(margin > 7.0, "{margin}");
            logits
        };
        answers.iter().enumerate().map(one).collect()
    }
}

#[test]
fn encrypted_logits_of_a_batch_are_those_in_the_clear() {
    for (widths, seed) in [(&[6, 5, 4, 3][..], 1), (&[7, 4, 2], 3), (&[5, 3], 5)] {
        let world = world(&model(widths, 3, seed), Mode::Batch, seed);
        let count = world.plan.inputs_max();
        let inputs = world.inputs(count, 20);
        let answers = world.answers(&inputs, count);
        let logits = world.logits(&answers, count);
        let clear = world.net.evaluate(&inputs);
        for (input, clear) in clear.chunks_exact(world.plan.outputs()).enumerate() {
            let opened: Vec<i128> = logits.iter().map(|row| row[input]).collect();
            assert_eq!(opened, clear, "input {input}");
        }
    }
}

/// A convolution, dense layers behind it, and squares between them.
fn convolution(seed: u8) -> Model {
    let input = Shape { channels: 2, height: 9, width: 8 };
    let window = crate::graph::Window { kernel: [3, 2], stride: [2, 1], padding: [1, 0, 1, 1] };
    let layers = vec![
        Layer::Conv { outputs: 3, window },
        Layer::Square,
        Layer::Dense { outputs: 7 },
        Layer::Square,
        Layer::Dense { outputs: 4 },
    ];
    let network = Network::new(input, layers).unwrap();
    let mut prg = prg(seed);
    let mut weights = Vec::new();
    for (index, layer) in network.layers().iter().enumerate().filter(|(_, layer)| layer.is_linear()) {
        let (count, biases) = layer.parameters(network.shape_before(index));
        let mut number = |_| (prg.word() % 7) as f32 - 3.0;
        weights.push(Weights {
            weight: (0..count).map(&mut number).collect(),
            bias: (0..biases).map(&mut number).collect(),
        });
    }
    Model::new(network, weights).unwrap()
}

#[test]
fn encrypted_logits_of_single_queries_are_those_in_the_clear() {
    let models = [
        (convolution(1), 2),
        (model(&[6, 5, 4, 3], 3, 3), 4),
        (model(&[300, 70, 11], 2, 5), 6),
        (model(&[5, 3], 3, 7), 8),
        (model(&[40, 200], 3, 9), 10),
    ];
    for (model, seed) in models {
        let world = world(&model, Mode::Single, seed);
        let inputs = world.inputs(1, 20);
        let logits = world.logits(&world.answers(&inputs, 1), 1);
        assert_eq!(logits, [world.net.evaluate(&inputs)], "{}", model.network().summary());
    }
}
