//! The evidence, one command for each figure: `cargo run --release -p dynamo-elector-sim -- --help`.

fn main() -> std::process::ExitCode {
    dynamo_elector_sim::cli::main()
}
