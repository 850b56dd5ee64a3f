#!/usr/bin/env bash
# Makes the built-in prompts (static/tts) and the callers' speech of the demo and the tests (static/speech).
#
#   apt-get install espeak-ng sox libsox-fmt-mp3 && static/tts/make.sh
#
# The files are kept in the repository; run this only to change a text. Everything is telephone sound: 8 kHz, mono,
# within 300-3400 Hz, about -19 LUFS, so that prompts are as loud as the people on the line.
#
# espeak-ng leaves the vowels out of Hebrew, and vowel points make it worse: the sentences are given as phonemes. They
# are intelligible at best. An office puts a person's voice, under the same file names, into the prompts directory.
#
# Beside each prompt lies a .txt with what Twilio's own voice says (<Say>) when the file cannot be fetched. The fallback
# prompt ends with a tone that <Say> does not have, so its text asks to speak now, not after the tone: a caller who
# waits for a tone that never comes would be taken for one who has nothing to say.
set -euo pipefail
cd "$(dirname "$0")"

SPEECH=../speech
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
LOUDNESS=-19

hebrew() { # file, phonemes of one sentence each; punctuation inside [[...]] would not be heard, a stop after it is a pause
    local file=$1 text="" sentence
    shift
    for sentence in "$@"; do text+="[[$sentence]]. "; done
    espeak-ng -v he+m3 -s 122 -w "$file" "$text"
}

english() { # file, text
    espeak-ng -v en-us+f3 -s 150 -w "$1" "$2"
}

# Telephone band, silence at both ends cut to what is asked for, pauses inside to 0.25 s, and the loudness of ITU-R BS.1770 with its filter
# approximated by a high-pass and a shelf, measured over the parts that are not silent.
telephone() { # in, out.wav, seconds of silence before, and after
    sox -D "$1" "$WORK/band.wav" gain -6 rate -v 8000 sinc -n 255 300-3400 \
        silence 1 0.01 -50d reverse silence 1 0.01 -50d reverse silence -l 1 0.01 -50d -1 0.25 -50d
    local power gain
    power=$(sox -D "$WORK/band.wav" -n highpass 38 treble +4 1681 0.7q silence -l 1 0.01 -45d -1 0.05 -45d stats 2>&1 | awk '/^RMS lev dB/ { print $4 }')
    gain=$(awk -v target="$LOUDNESS" -v power="$power" 'BEGIN { printf "%.2f", target - (power - 0.691) }')
    sox -D "$WORK/band.wav" -b 16 "$2" gain -l "$gain" pad "$3" "$4"
}

# MPEG-2.5 layer III, 8 kHz: what <Play> fetches.
prompt() { # name, in.wav, text for <Say>
    sox -D "$2" -r 8000 -c 1 -C 32 "$1.mp3"
    printf '%s\n' "$3" > "$1.txt"
    printf '%-16s %5.2f s\n' "$1" "$(soxi -D "$1.mp3")"
}

caller() { # name, in.wav, text
    cp "$2" "$SPEECH/$1.wav"
    printf '%s\n' "$3" > "$SPEECH/$1.txt"
    printf '%-16s %5.2f s\n' "$1" "$(soxi -D "$SPEECH/$1.wav")"
}

# The greeting stays under 6 s: every second of it is one in which nobody can know that the stream does not come.
hebrew "$WORK/raw.wav" "Sal'om" "hasiX'a mukl'etet" "'ana dabR'u aXaR'ej hatsl'il"
telephone "$WORK/raw.wav" "$WORK/greeting.wav" 0.2 0.1
prompt greeting_he "$WORK/greeting.wav" "שלום. השיחה מוקלטת. אנא דברו אחרי הצליל."

# 1000 Hz, not 425 Hz: that is the dial and busy tone in Israel, which callers and detectors take for a hang-up.
hebrew "$WORK/raw.wav" "kaR'ega ejn'enu jeXol'im la?an'ot" "'ana haS?'iRu hoda?'a aXaR'ej hatsl'il"
telephone "$WORK/raw.wav" "$WORK/spoken.wav" 0.2 0.3
sox -D -n -r 8000 -b 16 -c 1 "$WORK/tone.wav" synth 0.4 sine 1000 fade t 0.01 0.4 0.01 gain -16
sox -D "$WORK/spoken.wav" "$WORK/tone.wav" "$WORK/fallback.wav"
prompt fallback_he "$WORK/fallback.wav" "כרגע איננו יכולים לענות. אנא השאירו הודעה עכשיו."

hebrew "$WORK/raw.wav" "lo Sam'anu hoda?'a" "'ana hitkaSR'u S'uv" "lehitRa?'ot"
telephone "$WORK/raw.wav" "$WORK/no_message.wav" 0.2 0.2
prompt no_message_he "$WORK/no_message.wav" "לא שמענו הודעה. אנא התקשרו שוב. להתראות."

hebrew "$WORK/raw.wav" "tod'a" "hahoda?'a hitkabl'a venaXz'oR alejX'em bahekd'em" "lehitRa?'ot"
telephone "$WORK/raw.wav" "$WORK/goodbye.wav" 0.2 0.2
prompt goodbye_he "$WORK/goodbye.wav" "תודה. ההודעה התקבלה, ונחזור אליכם בהקדם. להתראות."

hebrew "$WORK/raw.wav" "Sal'om medab'eR dav'id koh'en" "'ani Rots'e likb'o?a pgiS'a lej'om SliS'i" "bevakaS'a tXazR'u el'aj"
telephone "$WORK/raw.wav" "$WORK/he.wav" 0.3 0.3
caller caller_he "$WORK/he.wav" "שלום, מדבר דוד כהן. אני רוצה לקבוע פגישה ליום שלישי. בבקשה תחזרו אליי."

text="Good morning, this is Sarah Miller. I would like to move my appointment from Monday to Thursday. Please call me back."
english "$WORK/raw.wav" "$text"
telephone "$WORK/raw.wav" "$WORK/en.wav" 0.3 0.3
caller caller_en "$WORK/en.wav" "$text"
