# Everything that must hold, read-only.
verify:
    cargo fmt --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    cargo clippy --no-default-features -- -D warnings
    cargo test
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features

# Repairs what can be repaired.
fix:
    cargo fmt
    cargo clippy --fix --allow-dirty --all-targets --all-features

# The main job on the embedded engine.
demo:
    cargo run --example singleton_scheduler
