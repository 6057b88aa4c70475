//! Writes the constants of the calibration:
//! `cargo run --release -p tapio-models --example calibrate > models/src/calibration/constants.rs`.

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    print!("{}", tapio_models::calibration::fit(None, threads).source());
}
