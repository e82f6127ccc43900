# What must hold, as far as minutes tell, read-only; `.ci/run` is all of it.
verify:
    cargo fmt --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    cargo clippy -p dynamo-elector --no-default-features -- -D warnings
    cargo test --workspace
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features

# Repairs what can be repaired.
fix:
    cargo fmt
    cargo clippy --fix --allow-dirty --all-targets --all-features

# The main job on the embedded engine.
demo:
    cargo run --example singleton_scheduler

# Beside the Go client's captured requests, the Java client for real (needs Java and Maven), and INTEROP_PEER.
interop:
    .ci/interop

# Many locks on one client in real time. `just load 1000 60 --release` for a thousand.
load LOCKS="200" SECONDS="60" *FLAGS:
    LOAD_LOCKS={{LOCKS}} LOAD_SECONDS={{SECONDS}} cargo test {{FLAGS}} --test real_time -- load --include-ignored --nocapture

# What the crate relies on of DynamoDB, asked of one engine: embedded, http, ministack or aws.
conformance ENGINE:
    CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}" .ci/conformance {{ENGINE}}

# Dashboard and alerts against a real Prometheus, which Debian's package brings where it is missing.
observability:
    CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}" .ci/observability

# The fuzz targets (durations, records, errors, settings, events) for so many seconds each, guided by coverage.
fuzz SECONDS="60":
    .ci/fuzz {{SECONDS}}

# Elections under swarms of faults, until so many hours of default timing are simulated.
sim HOURS="1000" *FLAGS:
    cargo run --release -p dynamo-elector-sim -- sim {{HOURS}} {{FLAGS}}

# One simulated election, with everything that happens in it.
sim-one SEED:
    cargo run --release -p dynamo-elector-sim -- one {{SEED}}

# Clocks as far off as the profiles bear, and further.
tolerance:
    cargo run --release -p dynamo-elector-sim -- tolerance

# Needless step-downs in a lossy network, beside what other clients do.
loss HOURS="1000":
    cargo run --release -p dynamo-elector-sim -- loss {{HOURS}}

# Requests per second of many followers around an outage of an hour.
storm FOLLOWERS="200":
    cargo run --release -p dynamo-elector-sim -- storm {{FOLLOWERS}}

# What steps of the core take, validity, and a heartbeat beyond the SDK, on a quiet machine; fails if `is_valid` takes more than 1.5 clock reads or does not scale, or a heartbeat or a read more than 5 µs of ours.
bench-core *FLAGS:
    cargo bench -p dynamo-elector-sim --bench steps -- {{FLAGS}}
    cargo bench -p dynamo-elector --bench core -- {{FLAGS}}

# Instructions of the same within their limits, counted by Valgrind, which Debian's package brings where it is missing.
counts:
    CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}" .ci/counts

# Every interleaving within bounds that take some minutes.
model:
    cargo run --release -p dynamo-elector-sim -- model

# Each rule and margin broken on purpose: in the simulator and the model check, and by patches of the real crate.
mutants *NAMES:
    cargo run --release -p dynamo-elector-sim -- mutants
    .ci/mutants {{NAMES}}

# Every small change of the protocol and the timing must fail a table. Twenty minutes.
cargo-mutants *FLAGS:
    .ci/cargo-mutants {{FLAGS}}

# The real elector and the real SDK in virtual time, under faults from so many seeds.
faults SEEDS="50":
    L2_SEEDS={{SEEDS}} cargo test --test behaviour -- faults::random::no_seed --nocapture

# Real processes in real time, killed, stopped, cut off, slowed and starved for so many minutes: CHAOS_SEED repeats the faults, CHAOS_OUT gets the report.
chaos MINUTES="3":
    CHAOS_MINUTES={{MINUTES}} cargo test --test real_time -- --exact chaos::replicas_that_are_killed_stopped_cut_off_and_starved_never_lead_at_once --include-ignored --nocapture

# Beside other lock clients, and docs/benchmarks.md from it: see bench/README.md. `just bench --quick --out /tmp/bench` for a smoke run.
bench *FLAGS:
    .ci/bench {{FLAGS}}
