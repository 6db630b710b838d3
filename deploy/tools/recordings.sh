#!/bin/sh
# Renders tts/recordings/sentences.txt with flite: one file of µ-law sound a line.
set -eu
cd "$(dirname "$0")/../../tts/recordings"
rm -rf audio && mkdir audio
wav=$(mktemp --suffix=.wav)
trap 'rm -f "$wav"' EXIT
n=0
while IFS= read -r phrase; do
	n=$((n + 1))
	flite -voice rms -t "$phrase" -o "$wav"
	sox "$wav" -r 8000 -c 1 -e mu-law -b 8 -t raw "audio/$n.ulaw" silence 1 0.02 0.3% reverse silence 1 0.05 0.3% reverse pad 0.02 0.08
done <sentences.txt
echo "$n recordings, $(du -sh audio | cut -f1)"
