//! `raftkv-client`: see [`raftkv::client`].

fn main() -> std::process::ExitCode {
    raftkv::client::run()
}
