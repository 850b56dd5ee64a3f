#!/usr/bin/env bash
# Builds the aarch64 release for a Raspberry Pi (64-bit Raspberry Pi OS bookworm or later) on a Debian 12 PC.
#
#   board/build-aarch64.sh                the stripped release with the speech engine "whisper"; prints where it lies
#   board/build-aarch64.sh --no-whisper   without it: needs neither cmake nor a C++ compiler
#   board/build-aarch64.sh --test         runs the test suite as aarch64 under qemu-user, without it
#
# The program runs on every 64-bit Raspberry Pi. A Pi 5 transcribes faster with instructions that a Pi 4 does not have:
# GGML_CPU_ARM_ARCH=armv8.2-a+dotprod+fp16 board/build-aarch64.sh makes a program for the Pi 5 alone.
#
# What is missing is installed when it runs as root; otherwise it says what to install. The aarch64 standard library is
# the rustup target's where that is installed (rustup target add aarch64-unknown-linux-gnu); else Debian's own compiler
# for web browsers, rustc-web, is unpacked below target/ and used: nothing else on the PC changes, not even apt's lists.
set -euo pipefail
cd "$(dirname "$0")/.."

TARGET=aarch64-unknown-linux-gnu
OUT=target/aarch64
DEBIAN_RUST=$PWD/target/debian-rust

main() {
    case "${1:-}" in
        "") build whisper ;;
        --no-whisper) build release ;;
        --test) build test ;;
        *) sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
}

build() { # whisper | release | test
    need cc gcc libc6-dev
    need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    if ! command -v cargo >/dev/null; then need cargo cargo-web; fi
    if ! rustup_target_is_installed; then use_debian_rust; fi
    if [ "$1" = test ]; then
        need qemu-aarch64-static qemu-user-static
        # Unoptimised code is slow under qemu.
        CARGO_PROFILE_DEV_OPT_LEVEL=1 cargo test --locked --target "$TARGET" --target-dir "$OUT"
        return
    fi
    local features=() folder=$OUT
    if [ "$1" = whisper ]; then
        need cmake cmake make
        need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
        features=(--features whisper)
        # What whisper.cpp was built for is not looked at again by cargo: each kind of processor has its own folder.
        if [ -n "${GGML_CPU_ARM_ARCH:-}" ]; then folder=$OUT-$GGML_CPU_ARM_ARCH; fi
    fi
    cargo build --locked --release "${features[@]}" --target "$TARGET" --target-dir "$folder"
    report "$folder/$TARGET/release/kolbox"
}

need() { # command, then the packages that bring it
    local command=$1
    shift
    if command -v "$command" >/dev/null; then return; fi
    if [ "$(id -u)" != 0 ]; then
        echo "$command is missing. As root: apt-get install --no-install-recommends $*" >&2
        exit 1
    fi
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

rustup_target_is_installed() {
    local folder
    folder=$(rustc --print target-libdir --target "$TARGET" 2>/dev/null) && compgen -G "$folder/libstd-*.rlib" >/dev/null
}

# rustc-web and both its standard libraries, of one version (else: error E0514), in a folder of their own.
use_debian_rust() {
    if [ ! -e "$DEBIAN_RUST/complete" ]; then fetch_debian_rust; fi
    export RUSTC=$DEBIAN_RUST/bin/rustc RUSTDOC=$DEBIAN_RUST/bin/rustdoc
    echo "Using Debian's $("$RUSTC" --version)"
}

fetch_debian_rust() {
    need apt-get apt
    rm -rf "$DEBIAN_RUST"
    mkdir -p "$DEBIAN_RUST"/{bin,root,packages/lists/partial,packages/cache/archives/partial}
    local apt=(-o "Dir::State::Lists=$DEBIAN_RUST/packages/lists" -o "Dir::Cache=$DEBIAN_RUST/packages/cache"
        -o APT::Architectures::=amd64 -o APT::Architectures::=arm64 -o Debug::NoLocking=1)
    # A third party's list that cannot be read does not matter here; a package that is missing is noticed below.
    apt-get "${apt[@]}" update || true

    local version
    version=$(apt-cache "${apt[@]}" policy rustc-web | awk '/Candidate:/ { print $2 }')
    if [ -z "$version" ] || dpkg --compare-versions "$version" lt "$(wanted_rust)"; then
        echo "Debian's rustc-web is ${version:-not to be had}; $(wanted_rust) is needed (its security updates must be on)." >&2
        echo "Or install the rustup target: rustup target add $TARGET" >&2
        exit 1
    fi
    local libraries
    mapfile -t libraries < <(libraries_of libstd-rust-web-dev | grep -Ev '^(libc6|libgcc-s1|libstdc\+\+6|.*-dev)$')
    (
        cd "$DEBIAN_RUST/packages"
        apt-get "${apt[@]}" download "rustc-web=$version" "libstd-rust-web-dev=$version" "libstd-rust-web-dev:arm64=$version" "${libraries[@]}"
        for package in *.deb; do dpkg-deb -x "$package" ../root; done
    )
    for tool in rustc rustdoc; do
        printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' \
            "$DEBIAN_RUST/root/usr/lib/x86_64-linux-gnu" "$DEBIAN_RUST/root/usr/bin/$tool" > "$DEBIAN_RUST/bin/$tool"
        chmod +x "$DEBIAN_RUST/bin/$tool"
    done
    rm -rf "$DEBIAN_RUST/packages"
    touch "$DEBIAN_RUST/complete"
}

# The compiler's shared libraries, and those that they need.
libraries_of() {
    apt-cache "${apt[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "$1" | grep -E '^lib[a-z0-9.+-]*$' | sort -u
}

wanted_rust() {
    sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml
}

report() { # binary
    local machine glibc
    machine=$(aarch64-linux-gnu-readelf -h "$1" | awk '/Machine:/ { print $2 }')
    if [ "$machine" != AArch64 ]; then
        echo "$1 is for another machine: ${machine:-none}" >&2
        exit 1
    fi
    glibc=$(aarch64-linux-gnu-objdump -T "$1" | grep -o 'GLIBC_2\.[0-9]*' | sort -Vu | tail -n 1)
    echo "$1: $(stat -c %s "$1") bytes, aarch64, needs ${glibc/_/ }"
}

main "$@"
