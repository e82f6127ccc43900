//! Where versions and jitter come from.

use crate::protocol::Version;

/// The operating system, asked anew each time: the state of a generator in this process could be
/// cloned with it (a VM snapshot, a fork), and two holders would then write the same versions.
#[derive(Debug)]
pub(crate) enum Entropy {
    System,
    /// A fixed sequence, so that a simulated run can be repeated byte by byte.
    #[cfg(feature = "test-util")]
    Seeded(std::sync::atomic::AtomicU64),
}

impl Entropy {
    /// A version that has never been used: a random UUID.
    ///
    /// `None` if the operating system gives no randomness; then nothing may be written.
    pub(crate) fn version(&self) -> Option<Version> {
        let bytes = self.bytes()?;
        Some(Version::new(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()))
    }

    /// Eight hexadecimal digits that tell two owners on one machine apart.
    pub(crate) fn suffix(&self) -> Option<String> {
        self.bytes().map(|[a, b, c, d, ..]| format!("{a:02x}{b:02x}{c:02x}{d:02x}"))
    }

    /// A number in `0.0..1.0` that scatters retries. Without randomness they are merely not scattered.
    pub(crate) fn spread(&self) -> f64 {
        self.bytes().map_or(0.5, |[a, b, ..]| f64::from(u16::from_be_bytes([a, b])) / 65_536.0)
    }

    fn bytes(&self) -> Option<[u8; 16]> {
        match self {
            Self::System => {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).ok().map(|()| bytes)
            }
            #[cfg(feature = "test-util")]
            Self::Seeded(state) => {
                let (high, low) = (split_mix(state), split_mix(state));
                Some(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
            }
        }
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): good enough to make simulated versions differ.
#[cfg(feature = "test-util")]
fn split_mix(state: &std::sync::atomic::AtomicU64) -> u64 {
    const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
    let next = state.fetch_add(GAMMA, std::sync::atomic::Ordering::Relaxed).wrapping_add(GAMMA);
    let mixed = (next ^ (next >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
