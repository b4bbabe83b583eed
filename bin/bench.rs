//! `raftkv-bench`: see [`raftkv::bench`].

fn main() -> std::process::ExitCode {
    raftkv::bench::run()
}
