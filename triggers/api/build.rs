//! Nothing to build. Cargo allows `links` only to a package with a build script: see `Cargo.toml`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
