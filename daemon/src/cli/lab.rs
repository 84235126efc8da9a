//! `consilium lab`: a broken idea and the attack that breaks it.

mod attack;
mod encode;
mod keygen;
mod received;
mod send;
mod sweep;
mod train;

use crate::demo::Progress;
use crate::lab::{Figure, Heard, Images, NOT_CONFIDENTIAL};
use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, Result, miette};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Arguments of `consilium lab`.
#[derive(Debug, Args)]
pub(super) struct LabArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Draw a random encoder, as published, into a key file
    ///
    /// Sizes are public. The numbers are what a hospital would have kept: KEY is readable by you alone and never
    /// replaced. It is a safetensors file, which PyTorch reads, with the names that its BatchNorm2d has.
    Keygen(keygen::KeygenArgs),
    /// Encode images, and attack the encodings with these very images
    ///
    /// Encodings come in a random order, the patches of each in one of its own, as published. FILE is a safetensors file
    /// with the encodings, the labels and, always, the share of images that the attack found, of how many, and what a
    /// guess would find. Fewer than 16 images have no such figure and are not encoded.
    ///
    /// With `--norm batch`, as published, an encoding depends on the images in its batch; with `--norm folded` it does
    /// not, and is found as easily.
    Encode(encode::EncodeArgs),
    /// Find out which encoding is whose, from candidates for the images
    ///
    /// The attacker knows the sizes of the encoder and has the images, in any order; no key. Nothing is trained: the
    /// shuffle of patches is undone by the vectors of their positions, images are matched by their distances from each
    /// other, which random networks nearly keep, and then by the distances of their patches.
    ///
    /// With `--truth`, which only the hospital has, it is said how often that was right.
    Attack(attack::AttackArgs),
    /// Attack encoders of several depths and widths, with more and fewer encoders of one's own
    ///
    /// Each is drawn anew, encodes the first images of the file in batches of 64 and is attacked with them.
    Sweep(sweep::SweepArgs),
    /// Train one classifier on the encodings of several hospitals
    ///
    /// What the encodings were for: a small transformer, trained on all of them with their labels and tested with those of
    /// all and of each hospital, beside the same one trained on each hospital's alone, and on plain images where you give
    /// some. Classes are dealt equally often.
    ///
    /// Without `--test` a part of each file is set aside to test with; with `--norm batch` those rows were normalised
    /// together with rows that are trained on, so test with encodings that were made apart.
    ///
    /// Not comparable: plain images are tested with their own rows, whatever file they are from. Passes over the rows are
    /// as many for all, so the classifier of all hospitals takes more steps than those of one. An image that two hospitals
    /// have, or that is in a file to test with as well, is tested with after it was trained on; nothing here notices.
    Train(train::TrainArgs),
    /// Send encodings to another hospital, where the roster says `lab = true`
    ///
    /// Both nodes go by their own roster: without a task of kind "encodings" that says `lab = true`, nothing is sent and
    /// nothing is taken. FILE goes through this node, which must run.
    Send(send::SendArgs),
    /// List the encodings that other hospitals sent to this node
    Received(received::ReceivedArgs),
}

pub(crate) fn run(args: &LabArgs) -> Result<()> {
    match &args.what {
        What::Keygen(args) => keygen::run(args),
        What::Encode(args) => encode::run(args),
        What::Attack(args) => attack::run(args),
        What::Sweep(args) => sweep::run(args),
        What::Train(args) => train::run(args),
        What::Send(args) => send::run(args),
        What::Received(args) => received::run(args),
    }
}

/// Which images of a file.
#[derive(Clone, Debug, Args)]
struct ImagesArgs {
    /// Leave out so many images at the start
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    /// Take so many images; all that are left if absent
    #[arg(long, value_name = "N")]
    take: Option<usize>,
}

impl ImagesArgs {
    /// The images that are meant.
    fn of(&self, images: &Images) -> Result<Images> {
        let all = images.count();
        let end = self.take.map_or(all, |take| self.skip.saturating_add(take));
        if self.skip >= end || end > all {
            return Err(miette!(
                "the file has {all} images; --skip {} and --take {} leave none, or more than it has",
                self.skip,
                self.take.map_or("all".to_owned(), |take| take.to_string())
            ));
        }
        Ok(images.select(&(self.skip..end).collect::<Vec<_>>()))
    }
}

/// Does a work under a bar. The seconds that it took come with what it gave.
fn watched<T>(json: bool, what: &str, work: impl FnOnce(Heard<'_>) -> T) -> (T, f64) {
    let bar = Progress::new(!json).bar(what, 1);
    let started = Instant::now();
    let result = work(&mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    (result, started.elapsed().as_secs_f64())
}

/// Says what nobody may overlook.
fn warn(figure: Option<&Figure>) {
    if let Some(figure) = figure {
        println!("{figure}");
    }
    println!("{NOT_CONFIDENTIAL}");
}

fn images(path: &Path, labels: Option<&PathBuf>) -> Result<Images> {
    Images::read(path, labels.map(PathBuf::as_path)).into_diagnostic()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::datasets::digits;
    use clap::Parser;

    fn call(words: &str, at: &dyn Fn(&str) -> String) -> std::result::Result<(), String> {
        // Names of files stand behind an @.
        let words = words.split(' ').map(|word| word.strip_prefix('@').map_or_else(|| word.to_owned(), at));
        let words = ["consilium".to_owned(), "lab".to_owned()].into_iter().chain(words);
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Lab(args) = cli.command else { panic!("another command") };
        run(&args).map_err(|error| format!("{error:?}"))
    }

    /// The digits that travel with the program, as IDX files.
    fn files(folder: &std::path::Path, count: usize) {
        let table = digits();
        let heading = |sizes: &[u32]| -> Vec<u8> {
            let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
            [0, 0, 8, sizes.clone().count() as u8 / 4].into_iter().chain(sizes).collect()
        };
        let mut images = heading(&[count as u32, 8, 8]);
        images.extend(table.inputs[..count * 64].iter().map(|cell| (cell * 15.9) as u8));
        std::fs::write(folder.join("images"), images).unwrap();
        let mut labels = heading(&[count as u32]);
        labels.extend(&table.labels[..count]);
        std::fs::write(folder.join("labels"), labels).unwrap();
    }

    #[test]
    fn a_key_an_encoding_and_its_attack() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let call = |words: &str| call(words, &at);
        files(folder.path(), 120);
        call("keygen @key --side 8 --patch 2 --width 64 --private-depth 0 --calibrate @images").unwrap();
        assert!(call("keygen @key --side 8 --patch 2").unwrap_err().contains("is not replaced"));
        assert!(call("keygen @other --side 8 --patch 3").unwrap_err().contains("do not fill"));
        for norm in ["batch", "folded"] {
            call(&format!("encode @images --labels @labels --key @key --norm {norm} --take 100 --out @e --truth @t.{norm}"))
                .unwrap();
            let attack = format!("attack @e --candidates @images --take 100 --truth @t.{norm}");
            call(&format!("{attack} --pairs @pairs")).unwrap();
            call(&format!("{attack} --own 0 --json")).unwrap();
        }
        let pairs = std::fs::read_to_string(at("pairs")).unwrap();
        let truth = crate::lab::read_truth(&folder.path().join("t.folded")).unwrap();
        let (said, pairs): (Vec<&str>, Vec<&str>) = pairs.lines().partition(|line| line.starts_with('#'));
        assert!(said[0].contains("NOT confidential") && said[1].contains("of 100 images found"), "{said:?}");
        let right = pairs.iter().skip(1).filter(|line| {
            let (encoding, candidate) = line.split_once(',').unwrap();
            truth.images()[encoding.parse::<usize>().unwrap()] == candidate.parse::<usize>().unwrap()
        });
        assert!(right.count() >= 90, "{pairs:?}");
        let foreign = "attack @e --candidates @images --skip 20 --truth @t.folded";
        assert!(call(foreign).unwrap_err().contains("about other images"));
        assert!(call("attack @e --candidates @images").unwrap_err().contains("120 candidates for 100"));
        assert!(
            call("encode @images --key @key --out @e --truth @t.batch")
                .unwrap_err()
                .contains("is not replaced")
        );
        assert!(
            call("encode @images --key @key --out @few --take 15")
                .unwrap_err()
                .contains("no encoding is written")
        );
        assert!(!folder.path().join("few").exists());
        assert!(call("encode @images --key @key --out @images").unwrap_err().contains("no set of encodings"));
        for hospital in ["a", "b"] {
            call(&format!("encode @images --labels @labels --key @key --out @{hospital} --json")).unwrap();
        }
        call("train @a @b --seeds 1 --epochs 1 --plain @images --plain-labels @labels --out @model").unwrap();
        call("train @a @b --test @b @a --seeds 1 --epochs 1 --plain @images --plain-labels @labels --json")
            .unwrap();
        assert!(call("train @a @b --test @b").unwrap_err().contains("one for each"));
        assert!(call("train @a --test @b --held-out 0.5").unwrap_err().contains("cannot be used with"));
        // Labels that the plain images alone have, all of them new.
        let mut labels = std::fs::read(folder.path().join("labels")).unwrap();
        labels[8..].iter_mut().for_each(|label| *label += 10);
        std::fs::write(folder.path().join("others"), labels).unwrap();
        call("train @a --seeds 1 --epochs 1 --plain @images --plain-labels @others").unwrap();
        call("encode @images --key @key --out @b").unwrap();
        assert!(call("train @a @b").unwrap_err().contains("no labels"));
        call("sweep @images --patch 2 --widths 32,48 --private-depths 0,1 --own 0,2 --svg @plot").unwrap();
        assert!(std::fs::read_to_string(at("plot")).unwrap().contains("NOT confidential"));
        assert!(call("encode @images --key @key --out @e --skip 120").unwrap_err().contains("120 images"));
    }
}
