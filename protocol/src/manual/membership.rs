//! Membership inference: what each signal tells about who was trained on, measured.
//!
//! # The experiment
//!
//! One owner, the victim, is trained 32 times, each time on a random half of a pool of records, in pairs that
//! complement each other; the other owners stay fixed, trained on records of their own. Each record of the
//! pool is asked about with its own features. From what it sees an attacker says in which versions the record
//! was trained on: by one threshold for all records (*threshold*; for labels *gap*), or by a likelihood ratio
//! for each record, fitted on the other versions (*LiRA*; for labels *ratio*; Carlini et al. 2022). So it
//! knows the pool, how everybody trains, and how the victim answers with and without the record; all but the
//! membership itself.
//!
//! Votes are those of [`clear`](crate::evaluate::clear), the fixed point of the protocol; noise comes from
//! the product's own sources. *Advantage* is the largest difference of true and false positive rate. The
//! bound is what the promise allows any attack on R labels: `tanh(R ε / 2)` for pure ε; for a Gaussian the
//! least that the curve of its zCDP and its divergence allow. Victims learn their records by heart on
//! purpose: they are right on 99.9 % of their own garments and 81.5 % of others, 94 and 78 % of X-rays, 99.6
//! and 55 % of diabetes patients. An owner has 1,000 garments or patients, or 400 X-rays; a figure rests on
//! 64,000 decisions, or 25,600.
//!
//! # Advantage
//!
//! In brackets what another implementation found with other models, other noise code and continuous noise. Of
//! labels under noise the better of gap and ratio. *Once* and *times* without more: the full noise of one
//! party, as an attested source would add it, or as a client sees it who colludes with the other party. *Both
//! parties*: what a client sees whom neither party helps.
//!
//! | signal, attack | fashion N=2 | fashion N=10 | x-rays N=10 | diabetes N=10 | bound |
//! |---|---|---|---|---|---|
//! | victim's confidence, threshold | 0.246 (0.251) | 0.247 (0.251) | 0.030 (0.042) | 0.543 (0.526) |  |
//! | victim's confidence, LiRA | 0.326 (0.344) | 0.331 (0.344) | 0.049 (0.057) | 0.575 (0.559) |  |
//! | victim's label, gap | 0.182 (0.180) | 0.181 (0.180) | 0.027 (0.036) | 0.440 (0.436) |  |
//! | victim's label, ratio | 0.178 (0.175) | 0.178 (0.175) | 0.025 (0.030) | 0.437 (0.432) |  |
//! | mean probability, threshold | 0.138 (0.138) | 0.035 (0.030) | 0.006 (0.007) | 0.077 (0.071) |  |
//! | mean probability, LiRA | 0.333 (0.324) | 0.328 (0.316) | 0.047 (0.055) | 0.596 (0.568) |  |
//! | exact counts, threshold | 0.112 (0.115) | 0.032 (0.033) | 0.008 (0.009) | 0.070 (0.069) |  |
//! | exact counts, LiRA | 0.178 (0.180) | 0.178 (0.180) | 0.025 (0.034) | 0.437 (0.435) |  |
//! | exact label, gap | 0.087 (0.082) | 0.019 (0.017) | 0.002 (0.001) | 0.055 (0.053) |  |
//! | exact label, ratio | 0.084 (0.079) | 0.019 (0.017) | 0.002 (0.000) | 0.055 (0.053) |  |
//! | Gaussian σ = 2, once | 0.019 (0.022) | 0.018 (0.016) | 0.002 (0.003) | 0.059 (0.067) | 0.354 |
//! | Gaussian σ = 10, once | 0.006 (0.002) | 0.008 (0.010) | 0.013 (0.010) | 0.024 (0.028) | 0.071 |
//! | Gaussian σ = 40, once | 0.003 (0.001) | 0.007 (0.004) | 0.006 (0.005) | 0.004 (0.010) | 0.018 |
//! | Laplace ε = 0.1, once | 0.002 | 0.002 | 0.008 | 0.016 | 0.050 |
//! | Laplace ε = 0.5, once | 0.005 | 0.011 | 0.006 | 0.047 | 0.245 |
//! | Laplace ε = 1, once | 0.018 | 0.017 | 0.002 | 0.056 | 0.462 |
//! | Laplace ε = 2, once | 0.039 | 0.018 | 0.002 | 0.063 | 0.762 |
//! | the same of both parties, σ = 2 | 0.014 | 0.015 | 0.001 | 0.055 | 0.354 |
//! | the same of both parties, ε = 1 | 0.011 | 0.014 | 0.007 | 0.049 | 0.462 |
//! | Gaussian σ = 2, 10 times | 0.069 | 0.050 | 0.005 | 0.156 | 0.958 |
//! | Gaussian σ = 2, 100 times | 0.158 | 0.128 | 0.023 | 0.343 | 1.000 |
//! | Gaussian σ = 10, 10 times | 0.018 | 0.020 | 0.014 | 0.044 | 0.224 |
//! | Gaussian σ = 10, 100 times | 0.045 | 0.035 | 0.014 | 0.149 | 0.707 |
//! | Gaussian σ = 40, 10 times | 0.003 | 0.002 | 0.017 | 0.018 | 0.056 |
//! | Gaussian σ = 40, 100 times | 0.009 | 0.006 | 0.014 | 0.040 | 0.177 |
//! | Laplace ε = 0.5, 10 times | 0.019 | 0.029 | 0.006 | 0.081 | 0.987 |
//! | Laplace ε = 0.5, 100 times | 0.073 | 0.075 | 0.017 | 0.280 | 1.000 |
//! | Laplace ε = 1, 10 times | 0.049 | 0.040 | 0.010 | 0.137 | 1.000 |
//! | Laplace ε = 1, 100 times | 0.123 | 0.119 | 0.018 | 0.336 | 1.000 |
//! | both parties, σ = 2, 100 times | 0.122 | 0.128 | 0.032 | 0.354 | 1.000 |
//! | both parties, ε = 1, 100 times | 0.099 | 0.105 | 0.032 | 0.325 | 1.000 |
//!
//! Standard errors are at most 0.009: the spread over resampled records, with that over pairs of versions
//! left out, less what both count twice. Chance gives an attack that knows nothing up to 0.012 (X-rays
//! 0.019). Of 64 figures with a reference 5 differ by more than two standard errors of the difference, 3 were
//! to be expected; none of a noisy label differs by more than 0.012. No figure of these four passes its
//! bound; on small tables a bound can lie below what chance gives. The reference has no discrete Laplace
//! noise, but the exponential mechanism, which is not offered here, and no Gaussian asked for more than once.
//! How long its victims trained is not recorded; 60 passes over images and 40 over tables were chosen here by
//! what its victims know of their own records.
//!
//! The figures are those of seed 1, the first that was run. Over seeds 1 to 4 the diabetes figures of the
//! victim spread as their standard errors say, 0.005 to 0.007; those of exact labels and of thresholds on
//! means and counts more widely, 0.007 against 0.004, since other owners are drawn as well. No noisy figure
//! passed its bound. With some seeds one of the seven comparisons that are held to two standard errors fails:
//! the ratio on one label at σ = 10 is 0.004 to 0.012 on all four, 0.018 in the reference, and LiRA once was
//! 0.579; on the X-rays, where some versions seem to learn nothing but the larger class, LiRA ranges from
//! 0.035 to 0.054.
//!
//! Smaller tables show the same: on 100 breast tumours each (3 owners) 0.131 by the victim's confidence and
//! 0.017 by the exact label; on 100 heart patients each (4 owners) 0.273 and 0.052.
//!
//! At 1 % false positives the ratio on the victim's confidence finds 15 % of the members among the garments,
//! 8.5 % of the patients and 2.3 % of the X-rays; on one noisy label (σ = 2) it finds 1.0 to 1.4 %.
//!
//! What one vote moves at most, with ten owners and two classes, if every other vote is known:
//!
//! | noise | one party's | both parties' | bound |
//! |---|---|---|---|
//! | Gaussian σ = 2 | 0.273 | 0.194 | 0.354 |
//! | Gaussian σ = 10 | 0.057 | 0.040 | 0.071 |
//! | Gaussian σ = 40 | 0.015 | 0.011 | 0.018 |
//! | Laplace ε = 0.5 | 0.125 | 0.077 | 0.245 |
//! | Laplace ε = 1 | 0.237 | 0.158 | 0.462 |
//! | Laplace ε = 2 | 0.457 | 0.319 | 0.762 |
//!
//! # How to read it
//!
//! - *The attack works.* Where it sees the victim's confidence, it tells members from others.
//! - *Averages are not protection.* If the other nine owners are known, the mean of ten probabilities gives
//!   as much away as the victim's own, and exact counts give its label away completely. Therefore nothing but
//!   a label leaves, and votes are never opened.
//! - *An exact label leaks little on average and promises nothing.* With two owners it is 0.087. The average
//!   also hides the one record that decides: see what one vote moves.
//! - *One noisy label* stays at what the exact label gives or below, far inside its bound. Of owners who
//!   learnt by heart a label at σ = 2, or ε of 1 or 2, may even tell slightly more than the exact one: noise
//!   shows margins.
//! - *Noise without an enforced budget is worse than none.* Asked about a hundred times, the noisy label of a
//!   diabetes patient gives 0.34 (σ = 2), six times what the exact label gives, and twice the variance (both
//!   parties') hardly helps: 0.35. Averages of noisy labels show the margin of the vote, which the bare label
//!   hides. The defence is the ledger, not the sampler.
//! - *The ledger refuses.* One record, asked about a hundred times under fresh names in a consortium of real
//!   processes with ten owners, σ = 2 and ε = 8 at δ = 1e-6: four answers, which is what the budget pays for,
//!   and 96 refusals, on the books of both parties; the first name again gives the first label, without a
//!   charge. The bound for four such labels is still 0.71: ε = 8 limits damage, it is no shield for one
//!   record.
//!
//! # What else a client sees
//!
//! Beside the label: number of models, source of noise and of randomness, way of comparing, price, rounds,
//! bytes, bundles, whether the answer is an old one, how many questions shared the rounds, and how long the
//! rounds took, by the clock and by the processor. All but the last two are functions of the roster, the plan
//! and who asks meanwhile; a test holds them against each other over rows of different votes. Times are not
//! functions of votes either, as far as no operation on shares takes a time that depends on them: gates have
//! no branch on a share, tables are read at opened places, samplers read all of theirs. This is an argument,
//! not a measurement. A refusal for want of budget says how much of it is spent, which tells a client how
//! often others asked.
//!
//! Budgets are kept by task. An owner whose records serve two tasks promises the sum of both budgets, and an
//! exact task beside a noisy one about the same records leaves no promise at all.
//!
//! # Again
//!
//! `cargo run --release -p consilium-tests --bin membership -- --dataset diabetes` makes the experiment and
//! the question of a hundred repetitions, in one to three minutes, and fails where a bound is passed, a
//! figure is not the reference's, or the ledger does not refuse at the exact count.
