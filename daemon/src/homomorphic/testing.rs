//! A small network, and its plan.

use consilium_protocol::algebra::{Prg, Seed};
use consilium_protocol::graph::{Layer, Network, Shape};
use consilium_protocol::homomorphic::{IntegerNet, Mode, Plan, Scales};
use consilium_protocol::model::{Model, Weights};

/// Two dense layers with a square between them and small integers for weights; 5 inputs, 3 outputs.
pub(crate) fn model() -> Model {
    let mut prg = Prg::new(&Seed::from_bytes([1; 16]));
    let mut number = |_| (prg.word() % 7) as f32 - 3.0;
    let dense = |outputs| Layer::Dense { outputs };
    let network = Network::new(Shape::vector(5), vec![dense(4), Layer::Square, dense(3)]).unwrap();
    let mut weights = |inputs: usize, outputs: usize| Weights {
        weight: (0..inputs * outputs).map(&mut number).collect(),
        bias: vec![1.0; outputs],
    };
    Model::new(network, vec![weights(5, 4), weights(4, 3)]).unwrap()
}

/// It in integers, for inputs of 0 to 2 in halves.
pub(crate) fn net() -> (Network, IntegerNet) {
    let (model, scales) = (model(), Scales { input: 2, maps: vec![1.0, 1.0] });
    (model.network().clone(), IntegerNet::quantise(&model, [0.0, 2.0], &scales).unwrap())
}

/// Its plan for single queries.
pub(crate) fn small_plan() -> Plan {
    let (network, net) = net();
    Plan::choose(&network, &net, Mode::Single).unwrap().0
}
