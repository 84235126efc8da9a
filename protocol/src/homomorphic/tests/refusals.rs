//! What is refused, by name.

use super::*;
use crate::homomorphic::ring::is_prime;
use crate::misbehaviour::Misbehaviour;

fn chosen(model: &Model, scales: &[f64]) -> Result<Chosen, ScalesError> {
    let scales = Scales { input: 1, maps: scales.to_vec() };
    with_scales(model, [0.0, 3.0], Mode::Batch, &scales, &vec![1.0; model.network().input().len()])
}

#[test]
fn networks_that_no_plan_serves_are_refused() {
    let deep = chosen(&model(&[3, 3, 3, 3, 3], 1, 1), &[1.0; 4]).unwrap_err();
    assert_eq!(deep, ScalesError::Plan(PlanError::Deep(3)));
    let large = chosen(&model(&[60, 60, 60, 3], 3, 1), &[100.0, 100.0, 100.0]).unwrap_err();
    assert!(
        matches!(large, ScalesError::Plan(PlanError::Room { needed, modulus, .. }) if needed > modulus),
        "{large}"
    );
    let relu = vec![Layer::Dense { outputs: 2 }, Layer::Relu, Layer::Dense { outputs: 2 }];
    let weights = vec![Weights { weight: vec![1.0; 4], bias: vec![0.0; 2] }; 2];
    let relu = Model::new(Network::new(Shape::vector(2), relu).unwrap(), weights.clone()).unwrap();
    let refused = chosen(&relu, &[1.0, 1.0]).unwrap_err();
    assert!(
        refused.to_string().starts_with("layer 1 (relu) cannot be computed under encryption"),
        "{refused}"
    );
    let ends = vec![Layer::Dense { outputs: 2 }, Layer::Dense { outputs: 2 }, Layer::Square];
    let ends = Model::new(Network::new(Shape::vector(2), ends).unwrap(), weights).unwrap();
    let refused = chosen(&ends, &[1.0]).unwrap_err();
    assert!(refused.to_string().contains("is a square without a linear layer"), "{refused}");
}

#[test]
fn scales_that_make_no_integers_are_refused() {
    let model = model(&[3, 2], 3, 1);
    let message = |scales: &[f64]| chosen(&model, scales).unwrap_err().to_string();
    assert!(message(&[1.0, 1.0]).contains("2 scales for weights are given, but the network has 1"));
    assert!(message(&[1000.0]).contains("passes 511"));
    assert!(message(&[0.01]).contains("round to zero"));
    assert!(message(&[f64::NAN]).contains("is not a positive number"));
    let scales = Scales { input: 300, maps: vec![1.0] };
    let refused = with_scales(&model, [0.0, 1.0], Mode::Batch, &scales, &[0.0; 3]).unwrap_err();
    assert!(refused.to_string().contains("at scale 300"), "{refused}");
    let refused = choose_scales(&model, [0.0, 1.0], Mode::Batch, &[0.0; 4]).unwrap_err();
    assert!(matches!(refused, ScalesError::Samples { width: 3, found: 4 }));
}

#[test]
fn inputs_out_of_range_are_named() {
    let world = world(&model(&[3, 2], 3, 1), Mode::Batch, 2);
    assert_eq!(world.plan.encode(&[0.0, 3.0, 1.2]), Ok(vec![0, 3, 1]));
    assert_eq!(world.plan.encode(&[0.0, 3.6, 1.0]), Err((1, 3.6)));
    assert_eq!(world.plan.encode(&[-0.6, 0.0, 1.0]), Err((0, -0.6)));
    assert!(matches!(world.plan.encode(&[0.0, 0.0, f64::NAN]), Err((2, _))));
}

#[test]
fn plans_that_contradict_themselves_are_refused() {
    let world = world(&convolution(1), Mode::Single, 2);
    let changes: [fn(&mut Plan); 10] = [
        |plan| plan.primes.clear(),
        |plan| plan.primes[0] += 2,
        |plan| plan.primes.reverse(),
        |plan| plan.flood_bits -= 1,
        |plan| plan.logit_bits = 60,
        |plan| plan.logit_bits = 0,
        // Their product would not fit.
        |plan| {
            let numbers = (0..1 << 13).rev().map(|at| (at << 15) + 1);
            plan.primes = numbers.filter(|number| is_prime(*number)).take(6).collect();
            plan.primes.reverse();
            plan.logit_bits = 100;
        },
        |plan| plan.scales.input = 0,
        |plan| plan.scales.maps[0] = f64::INFINITY,
        |plan| plan.input_range = [3, 3],
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut plan = world.plan.clone();
        change(&mut plan);
        assert!(matches!(plan.check(), Err(PlanError::Contradiction(_))), "change {index}");
        assert_ne!(plan.digest(), world.plan.digest());
    }
}

#[test]
fn damaged_bytes_and_other_keys_are_named_errors() {
    for mode in [Mode::Batch, Mode::Single] {
        let world = world(&model(&[5, 4, 3], 3, 1), mode, 2);
        let inputs = world.inputs(1, 3);
        let answer = world.answers(&inputs, 1).swap_remove(0);
        let opening = Opening::new(&world.plan, &world.key);
        let open = |answer: &[Vec<u8>]| {
            opening
                .logits(0, &answer.iter().map(Vec::as_slice).collect::<Vec<_>>(), 1)
                .map(|(logits, _)| logits)
        };
        let clear = world.net.evaluate(&inputs);
        assert_eq!(open(&answer).unwrap()[0], clear[0]);
        let mut short = answer.clone();
        short[0].pop();
        assert!(matches!(open(&short), Err(OpenError::Bytes(Misbehaviour::LatticeLength { .. }))));
        let mut over = answer.clone();
        over[0][..6].fill(0xff);
        assert!(matches!(
            open(&over),
            Err(OpenError::Bytes(Misbehaviour::LatticeCoefficient { position: 0, .. }))
        ));
        // A changed number of the linear half is spread over everything by the secret: a large one is noise, a small one
        // changes all residues at random.
        for (from_end, named) in [(1, "noise"), (4, "logit")] {
            let mut changed = answer.clone();
            let at = changed[0].len() - from_end;
            changed[0][at] ^= 0x20;
            let refused = open(&changed).unwrap_err();
            assert!(refused.to_string().contains(named), "{refused}");
        }
        let other = SecretKey::of_seed(&world.plan, &Seed::from_bytes([99; 16]));
        let parts: Vec<&[u8]> = answer.iter().map(Vec::as_slice).collect();
        let refused = Opening::new(&world.plan, &other).logits(0, &parts, 1);
        assert!(matches!(refused, Err(OpenError::Noise)));
        let seed = Seed::from_bytes([1; 16]);
        let block = Block { plain: 0, limb: 0 };
        let found =
            world.evaluator.evaluate(&seed, block, &vec![0; Block::bytes(&world.plan) - 1]).unwrap_err();
        assert!(matches!(found, Misbehaviour::LatticeLength { what: "query", .. }));
        let found =
            world.evaluator.evaluate(&seed, block, &vec![0xff; Block::bytes(&world.plan)]).unwrap_err();
        assert!(matches!(found, Misbehaviour::LatticeCoefficient { what: "query", position: 0 }));
        let bytes = vec![0xff; EvaluationKeys::bytes(&world.plan)];
        assert!(EvaluationKeys::decode(&world.plan, &bytes).is_err());
        assert!(EvaluationKeys::decode(&world.plan, &bytes[1..]).is_err());
    }
}

#[test]
fn slots_that_were_not_asked_about_hold_nothing() {
    let world = world(&model(&[5, 4, 3], 3, 1), Mode::Batch, 2);
    let inputs = world.inputs(5, 3);
    let answers = world.answers(&inputs, 2);
    let clear = world.net.evaluate(&inputs);
    let opening = Opening::new(&world.plan, &world.key);
    let parts: Vec<&[u8]> = answers[0].iter().map(Vec::as_slice).collect();
    let (logits, _) = opening.logits(0, &parts, 2).unwrap();
    assert_eq!(logits, [clear[0], clear[3]]);
    // Uniform numbers are beyond the bound of logits nearly always, and never the logit.
    assert!(matches!(opening.logits(0, &parts, 5), Err(OpenError::Logit { output: 0, .. })));
}

#[test]
fn scales_are_those_of_a_model_of_integers_or_keep_its_logits() {
    let integers = model(&[6, 5, 3], 3, 1);
    let samples: Vec<f64> = (0..60).map(|at| f64::from(at % 4)).collect();
    let chosen = choose_scales(&integers, [0.0, 3.0], Mode::Batch, &samples).unwrap();
    assert_eq!(chosen.plan.scales, Scales { input: 1, maps: vec![1.0; 2] });
    assert_eq!((chosen.error, chosen.agreement), (0.0, 1.0));
    let weights = integers.weights().iter().map(|entry| Weights {
        weight: entry
            .weight
            .iter()
            .enumerate()
            .map(|(at, weight)| weight * 0.1 + 0.01 * (at as f32).sin())
            .collect(),
        bias: entry.bias.clone(),
    });
    let floats = Model::new(integers.network().clone(), weights.collect()).unwrap();
    let chosen = choose_scales(&floats, [0.0, 3.0], Mode::Single, &samples).unwrap();
    assert!(chosen.error < 0.2 && chosen.agreement >= 0.9, "{} {}", chosen.error, chosen.agreement);
}
