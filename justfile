# `just` lists what can be done here.
_default:
    @just --list

# Build everything.
build:
    cargo build --workspace --all-targets

# The everyday suites.
test:
    cargo test --workspace

# The suites that take minutes: thousands of users, many kills, memory, rates.
slow:
    cargo test -p rehome-tests --features slow

# Breaks the engine and the journal on purpose: the suites have to notice. `--suite NAME` narrows.
mutants *arguments:
    tests/mutants/run {{arguments}}

# Whole migrations from seeds, in one thread each and virtual time; prints what happened in them.
simulate count="10000" first="0":
    REHOME_SEEDS={{count}} REHOME_FIRST_SEED={{first}} cargo test --release -p rehome-tests --test simulation nothing_twice -- --nocapture

# The real wrangler against the emulator, and rehome against the real D1 engine.
conformance-d1:
    .ci/run conformance-d1

# Format, house rules, walls between the crates.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# The documentation of every crate.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace

# Every parser of what others write, fuzzed for so many seconds each, or only the named ones.
fuzz seconds="60" *names:
    tests/fuzz/run {{seconds}} {{names}}

# Clerk's own SDK and API description judge the emulator.
judges:
    .ci/run judges

# A whole migration in a temporary folder: no keys, no network.
demo:
    cargo run --bin rehome -- demo

# A migration of something else on the core alone; crash it with `--crash-after N`.
example folder="target/library" *arguments:
    cargo run -p rehome-core --example library_loans -- {{folder}} {{arguments}}

# All that is checked before a change is believed.
ci:
    .ci/run
